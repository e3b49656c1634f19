package policy

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	kustomize "sigs.k8s.io/kustomize/api/types"

	"github.com/smart-restore/conformance/harness/strict"
)

// Document is an object of a policy, or its contract, where it stands in a file.
type Document struct {
	File string
	Root *yaml.Node // a mapping
}

// Text is the text at a path of field names and indices; empty where there is none.
func (d Document) Text(path ...any) string {
	if node, found := strict.Find(d.Root, path...); found {
		return node.Value
	}
	return ""
}

// Kind is the object's.
func (d Document) Kind() string { return d.Text("kind") }

// Name is the object's, as its file has it.
func (d Document) Name() string { return d.Text("metadata", "name") }

// Documents are the objects of the policy at a path as its files have them, and its contract, wherever that says they
// are. They are for positions, which are a help: what cannot be read has none, and whoever loads the policy says why.
func Documents(path string) []Document {
	sources, c, contract, _ := sourcesOf(path)
	w := walk{seen: map[string]bool{}}
	for _, source := range append(sources, templateSources(contract, c)...) {
		w.below(source)
	}
	w.file(contract)
	return w.documents
}

// DocumentOf is the document of an object. A kustomization may give an object another name than its file has: then it is the
// only one of its kind whose name is a part of that.
func DocumentOf(documents []Document, kind, name string) Document {
	var alike []Document
	for _, d := range documents {
		switch {
		case d.Kind() != kind:
		case d.Name() == name:
			return d
		case d.Name() != "" && strings.Contains(name, d.Name()):
			alike = append(alike, d)
		}
	}
	if len(alike) == 1 {
		return alike[0]
	}
	return Document{}
}

// walk collects documents. A file that several kustomizations name is read once.
type walk struct {
	documents      []Document
	kustomizations []Document
	seen           map[string]bool
}

// below reads a manifest, a folder of them, or what a kustomization is made of.
func (w *walk) below(path string) {
	info, err := os.Stat(path)
	if err != nil || w.seen[path] {
		return
	}
	if !info.IsDir() {
		w.file(path)
		return
	}
	w.seen[path] = true
	if file := kustomizationIn(path); file != "" {
		w.kustomizations = append(w.kustomizations, documentsIn(file)...)
		for _, part := range partsOf(file) {
			w.below(filepath.Join(path, filepath.FromSlash(part)))
		}
		return
	}
	files, _ := manifestsIn(path)
	for _, file := range files {
		w.file(file)
	}
}

// partsOf are the files and folders that a kustomization is made of.
func partsOf(file string) []string {
	raw, err := os.ReadFile(file)
	var k kustomize.Kustomization
	if err != nil || k.Unmarshal(raw) != nil {
		return nil
	}
	k.FixKustomization() // what older ones call bases are resources
	return slices.Concat(k.Resources, k.Components)
}

func (w *walk) file(path string) {
	if !w.seen[path] {
		w.seen[path] = true
		w.documents = append(w.documents, documentsIn(path)...)
	}
}

// documentsIn are the mappings in a file, up to what cannot be read.
func documentsIn(path string) (documents []Document) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for decoder := yaml.NewDecoder(bytes.NewReader(raw)); ; {
		var document yaml.Node
		if decoder.Decode(&document) != nil {
			return documents
		}
		if len(document.Content) == 1 && document.Content[0].Kind == yaml.MappingNode {
			documents = append(documents, Document{File: path, Root: document.Content[0]})
		}
	}
}
