package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/strict"
	"github.com/smart-restore/conformance/harness/verdict"
)

// rule is what a value must be beyond its type. The reader holds it, and the schema says it.
type rule struct {
	oneOf    []string       // or: any
	pattern  *regexp.Regexp // of a text
	wanted   string         // the pattern in words
	atMost   int            // characters of a text
	min, max int            // of a number; both 0: any
}

const (
	dnsLabel  = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	subdomain = dnsLabel + `(\.` + dnsLabel + `)*`
	labelName = `[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?`
	// labelPrefix is 253 characters at most, a key with one 317; the API server looks closer.
	labelPrefix = subdomain + `/`
	pathPart    = `[A-Za-z0-9._-]+`
	// placeholders may be in a template.
	template = `[A-Za-z0-9._{}-]+`
)

var (
	labelKey      = rule{pattern: whole(`(` + labelPrefix + `)?` + labelName), atMost: 317, wanted: "a label's key, like backup or example.com/backup"}
	annotationKey = rule{pattern: labelKey.pattern, atMost: labelKey.atMost, wanted: "an annotation's key, like example.com/accept"}
	labelVal      = rule{pattern: whole(`(` + labelName + `)?`), atMost: 63, wanted: "a label's value: letters, digits and -_. within"}
	dataKey       = rule{pattern: whole(`[-._a-zA-Z0-9]+`), atMost: 253, wanted: "a key of a Secret: letters, digits and -_."}
	object        = rule{pattern: whole(subdomain), atMost: 253, wanted: "an object's name: small letters, digits, - and ."}
	named         = rule{pattern: whole(`[a-z0-9.{}-]+`), wanted: "an object's name: small letters, digits, - and ., and placeholders"}
	text          = rule{pattern: regexp.MustCompile(`\S`), wanted: "some text"}
	positive      = rule{min: 1, max: 1000}
	httpStatus    = rule{min: 200, max: 599}
)

