package policy

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/strict"
	"github.com/smart-restore/conformance/harness/verdict"
)

// contractFile is the contract's name in a policy's folder. For a policy that is a single file F.yaml it is
// F.conformance.yaml.
const contractFile = "conformance.yaml"

// Contract is what a policy's author says about it: what it is about, what it promises beyond core and safety, and what it
// is known not to hold. It stands beside the policy and is not applied with it. The comments of its fields are their
// descriptions in contract.schema.json and policies/BRING-YOUR-OWN.md: go test ./harness/policy -update writes both.
type Contract struct {
	// Always conformance.smart-restore.io/v1alpha1.
	APIVersion string `json:"apiVersion"`
	// Always PolicyContract.
	Kind string `json:"kind"`
	// What reports call the policy.
	Name string `json:"name"`
	// What it does, in a sentence.
	Description string `json:"description"`
	// What to apply: files, folders of manifests, kustomizations, as paths from this file's folder. Without it, it is the
	// folder that this file is in, or the manifest that it stands beside.
	Policy []string `json:"policy,omitempty"`
	// Within how many seconds a labelled PVC is admitted, whatever S3 does.
	AdmissionSeconds int `json:"admissionSeconds"`
	// The PVCs that the policy is about.
	PVC PVC `json:"pvc"`
	// Labels that a namespace must have for the policy to act in it.
	NamespaceLabels map[string]string `json:"namespaceLabels,omitempty"`
	// Where backups are.
	S3 S3 `json:"s3"`
	// The Secret from which the policy takes the credentials of S3 and restic. The suite makes it, with credentials of the
	// run's own: a policy that brings credentials itself cannot be tested.
	BaseSecret BaseSecret `json:"baseSecret"`
	// What the policy calls the objects that it makes for a PVC. Without one they are found by what they do.
	Names Names `json:"names"`
	// How the ReplicationSource copies a volume. The stacks here have local volumes, which take no snapshots: Direct only.
	CopyMethod string `json:"copyMethod"`
	// The ReplicationSource's schedule. A word leaves the minute (and hour, and day) to the policy.
	Schedule string `json:"schedule"`
	// The snapshots that the ReplicationSource keeps. What is not named here is not looked at.
	Retain Retain `json:"retain"`
	// What it promises beyond core and safety. The specs of other features are reported as not-promised.
	Features []string `json:"features,omitempty"`
	// The stacks that it is made for: shell patterns of names of fixtures/stacks.yaml, like kyverno-1.19*. Without them, any.
	Stacks []string `json:"stacks,omitempty"`
	// What it is known not to hold. That fails no run; that it holds after all does.
	ExpectedFailures []Expectation `json:"expectedFailures,omitempty"`
	// The requirements of which each must catch a policy that is known to be bad. Only for the suite's own test.
	CaughtBy []string `json:"caughtBy,omitempty"`

	doc *strict.Document // for positions; nil: there is no file
}

// PVC describes the PVCs that a policy is about.
type PVC struct {
	// The key of their label. It may have a prefix, as example.com/backup has.
	Label string `json:"label"`
	// The label's value. In quotes where YAML would take it for something else: "yes", "true", "1".
	Value string `json:"value"`
	// The storage class that they name. Where the cluster has none of this name, the suite makes it, a copy of the default
	// one. Without it, they name none.
	StorageClass string `json:"storageClass,omitempty"`
}

// S3 is where backups are.
type S3 struct {
	// The address as the policy names it: http and an IPv4 address that is none of the cluster's own. It is served inside the
	// test's own network. Names and https cannot be served there so far. The setting S3_ENDPOINT overrides it.
	Endpoint string `json:"endpoint"`
	// The bucket. The suite makes it; anybody may read and list it.
	Bucket string `json:"bucket"`
	// Where in the bucket a PVC's restic repository is: {namespace}, and after it {pvc}, each once.
	Path Template `json:"path"`
}

// BaseSecret is the Secret that a policy takes credentials from.
type BaseSecret struct {
	// Its name.
	Name string `json:"name"`
	// The one namespace that it is in, if it is not in every namespace with labelled PVCs. Specs that take the base Secret
	// away or change it are then not run: it is everybody's.
	Namespace string `json:"namespace,omitempty"`
	// The names of its keys.
	Keys SecretKeys `json:"keys"`
	// Further keys that the policy needs in it, with their values.
	Data map[string]string `json:"data,omitempty"`
}

