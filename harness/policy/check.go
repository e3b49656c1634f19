package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Requirements of a policy that are looked at before any spec runs. The first four need no cluster.
const (
	Restores = "policy/restores" // something in it makes ReplicationDestinations
	BacksUp  = "policy/backs-up" // something in it makes ReplicationSources
	Label    = "policy/label"    // it is about PVCs with the label of its contract
	InBucket = "policy/bucket"   // it names the bucket of its contract
	Accepted = "policy/accepted" // the API server and Kyverno take it
	Acts     = "policy/acts"     // a labelled PVC gets something of it
)

var findings = []string{Restores, BacksUp, Label, InBucket, Accepted, Acts}

// IsFinding says whether a requirement is one of those.
func IsFinding(id string) bool { return slices.Contains(findings, id) }

// Finding says that a policy cannot be what is to be tested, before any spec runs.
type Finding struct {
	Requirement string // Restores, BacksUp, …
	Text        string // one line
	Err         error  // what it comes of, if anything
}

func (f *Finding) Error() string {
	return f.Text + " [" + f.Requirement + "]"
}

func (f *Finding) Unwrap() error { return f.Err }

// FindingsIn lists the findings among an error's parts.
func FindingsIn(err error) []*Finding {
	switch err := err.(type) { //nolint:errorlint // its parts are looked at one by one
	case *Finding:
		return []*Finding{err}
	case interface{ Unwrap() []error }:
		var found []*Finding
		for _, part := range err.Unwrap() {
			found = append(found, FindingsIn(part)...)
		}
		return found
	case interface{ Unwrap() error }:
		return FindingsIn(err.Unwrap())
	}
	return nil
}

// inExpression says whether a text of JSON has an expression (CEL or JMESPath) with a label's key in it, as labels.backup or
// labels["backup"] are.
func inExpression(key, text string) bool {
	return regexp.MustCompile(`labels\W{0,4}` + regexp.QuoteMeta(key) + `\b`).MatchString(text)
}

// Check finds what can be said about a policy without trying it. Its error's parts are Findings.
func (p *Policy) Check() error {
	raw, err := json.Marshal(p.Objects)
	if err != nil {
		return err
	}
	text := string(raw)
	var problems []error
	found := func(requirement, format string, args ...any) {
		problems = append(problems, &Finding{Requirement: requirement, Text: fmt.Sprintf("POLICY=%s: "+format, append([]any{p.Path}, args...)...)})
	}
	if !strings.Contains(text, "ReplicationDestination") {
		found(Restores, "nothing in it makes a ReplicationDestination: it can restore nothing; add that rule")
	}
	if !strings.Contains(text, "ReplicationSource") {
		found(BacksUp, "nothing in it makes a ReplicationSource: it can back nothing up; add that rule")
	}
	labels := map[string]bool{}
	for _, object := range p.Kyverno() {
		selectors(object.Object, labels)
	}
	pvc := p.Contract.PVC
	wanted := pvc.Label + "=" + pvc.Value
	if !selected(labels, wanted) && !selected(labels, pvc.Label) && !inExpression(pvc.Label, text) {
		named := "its selectors name no label"
		if len(labels) > 0 {
			named = "its selectors name " + strings.Join(slices.Sorted(maps.Keys(labels)), ", ")
		}
		found(Label, "it is for other PVCs than those labelled %s: %s%s", wanted, named, p.orSay("pvc.label"))
	}
	if bucket := p.Contract.S3.Bucket; !p.names(bucket) {
		found(InBucket, "it nowhere names the bucket %s%s", bucket, p.orSay("s3.bucket"))
	}
	return errors.Join(problems...)
}

// orSay tells somebody whose policy has no contract that it can say otherwise.
func (p *Policy) orSay(field string) string {
	if p.Contract.doc != nil {
		return ""
	}
	return "; if that is how it is meant, say so in " + contractFile + " (" + field + ")"
}

// selected says whether one of the labels that selectors name is this; * and ? are Kyverno's wildcards.
func selected(labels map[string]bool, label string) bool {
	for pattern := range labels {
		quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		if regexp.MustCompile("^" + quoted + "$").MatchString(label) {
			return true
		}
	}
	return false
}

// selectors collects the labels that label selectors below value name: key=value, or the key alone where an expression
// asks only whether it is there.
func selectors(value any, into map[string]bool) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			selectors(item, into)
		}
	case map[string]any:
		if labels, ok := value["matchLabels"].(map[string]any); ok {
			for key, v := range labels {
				into[fmt.Sprintf("%s=%v", key, v)] = true
			}
		}
		if expressions, ok := value["matchExpressions"].([]any); ok {
			for _, expression := range expressions {
				e, _ := expression.(map[string]any)
				key, values := fmt.Sprint(e["key"]), e["values"]
				list, _ := values.([]any)
				if len(list) == 0 {
					into[key] = true
				}
				for _, v := range list {
					into[fmt.Sprintf("%s=%v", key, v)] = true
				}
			}
		}
		for _, item := range value {
			selectors(item, into)
		}
	}
}