func whole(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(` + pattern + `)$`) }

// rules are those of each field, by its path; * is any item of a list or value of a mapping, {} any key of a mapping.
var rules = map[string]rule{
	"apiVersion":                     {oneOf: []string{Default().APIVersion}},
	"kind":                           {oneOf: []string{Default().Kind}},
	"name":                           text,
	"description":                    text,
	"policy.*":                       text,
	"templates.*":                    text,
	"variables.{}":                   {pattern: whole(`[A-Za-z_][A-Za-z0-9_]*`), atMost: 253, wanted: "a variable's name: letters, digits and _, and no digit first"},
	"unknown":                        {oneOf: []string{StartsEmpty, Waits, IsRefused}},
	"restores":                       {oneOf: []string{WhenDecided, Always, Never}},
	"admissionSeconds":               {min: 1, max: 60},
	"pvc.label":                      labelKey,
	"pvc.value":                      labelVal,
	"pvc.annotations.{}":             annotationKey,
	"pvc.optOut.{}":                  annotationKey,
	"pvc.storageClass":               object,
	"namespaceLabels.{}":             labelKey,
	"namespaceLabels.*":              labelVal,
	"s3.endpoint":                    {pattern: whole(`https?://[^/?# ]+/?`), wanted: "http or https, and an IPv4 address or a name, like http://192.168.10.133:9000 or https://s3.home.example.org"},
	"s3.trust":                       {oneOf: []string{TrustImages, TrustPolicy}},
	"s3.bucket":                      {pattern: whole(`[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]`), wanted: "a bucket's name: 3 to 63 small letters, digits, - and ."},
	"s3.path":                        {pattern: whole(template + `(/` + template + `)*`), atMost: 400, wanted: "a path of letters, digits, -_. and placeholders, with no / at its ends"},
	"s3.cluster":                     {pattern: whole(pathPart), atMost: 100, wanted: "a part of s3.path: letters, digits and -_."},
	"s3.marker":                      {pattern: whole(pathPart + `(/` + pathPart + `)*`), atMost: 400, wanted: "the key of an object: letters, digits and -_. with / between, and none at its ends"},
	"s3.markerBody":                  {pattern: regexp.MustCompile(`\S`), atMost: 1000, wanted: "some text"},
	"oracle.url":                     {pattern: whole(`http://[^/?# ]+(/[^# ]*)?(\?[^# ]*)?`), atMost: 1000, wanted: "a URL like " + exampleOracle},
	"oracle.answers.backup":          text,
	"oracle.answers.none":            text,
	"oracle.answers.unknown":         text,
	"oracle.statuses.backup":         httpStatus,
	"oracle.statuses.none":           httpStatus,
	"oracle.statuses.unknown":        httpStatus,
	"baseSecret.name":                object,
	"baseSecret.namespace":           {pattern: whole(dnsLabel), atMost: 63, wanted: "a namespace's name: small letters, digits and -"},
	"baseSecret.keys.accessKey":      dataKey,
	"baseSecret.keys.secretKey":      dataKey,
	"baseSecret.keys.resticPassword": dataKey,
	"baseSecret.data.{}":             dataKey,
	"names.replicationSource":        named,
	"names.replicationDestination":   named,
	"names.secret":                   named,
	"copyMethod":                     {oneOf: []string{CopyDirect, CopySnapshot, copyClone}},
	"schedule":                       {pattern: whole(`@(hourly|daily|weekly|monthly|yearly|annually)|[0-9*,/-]+( [0-9*,/-]+){4}`), wanted: "cron's five fields, like \"30 2 * * *\", or @hourly, @daily, @weekly, @monthly, @yearly"},
	"retain.hourly":                  positive,
	"retain.daily":                   positive,
	"retain.weekly":                  positive,
	"retain.monthly":                 positive,
	"retain.yearly":                  positive,
	"retain.last":                    {pattern: whole(`[1-9][0-9]*`), wanted: "a number in quotes"},
	"retain.within":                  {pattern: whole(`([1-9][0-9]*[ymdh])+`), wanted: "a time like 3d12h"},
	"override.annotation":            annotationKey,
	"override.value":                 text,
	"override.of":                    {oneOf: []string{OfRestore, OfBackups}},
	"backupSource.when":              {oneOf: []string{WhenCreated, WhenBound}},
	"backupSource.after":             {pattern: whole(`[1-5]m|[1-9][0-9]?s`), wanted: "a time of at most 5m, like 90s or 2m"},
	"features.*":                     {oneOf: features()},
	"decisions.annotation":           labelKey,
	"decisions.restore":              text,
	"decisions.fresh":                text,
	"decisions.unknown":              text,
	"alerts":                         text,
	"upgradesFrom":                   text,
	"stacks.*":                       text,
	"expectedFailures.*.requirement": text,
	"expectedFailures.*.reason":      text,
	"caughtBy.*":                     text,

	"secretStore.kind":                    {oneOf: []string{ClusterSecretStore, NamespaceSecretStore}},
	"secretStore.name":                    object,
	"secretStore.entries.*.key":           text,
	"secretStore.entries.*.version":       text,
	"secretStore.entries.*.value":         text,
	"secretStore.entries.*.properties.{}": text,
	"secretStore.entries.*.properties.*":  text,
}

func features() (names []string) {
	for _, f := range verdict.Features {
		names = append(names, f.Name)
	}
	return names
}

// needed are the fields that a mapping must have; together, those that it has both or neither of.
var (
	needed = map[string][]string{
		"":                      {"apiVersion", "kind", "name", "description"},
		"expectedFailures.*":    {"requirement", "reason"},
		"decisions":             {"annotation", "restore", "fresh", "unknown"},
		"override":              {"annotation", "value"},
		"oracle":                {"url", "answers"},
		"oracle.answers":        {"backup", "none", "unknown"},
		"secretStore":           {"name", "entries"},
		"secretStore.entries.*": {"key"},
	}
	together = map[string][2]string{"pvc": {"label", "value"}}
)

