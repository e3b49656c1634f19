package text

import "strings"

var inMarkdown = strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "`", "'", "[", `\[`, "@", "@\u200b")

// Plain is a text for the middle of a line of Markdown, also in a table's cell: nothing in it is markup, and it mentions
// nobody.
func Plain(s string) string { return inMarkdown.Replace(strings.Join(strings.Fields(s), " ")) }

var inCode = strings.NewReplacer("`", "'", "|", `\|`, "\n", " ")

// Code is a text as code of Markdown, also in a table's cell; a dash where there is none.
func Code(s string) string {
	if s == "" {
		return "–"
	}
	return "`" + inCode.Replace(s) + "`"
}