// SecretKeys are the names of a base Secret's keys.
type SecretKeys struct {
	// The key of S3's access key.
	AccessKey string `json:"accessKey"`
	// The key of S3's secret key.
	SecretKey string `json:"secretKey"`
	// The key of the repositories' password.
	ResticPassword string `json:"resticPassword"`
}

// Names are what a policy calls what it makes.
type Names struct {
	// The ReplicationSource's name, of {namespace}, {pvc} and {uid}, the PVC's.
	ReplicationSource Template `json:"replicationSource,omitempty"`
	// The ReplicationDestination's.
	ReplicationDestination Template `json:"replicationDestination,omitempty"`
	// The name of the Secret with which VolSync reaches the repository.
	Secret Template `json:"secret,omitempty"`
}

// Retain is what VolSync's spec.restic.retain is to be.
type Retain struct {
	// One for each of this many hours.
	Hourly int `json:"hourly,omitempty"`
	// One for each of this many days.
	Daily int `json:"daily,omitempty"`
	// One for each of this many weeks.
	Weekly int `json:"weekly,omitempty"`
	// One for each of this many months.
	Monthly int `json:"monthly,omitempty"`
	// One for each of this many years.
	Yearly int `json:"yearly,omitempty"`
	// This many of the last, a number in quotes as VolSync has it.
	Last string `json:"last,omitempty"`
	// All of this time, like 3d12h.
	Within string `json:"within,omitempty"`
}

// Expectation is a requirement that the policy is known not to meet.
type Expectation struct {
	// The requirement's ID, as make list shows it.
	Requirement string `json:"requirement"`
	// Why the policy does not meet it.
	Reason string `json:"reason"`
}

// Kept is one of the kinds of snapshots that are retained, as VolSync names it, and how many.
type Kept struct{ Name, Value string }

func (k Kept) String() string { return k.Value + " " + k.Name }

// Named are the kinds that the promise names.
func (r Retain) Named() (kept []Kept) {
	of := reflect.ValueOf(r)
	for i, name := range strict.Fields(of.Type()) {
		if field := of.Field(i); !field.IsZero() {
			kept = append(kept, Kept{name, fmt.Sprint(field)})
		}
	}
	return kept
}

// Default is the contract of a policy that is as the plan has it, and promises nothing more.
func Default() Contract {
	return Contract{
		APIVersion: "conformance.smart-restore.io/v1alpha1", Kind: "PolicyContract",
		AdmissionSeconds: 10, // Kyverno's default webhook timeout
		PVC:              PVC{Label: "backup", Value: "hourly"},
		S3:               S3{Endpoint: "http://192.168.10.133:9000", Bucket: "volsync-backups", Path: "{namespace}/{pvc}"},
		BaseSecret: BaseSecret{Name: "volsync-rustfs-base", Keys: SecretKeys{ //nolint:gosec // names
			AccessKey: "AWS_ACCESS_KEY_ID", SecretKey: "AWS_SECRET_ACCESS_KEY", ResticPassword: "RESTIC_PASSWORD",
		}},
		CopyMethod: CopyDirect,
		Schedule:   "@hourly",
		Retain:     Retain{Hourly: 24, Daily: 7},
	}
}

// CopyDirect is the copy method that needs nothing of a storage driver.
const CopyDirect = "Direct"

// fillIn gives what the contract leaves out the values of the plan.
func (c *Contract) fillIn() {
	d := Default()
	c.AdmissionSeconds = cmp.Or(c.AdmissionSeconds, d.AdmissionSeconds)
	if c.PVC.Label == "" {
		c.PVC.Label, c.PVC.Value = d.PVC.Label, d.PVC.Value
	}
	c.S3.Endpoint = cmp.Or(c.S3.Endpoint, d.S3.Endpoint)
	c.S3.Bucket = cmp.Or(c.S3.Bucket, d.S3.Bucket)
	c.S3.Path = cmp.Or(c.S3.Path, d.S3.Path)
	c.BaseSecret.Name = cmp.Or(c.BaseSecret.Name, d.BaseSecret.Name)
	keys, defaults := &c.BaseSecret.Keys, d.BaseSecret.Keys
	keys.AccessKey = cmp.Or(keys.AccessKey, defaults.AccessKey)
	keys.SecretKey = cmp.Or(keys.SecretKey, defaults.SecretKey)
	keys.ResticPassword = cmp.Or(keys.ResticPassword, defaults.ResticPassword)
	c.CopyMethod = cmp.Or(c.CopyMethod, d.CopyMethod)
	c.Schedule = cmp.Or(c.Schedule, d.Schedule)
	c.Retain = cmp.Or(c.Retain, d.Retain)
}