// holds says what is wrong with a value by the rule; empty: nothing.
func (r rule) holds(value any) string {
	found, isText := value.(string)
	number, isNumber := value.(int)
	switch {
	case len(r.oneOf) > 0 && !slices.Contains(r.oneOf, found):
		return fmt.Sprintf("%q is not known here: wanted is %s", found, strings.Join(r.oneOf, ", "))
	case isText && r.pattern != nil && !r.pattern.MatchString(found):
		return fmt.Sprintf("%q will not do: wanted is %s", found, r.wanted)
	case isText && r.atMost > 0 && len(found) > r.atMost:
		return fmt.Sprintf("it has %d characters: wanted are at most %d", len(found), r.atMost)
	case isNumber && r.max > 0 && (number < r.min || number > r.max):
		return fmt.Sprintf("%d will not do: wanted is %d to %d", number, r.min, r.max)
	}
	return ""
}

// joined is a path of names in a contract.
func joined(path []any) string {
	var names []string
	for _, step := range path {
		names = append(names, fmt.Sprint(step))
	}
	return strings.Join(names, ".")
}

// ruleOf finds the rule of a value, and of the key that it has in a mapping whose keys are free.
func ruleOf(path []any) (value, key rule) {
	var steps []string
	for _, step := range path {
		if name, ok := step.(string); ok {
			steps = append(steps, name)
		} else {
			steps = append(steps, "*")
		}
	}
	if r, ok := rules[strings.Join(steps, ".")]; ok {
		return r, rule{}
	}
	parent := strings.Join(steps[:max(0, len(steps)-1)], ".")
	return rules[parent+".*"], rules[parent+".{}"]
}

