package subject

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/smart-restore/conformance/harness/strict"
)

// places are the files that templates were read from, for positions: a help, so what cannot be read has none.
type places struct{ files []file }

type file struct {
	name      string
	text      string
	documents []*yaml.Node // mappings
}

func placesIn(names []string) (p places) {
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		f := file{name: name, text: string(raw)}
		for decoder := yaml.NewDecoder(bytes.NewReader(raw)); ; {
			var document yaml.Node
			if decoder.Decode(&document) != nil {
				break
			}
			if len(document.Content) == 1 && document.Content[0].Kind == yaml.MappingNode {
				f.documents = append(f.documents, document.Content[0])
			}
		}
		p.files = append(p.files, f)
	}
	return p
}

// ofText is where a text stands first, as file:line:column and a colon; empty: nowhere.
func (p places) ofText(text string) string {
	for _, f := range p.files {
		for i, line := range strings.Split(f.text, "\n") {
			if at := strings.Index(line, text); at >= 0 && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				return fmt.Sprintf("%s:%d:%d: ", f.name, i+1, at+1)
			}
		}
	}
	return p.start()
}

// of is where an object is, or the field of it, as far as its file has it. A kustomization may have given it another name.
func (p places) of(object map[string]any, path ...any) string {
	metadata, _ := object["metadata"].(map[string]any)
	name := fmt.Sprint(metadata["name"])
	for _, exact := range []bool{true, false} {
		for _, f := range p.files {
			for _, document := range f.documents {
				kind, _ := strict.Find(document, "kind")
				called, _ := strict.Find(document, "metadata", "name")
				if kind.Value != object["kind"] || exact && called.Value != name || !strings.Contains(name, called.Value) {
					continue
				}
				node, _ := strict.Find(document, path...)
				return fmt.Sprintf("%s:%d:%d: ", f.name, node.Line, node.Column)
			}
		}
	}
	return p.start()
}

// start is the beginning of the first file.
func (p places) start() string {
	if len(p.files) == 0 {
		return ""
	}
	return p.files[0].name + ":1:1: "
}