// Promises says whether the policy promises a feature.
func (c Contract) Promises(feature string) bool { return slices.Contains(c.Features, feature) }

// ChangesBaseSecret labels specs that change the base Secret of their namespace.
const ChangesBaseSecret = "changes-base-secret"

// NotPromised is why a spec with these labels is not tried on the policy; empty: it is.
func (c Contract) NotPromised(labels []string) string {
	for _, label := range labels {
		switch {
		case verdict.IsFeature(label) && !c.Promises(label):
			return "the policy does not promise " + label
		case label == ChangesBaseSecret && c.BaseSecret.Namespace != "":
			return fmt.Sprintf("the policy takes its base Secret from the namespace %s: it is every spec's", c.BaseSecret.Namespace)
		}
	}
	return ""
}

// AdmissionBound is within what a labelled PVC is admitted, whatever S3 does.
func (c Contract) AdmissionBound() time.Duration {
	return time.Duration(cmp.Or(c.AdmissionSeconds, Default().AdmissionSeconds)) * time.Second
}

// Labels are those of the PVCs that the policy is about.
func (p PVC) Labels() map[string]string { return map[string]string{p.Label: p.Value} }

// Prefix is where in the bucket a PVC's repository is; it ends with a slash.
func (s S3) Prefix(namespace, pvc string) string { return s.Path.Expand(namespace, pvc, "") + "/" }

// NamespacePrefix begins the prefixes of all PVCs of a namespace, and of no unrelated namespace's.
func (s S3) NamespacePrefix(namespace string) string {
	return s.Path[:s.Path.index("pvc")].Expand(namespace, "", "")
}

// Between is what stands between a namespace and a PVC's name in the path.
func (s S3) Between() string {
	return string(s.Path[s.Path.index("namespace")+len("{namespace}") : s.Path.index("pvc")])
}

// words are the schedules that leave the minute to the policy, and what they come to in cron's fields.
var words = map[string]*regexp.Regexp{
	"@hourly":   regexp.MustCompile(`^M \* \* \* \*$`),
	"@daily":    regexp.MustCompile(`^M H \* \* \*$`),
	"@weekly":   regexp.MustCompile(`^M H \* \* [0-7]$`),
	"@monthly":  regexp.MustCompile(`^M H [0-9]+ \* \*$`),
	"@yearly":   regexp.MustCompile(`^M H [0-9]+ [0-9]+ \*$`),
	"@annually": regexp.MustCompile(`^M H [0-9]+ [0-9]+ \*$`),
}

var (
	minuteAndHour = regexp.MustCompile(`^([0-9]|[1-5][0-9]) ([0-9]|1[0-9]|2[0-3]) `)
	minuteOnly    = regexp.MustCompile(`^([0-9]|[1-5][0-9]) `)
)

// Schedules says whether a cron schedule is the promised one: the same, or, where the promise is a word, due as often.
func (c Contract) Schedules(schedule string) bool {
	schedule = strings.Join(strings.Fields(schedule), " ")
	if schedule == c.Schedule {
		return true
	}
	word, isWord := words[c.Schedule]
	if !isWord {
		return false
	}
	fields := minuteOnly.ReplaceAllString(schedule, "M ")
	if c.Schedule != "@hourly" {
		fields = minuteAndHour.ReplaceAllString(schedule, "M H ")
	}
	return word.MatchString(fields)
}

// Reasons are the reasons of the expected failures, by requirement.
func (c Contract) Reasons() map[string]string {
	reasons := map[string]string{}
	for _, e := range c.ExpectedFailures {
		reasons[e.Requirement] = e.Reason
	}
	return reasons
}

// MadeFor are those of the known stacks that the policy is made for. A contract that names a stack which is none is refused.
func (c Contract) MadeFor(known []string) ([]string, error) {
	if len(c.Stacks) == 0 {
		return known, nil
	}
	var madeFor []string
	for i, pattern := range c.Stacks {
		names, err := matching(pattern, known)
		switch {
		case err != nil:
			return nil, c.doc.At(fmt.Sprintf("%q is no pattern of a stack's name: %s", pattern, err), "stacks", i)
		case len(names) == 0:
			return nil, c.doc.At(fmt.Sprintf("there is no stack %q: the lock has %s", pattern, strings.Join(known, ", ")), "stacks", i)
		}
		madeFor = append(madeFor, names...)
	}
	return madeFor, nil
}