// validate finds what is wrong with a contract beyond its types.
func (c *Contract) validate() error {
	var problems []error
	report := func(text string, path ...any) { problems = append(problems, c.doc.At(text, path...)) }
	lacks := func(at []any, fields ...string) {
		for _, field := range fields {
			if !c.doc.Has(append(slices.Clone(at), field)...) {
				report("there is no "+field, at...)
			}
		}
	}
	lacks(nil, needed[""]...)
	for i := range c.ExpectedFailures {
		lacks([]any{"expectedFailures", i}, needed["expectedFailures.*"]...)
	}
	for _, optional := range [][]any{{"decisions"}, {"override"}, {"oracle"}, {"oracle", "answers"}, {"secretStore"}} {
		if c.doc.Has(optional...) {
			lacks(optional, needed[joined(optional)]...)
		}
	}
	for i := range c.SecretStore.Entries {
		lacks([]any{"secretStore", "entries", i}, needed["secretStore.entries.*"]...)
	}
	for at, both := range together {
		for i := range both {
			if c.doc.Has(at, both[i]) && !c.doc.Has(at, both[1-i]) {
				report(fmt.Sprintf("%s and %s go together: there is no %s", both[0], both[1], both[1-i]), at, both[i])
			}
		}
	}
	c.doc.Each(func(path []any, value any) {
		if value == nil {
			if len(path) > 0 {
				report("nothing is in it: leave it out", path...)
			}
			return
		}
		ofValue, ofKey := ruleOf(path)
		if text := ofValue.holds(value); text != "" {
			report(text, path...)
		}
		if name, ok := path[len(path)-1].(string); ok {
			if text := ofKey.holds(name); text != "" {
				report(text, append(slices.Clone(path[:len(path)-1]), strict.Key(name))...)
			}
		}
	})
	if len(problems) > 0 {
		return errors.Join(problems...) // what follows would only repeat them
	}
	for _, key := range slices.Sorted(maps.Keys(c.PVC.OptOut)) {
		if value, also := c.PVC.Annotations[key]; also && value == c.PVC.OptOut[key] {
			report(fmt.Sprintf("the annotation %s: %s both selects a PVC and keeps it from being selected", key, value), "pvc", "optOut", strict.Key(key))
		}
	}
	if c.Retain.None && c.Retain != (Retain{None: true}) {
		report("it says that there is no retain, and what is kept", "retain", "none")
	}
	c.validateLists(report)
	c.validatePlaces(report)
	c.validateDecisions(report)
	problems = append(problems, c.validateSecretStore(report)...)
	problems = append(problems, c.validateOracle(report)...)
	for _, t := range []struct {
		field string
		Template
	}{
		{"replicationSource", c.Names.ReplicationSource}, {"replicationDestination", c.Names.ReplicationDestination}, {"secret", c.Names.Secret},
	} {
		switch problem := t.check("namespace", "pvc", "uid"); {
		case t.Template == "":
		case problem != nil:
			problems = append(problems, c.doc.In(problem.offset, problem.text, "names", t.field))
		case t.index("pvc") < 0 && t.index("uid") < 0:
			report("it has neither {pvc} nor {uid}: all PVCs would share one", "names", t.field)
		case object.holds(t.Expand("ns", "data", "uid")) != "":
			report(fmt.Sprintf("for a PVC data it would be %q: wanted is %s", t.Expand("ns", "data", "uid"), object.wanted), "names", t.field)
		}
	}
	if c.Companion && len(c.Templates) == 0 {
		report("a policy that is not about PVCs has templates beside it: list them under templates", "companion")
	}
	if len(c.Variables) > 0 && len(c.Templates) == 0 {
		report("they are filled into templates: there are none", "variables")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Variables)) {
		if problem := Template(c.Variables[name]).check("namespace", "pvc"); problem != nil {
			problems = append(problems, c.doc.In(problem.offset, problem.text, "variables", name))
		}
	}
	if problem := c.Override.Value.check("namespace", "pvc", "uid"); problem != nil {
		problems = append(problems, c.doc.In(problem.offset, problem.text, "override", "value"))
	}
	if path := c.S3.Path; path != "" {
		problem := path.check("namespace", "pvc")
		at := func(placeholder string) int { return path.index(placeholder) }
		switch {
		case problem != nil:
			problems = append(problems, c.doc.In(problem.offset, problem.text, "s3", "path"))
		case at("pvc") < 0:
			report("it needs {pvc}: VolSync's movers give every PVC's snapshots the same host and path, so that in one repository nothing tells them apart", "s3", "path")
		case slices.ContainsFunc(strings.Split(string(path), "/"), func(part string) bool { return strings.Trim(part, ".") == "" }):
			report("a part of it is only dots", "s3", "path")
		}
	}
	c.validateCluster(report)
	if len(problems) == 0 { // of a path that is none, nothing can be said
		c.validateMarker(report)
	}
	return errors.Join(problems...)
}

func (c *Contract) validateCluster(report func(string, ...any)) {
	path := cmp.Or(c.S3.Path, Default().S3.Path)
	switch cluster := c.S3.Cluster; {
	case cluster == "" && c.Promises(verdict.ClusterInPath):
		report("it needs s3.cluster, the part of s3.path that stands for the cluster", "features", slices.Index(c.Features, verdict.ClusterInPath))
	case cluster != "" && !slices.Contains(strings.Split(string(path), "/"), cluster):
		report(fmt.Sprintf("%q is no part of the path %q: wanted is one of those between its slashes", cluster, path), "s3", "cluster")
	}
}

func (c *Contract) validateMarker(report func(string, ...any)) {
	filled := *c
	filled.fillIn()
	switch marker := c.S3.Marker; {
	case marker == "" && c.S3.MarkerBody != "":
		report("it is the content of s3.marker: there is none", "s3", "markerBody")
	case marker == "":
	case slices.ContainsFunc(strings.Split(marker, "/"), func(part string) bool { return strings.Trim(part, ".") == "" }):
		report("a part of it is only dots", "s3", "marker")
	case filled.S3.HasRepository(marker):
		report(fmt.Sprintf("%q may be in a PVC's repository, or be one, by the path %s: wanted is a key that is no PVC's", marker, filled.S3.Path), "s3", "marker")
	}
}

