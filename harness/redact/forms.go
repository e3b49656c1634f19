package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"html"
	"net/url"
	"strings"
)

// Kind is a form that a secret can take.
type Kind string

// The kinds.
const (
	Plain Kind = "plain text"
	// URL is escaped as in a query, in a path, or with every reserved character.
	URL Kind = "URL-encoded"
	// JSON is as in a JSON string, also one within others: a log line in a report of a report.
	JSON Kind = "JSON-escaped"
	// XML is escaped as in XML and HTML.
	XML Kind = "XML-escaped"
	// Base64 has either alphabet, with padding or without, also where the secret stands within a longer encoded text.
	Base64 Kind = "base64"
	Hex    Kind = "hex"
)

// maxNested is how deep JSON in a string of JSON is looked through: Ginkgo's report holds an entry's text three deep.
const maxNested = 3

// forms are the spellings under which a secret is looked for, by what they are; none where it is TooShort. Of a secret of
// several lines each line counts as well: formats indent, prefix and wrap them.
func forms(secret string) map[string]Kind {
	all := map[string]Kind{}
	addForms(all, secret)
	if strings.Contains(secret, "\n") {
		for line := range strings.Lines(secret) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") { // PEM's are the same in all
				addForms(all, line)
			}
		}
	}
	return all
}

func addForms(all map[string]Kind, secret string) {
	if TooShort(secret) {
		return
	}
	add := func(kind Kind, texts ...string) {
		for _, text := range texts {
			if _, known := all[text]; !known {
				all[text] = kind
			}
		}
	}
	add(Plain, secret)
	for _, escaped := range []string{
		url.QueryEscape(secret), url.PathEscape(secret), strings.ReplaceAll(url.QueryEscape(secret), "+", "%20"),
	} {
		add(URL, escaped, lowerEscapes(escaped))
	}
	for _, escapeHTML := range []bool{true, false} {
		nested := secret
		for range maxNested {
			nested = inJSON(nested, escapeHTML)
			add(JSON, nested)
		}
	}
	var inXML bytes.Buffer
	_ = xml.EscapeText(&inXML, []byte(secret)) // to memory
	add(XML, inXML.String(), html.EscapeString(secret), strings.ReplaceAll(html.EscapeString(secret), "+", "&#43;"))
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		whole := enc.EncodeToString([]byte(secret))
		add(Base64, whole, strings.TrimRight(whole, "="))
		// Inside a longer text the secret starts at offset 0, 1 or 2 of a group of three bytes; what is looked for are the
		// characters that depend on the secret alone.
		for offset := range 3 {
			shifted := enc.EncodeToString(append(make([]byte, offset), secret...))
			first := (offset*8 + 5) / 6
			last := (offset + len(secret)) * 8 / 6
			add(Base64, shifted[first:last])
		}
	}
	add(Hex, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))))
}

// inJSON is a text as it stands between the quotes of a JSON string.
func inJSON(text string, escapeHTML bool) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(escapeHTML)
	if encoder.Encode(text) != nil { // a string always encodes
		return text
	}
	return strings.TrimSuffix(b.String()[1:], "\"\n")
}

// lowerEscapes is a URL-encoded text with its escapes in lower case: %2f for %2F.
func lowerEscapes(escaped string) string {
	b := []byte(escaped)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], bytes.ToLower(b[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}