// CheckStack refuses a stack that the policy is not made for or that cannot do what it needs, and a contract that names a
// stack which is none. Stacks are named by shell patterns: kyverno-1.19* is Kyverno 1.19 on any Kubernetes.
func (c Contract) CheckStack(stack string, known []string) error {
	madeFor, err := c.MadeFor(known)
	if err != nil {
		return err
	}
	if !slices.Contains(madeFor, stack) {
		return fmt.Errorf("the policy %s is made for %s, not for the stack %s: choose with STACK=%s", c.Name, strings.Join(c.Stacks, ", "), stack, madeFor[0])
	}
	if c.CopyMethod != CopyDirect {
		return c.doc.At(fmt.Sprintf("copyMethod %s needs a storage driver that takes snapshots or clones volumes; the stack %s has local volumes, which are copied %s: such a policy cannot be tested here",
			c.CopyMethod, stack, CopyDirect), "copyMethod")
	}
	return nil
}

// matching are the names that a shell pattern matches.
func matching(pattern string, names []string) (matches []string, err error) {
	for _, name := range names {
		matched, err := path.Match(pattern, name)
		if err != nil {
			return nil, err
		}
		if matched {
			matches = append(matches, name)
		}
	}
	return matches, nil
}

// CheckRequirements refuses requirements that no spec has; specs are the IDs of all.
func (c Contract) CheckRequirements(specs []string) error {
	var problems []error
	check := func(id string, path ...any) {
		if !slices.Contains(specs, id) && !IsFinding(id) {
			problems = append(problems, c.doc.At(fmt.Sprintf("no spec has the requirement %q; %s", id, alike(id, specs)), path...))
		}
	}
	for i, e := range c.ExpectedFailures {
		check(e.Requirement, "expectedFailures", i, "requirement")
	}
	for i, id := range c.CaughtBy {
		check(id, "caughtBy", i)
	}
	return errors.Join(problems...)
}

// Warnings are what a person should know of the promises, though they can be tested.
func (c Contract) Warnings() []error {
	if between := c.S3.Between(); !c.separates() {
		return []error{c.doc.At(fmt.Sprintf("volumes can collide: a namespace's name may have %q in it, as a PVC's may, so that PVC b%sc of namespace a and PVC c of namespace a%[2]sb share a repository; with a / between them none do",
			between, between), "s3", "path")}
	}
	return nil
}

// separates says whether no two PVCs can have the same path: a namespace's name has letters, digits and - only.
func (c Contract) separates() bool { return strings.Trim(c.S3.Between(), namespaceLetters) != "" }

const namespaceLetters = "abcdefghijklmnopqrstuvwxyz0123456789-"

// Lookalikes are the end of a second namespace's name, and names of a PVC in the first and one in the second, whose joint
// names are the same if a policy joins them as its path does; where that tells them apart, with a hyphen.
func (c Contract) Lookalikes() (suffix, first, second string) {
	between := "-"
	if !c.separates() {
		between = c.S3.Between()
	}
	return between + "b", "b" + between + "c", "c"
}

// contractBeside is where the contract of a policy would be: in its folder, beside the single file, or the policy's own path,
// which may be that of a contract.
func contractBeside(path string, folder bool) string {
	switch {
	case isContract(filepath.Base(path)) && !folder:
		return path
	case folder:
		return filepath.Join(path, contractFile)
	}
	return strings.TrimSuffix(path, filepath.Ext(path)) + "." + contractFile
}

// contractOf reads the contract that stands beside a policy; where there is none, it is one of defaults.
func contractOf(path string, folder bool) (c Contract, file string, err error) {
	file = contractBeside(path, folder)
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		c = Default()
		c.Name = filepath.Base(path)
		return c, "", nil
	}
	if err != nil {
		return Contract{}, "", err
	}
	c, err = parseContract(file, raw)
	return c, file, err
}

// isContract says whether a file in a policy's folder is a contract.
func isContract(name string) bool {
	return name == contractFile || strings.HasSuffix(name, "."+contractFile)
}

// parseContract reads a contract strictly. Errors say where: file:line:column.
func parseContract(file string, raw []byte) (Contract, error) {
	var c Contract
	doc, err := strict.Read(filepath.Base(file), raw, &c)
	if err != nil {
		return c, err
	}
	c.doc = doc
	if err := c.validate(); err != nil {
		return c, err
	}
	c.fillIn()
	return c, nil
}

// resolveEndpoint is the address that a policy names, by its contract or, where one is set, by the setting.
func (c *Contract) resolveEndpoint(set endpoint.Endpoint) (endpoint.Endpoint, error) {
	if set.URL != "" {
		return set, nil
	}
	return endpoint.Parse(c.S3.Endpoint)
}