func (c *Contract) validateDecisions(report func(string, ...any)) {
	if c.Decisions == (Decisions{}) {
		return
	}
	if !c.Promises("visible-decision") {
		report("they are what visible-decision promises, which is not among the features", "decisions")
	}
	seen := map[string]string{}
	patterns := c.Decisions.patterns()
	for _, name := range []string{DecisionRestore, DecisionFresh, DecisionUnknown} {
		pattern := patterns[name]
		if _, err := regexp.Compile(pattern); err != nil {
			report(fmt.Sprintf("%q is no regular expression: %s", pattern, strings.TrimPrefix(err.Error(), "error parsing regexp: ")), "decisions", name)
		}
		if other, taken := seen[pattern]; taken {
			report(fmt.Sprintf("%s has the same pattern: nobody could tell them apart", other), "decisions", name)
		}
		seen[pattern] = name
	}
}

func (c *Contract) validateLists(report func(string, ...any)) {
	if filepath.IsAbs(c.Alerts) {
		report(fmt.Sprintf("%q is not found on another machine: wanted is a path from this file's folder", c.Alerts), "alerts")
	}
	if filepath.IsAbs(c.UpgradesFrom) {
		report(fmt.Sprintf("%q is not found on another machine: wanted is a path from this file's folder", c.UpgradesFrom), "upgradesFrom")
	}
	twice := func(seen []string, value, what string, path ...any) {
		if slices.Contains(seen, value) {
			report(fmt.Sprintf("%s %q is there twice", what, value), path...)
		}
	}
	for field, paths := range map[string][]string{"policy": c.Policy, "templates": c.Templates} {
		for i, path := range paths {
			if filepath.IsAbs(path) {
				report(fmt.Sprintf("%q is not found on another machine: wanted is a path from this file's folder", path), field, i)
			}
			twice(paths[:i], path, "path", field, i)
		}
	}
	for i, feature := range c.Features {
		twice(c.Features[:i], feature, "feature", "features", i)
	}
	for i, stack := range c.Stacks {
		twice(c.Stacks[:i], stack, "stack", "stacks", i)
	}
	var expected []string
	for i, e := range c.ExpectedFailures {
		if IsFinding(e.Requirement) {
			report(e.Requirement+" is checked before anything is tried: it cannot be expected to fail", "expectedFailures", i, "requirement")
		}
		twice(expected, e.Requirement, "expected failure", "expectedFailures", i, "requirement")
		expected = append(expected, e.Requirement)
	}
	for i, id := range c.CaughtBy {
		if strings.HasPrefix(id, "policy/") && !IsFinding(id) {
			report(fmt.Sprintf("there is no check %q of policies; there are %s", id, strings.Join(findings, ", ")), "caughtBy", i)
		}
		twice(c.CaughtBy[:i], id, "requirement", "caughtBy", i)
	}
}

func (c *Contract) validatePlaces(report func(string, ...any)) {
	if c.S3.Endpoint != "" {
		if _, err := endpoint.Parse(c.S3.Endpoint); err != nil {
			report(err.Error(), "s3", "endpoint")
		}
	}
	filled := *c
	filled.fillIn()
	taken := map[string]bool{}
	for _, key := range []struct{ field, name string }{
		{"accessKey", filled.BaseSecret.Keys.AccessKey}, {"secretKey", filled.BaseSecret.Keys.SecretKey}, {"resticPassword", filled.BaseSecret.Keys.ResticPassword},
	} {
		if taken[key.name] {
			report(fmt.Sprintf("the key %q is another one's, too", key.name), "baseSecret", "keys", key.field)
		}
		taken[key.name] = true
	}
	for _, key := range slices.Sorted(maps.Keys(c.BaseSecret.Data)) {
		if taken[key] {
			report(fmt.Sprintf("the suite fills the key %q itself", key), "baseSecret", "data", strict.Key(key))
		}
	}
}
