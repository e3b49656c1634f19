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

// expressions is what the expressions (CEL or JMESPath) of a policy say of a label's key, as labels.backup or labels["backup"].
type expressions struct {
	named    bool     // they name the key
	compared []string // the values that they compare the label with, by ==
	beside   []string // what stands beside the key: an expression that names a value has it there
}

var (
	equals    = regexp.MustCompile(`^\W{0,8}(?:orValue\(\W*\)\s*)?==\s*\\?["']([^"'\\]+)\\?["']`)
	condition = regexp.MustCompile(`&&|\|\||\\u0026\\u0026|;`)
)

// expressionsOn reads the expressions in a text of JSON.
func expressionsOn(key, text string) (found expressions) {
	const enough = 200 // bytes, for an expression about a label
	for _, at := range regexp.MustCompile(`labels\W{0,4}`+regexp.QuoteMeta(key)+`\b`).FindAllStringIndex(text, -1) {
		found.named = true
		beside := text[at[1]:min(len(text), at[1]+enough)]
		if end := condition.FindStringIndex(beside); end != nil {
			beside = beside[:end[0]]
		}
		if value := equals.FindStringSubmatch(beside); value != nil {
			found.compared = append(found.compared, value[1])
		}
		found.beside = append(found.beside, beside)
	}
	return found
}

// quote says whether a value stands in quotes beside the key.
func (e expressions) quote(value string) bool {
	return slices.ContainsFunc(e.beside, regexp.MustCompile(`["']`+regexp.QuoteMeta(value)+`\\?["']`).MatchString)
}

// otherLabel says which PVCs a policy is about, if they are not those with this label: what its selectors name, or what its
// expressions compare the label with. It is empty where that cannot be told, as of an expression that takes any value.
func otherLabel(pvc PVC, labels map[string]bool, text string) string {
	wanted := pvc.Label + "=" + pvc.Value
	said := expressionsOn(pvc.Label, text)
	switch {
	case selected(labels, wanted), selected(labels, pvc.Label), said.quote(pvc.Value):
		return ""
	case len(labels) == 0 && !said.named:
		return "its selectors name no label"
	}
	selectKey := slices.ContainsFunc(slices.Collect(maps.Keys(labels)), func(label string) bool { return strings.HasPrefix(label, pvc.Label+"=") })
	switch {
	case !selectKey && len(said.compared) > 0:
		slices.Sort(said.compared)
		return fmt.Sprintf("its expressions compare %s with %s", pvc.Label, strings.Join(slices.Compact(said.compared), ", "))
	case !selectKey && said.named:
		return ""
	}
	return "its selectors name " + strings.Join(slices.Sorted(maps.Keys(labels)), ", ")
}

// Check finds what can be said about a policy without trying it. Its error's parts are Findings.
func (p *Policy) Check() error {
	raw, err := json.Marshal(p.Objects)
	if err != nil {
		return err
	}
	templates, err := json.Marshal(p.Templates)
	if err != nil {
		return err
	}
	text := string(raw) + string(templates)
	var problems []error
	found := func(requirement, format string, args ...any) {
		problems = append(problems, &Finding{Requirement: requirement, Text: fmt.Sprintf("POLICY=%s: "+format, append([]any{p.Path}, args...)...)})
	}
	if !strings.Contains(text, "ReplicationDestination") && p.Contract.Restores != Never {
		found(Restores, "nothing in it makes a ReplicationDestination: it can restore nothing; add that rule, or say restores: %s in %s if it backs up only", Never, contractFile)
	}
	if !strings.Contains(text, "ReplicationSource") {
		found(BacksUp, "nothing in it makes a ReplicationSource: it can back nothing up; add that rule")
	}
	labels := map[string]bool{}
	for _, object := range p.Kyverno() {
		selectors(object.Object, labels)
	}
	pvc := p.Contract.PVC
	if named := otherLabel(pvc, labels, text); named != "" && len(p.Kyverno()) > 0 && pvc.Label != "" {
		found(Label, "it is for other PVCs than those labelled %s=%s, as its contract has it: %s%s", pvc.Label, pvc.Value, named, p.orSay("pvc.label"))
	}
	if bucket := p.Contract.S3.Bucket; !p.names(bucket) && !p.Contract.SecretStore.says("{bucket}") {
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
