package mutants

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// There is no way back from go-jmespath's syntax tree to a text. So JMESPath is changed token by token, in place.

// templates are where JMESPath is in a text of a ClusterPolicy.
var templates = regexp.MustCompile(`\{\{.*?\}\}`)

// tokens are texts, numbers, operators and paths of JMESPath, as far as they matter here.
var tokens = regexp.MustCompile("'[^']*'|`[^`]*`|\"[^\"]*\"|&&|\\|\\||==|!=|<=|>=|[A-Za-z_][A-Za-z0-9_]*(?:\\.[A-Za-z_][A-Za-z0-9_]*)*|.")

var (
	operatorTokens = map[string]struct {
		other    string
		operator Operator
	}{"==": {"!=", Negate}, "!=": {"==", Negate}, "&&": {"||", DropCondition}, "||": {"&&", DropCondition}, "<": {"<=", Bound}, "<=": {"<", Bound}, ">": {">=", Bound}, ">=": {">", Bound}}
	swappedPaths = map[string]string{"request.namespace": "request.object.metadata.name", "request.object.metadata.name": "request.namespace"}
)

// jmesMutants are all changes of the JMESPath in a text: all of it, or what is in {{ }}.
func jmesMutants(text string, whole bool) (changes []change) {
	parts := templates.FindAllStringIndex(text, -1)
	if whole {
		parts = [][]int{{0, len(text)}}
	}
	for _, part := range parts {
		all := tokens.FindAllStringIndex(text[part[0]:part[1]], -1)
		words := make([]string, 0, len(all))
		for _, at := range all {
			words = append(words, text[part[0]+at[0]:part[0]+at[1]])
		}
		for i, at := range all {
			begin, end := part[0]+at[0], part[0]+at[1]
			replace := func(operator Operator, by string) {
				changes = append(changes, change{operator: operator, offset: utf8.RuneCountInString(text[:begin]), before: words[i], after: by, text: text[:begin] + by + text[end:]})
			}
			word := words[i]
			if o, known := operatorTokens[word]; known {
				replace(o.operator, o.other)
			}
			if other, known := swappedPaths[word]; known {
				replace(Names, other)
			}
			if n, err := strconv.Atoi(strings.Trim(word, "`")); err == nil && strings.HasPrefix(word, "`") {
				replace(Number, "`"+strconv.Itoa(n+1)+"`")
				replace(Number, "`"+strconv.Itoa(n-1)+"`")
			}
			if strings.HasPrefix(word, "'") && followsOr(words[:i]) {
				if word == "''" {
					replace(Default, "'another'")
				} else {
					replace(Default, "''")
				}
			}
		}
	}
	return changes
}

// followsOr says whether what comes next is the default of ||.
func followsOr(words []string) bool {
	for i := len(words) - 1; i >= 0; i-- {
		if strings.TrimSpace(words[i]) != "" {
			return words[i] == "||"
		}
	}
	return false
}
