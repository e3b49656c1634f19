// Package settings reads what a user sets by flag, environment variable or make variable. It refuses what it does not
// understand before anything is started.
package settings

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/timing"
)

// Keep says when the stack stays up after the specs.
type Keep string

// The values of KEEP.
const (
	KeepNever     Keep = "never"
	KeepOnFailure Keep = "failure"
	KeepAlways    Keep = "always"
)

// Settings are the validated settings of one invocation.
type Settings struct {
	Stack      string            // an entry of the lock; empty: its default
	Images     string            // auto, pull or build
	Policy     string            // absolute path of a file or folder
	S3Endpoint endpoint.Endpoint // unset: what the policy's contract says
	Earlier    string            // absolute path of the policy that Policy replaces; empty: what its contract says
	Focus      string            // regular expression on a spec's text
	Labels     string            // Ginkgo label filter
	Procs      int
	Keep       Keep
	TimeScale  float64 // multiplies the bounds and windows of specs
	Artifacts  string  // absolute path of a folder
	External   ExternalCluster
}

// ExternalCluster names an existing cluster to run on, instead of a managed one.
type ExternalCluster struct {
	Kubeconfig     string // as kubectl takes it; empty: kubectl's default
	Context        string // empty: a managed cluster
	Allow          string // the cluster's name in the kubeconfig, as the user wrote it
	BaseSecretFrom string // namespace/name
	PlanOnly       bool
}

// Setting documents one setting.
type Setting struct {
	Name, Default, Meaning string
}

const defaultPolicy = "policies/smart-restore"

// maxDefaultProcs bounds the default of PROCS. Specs mostly wait, so there may be more of them than cores. With too many at a time,
// looks come late, and a spec that may not look away becomes unknown: with 8 and with 12 on 2 cores one did, with 6 none so far.
const maxDefaultProcs = 8

// All lists every setting. An empty or unset variable means the default. A default that depends on something is described in
// Meaning.
func All() []Setting {
	return []Setting{
		{"STACK", "", "the stack to test on, a name in fixtures/stacks.yaml (default: its defaultStack, or else the first stack that the policy supports)"},
		{"IMAGES", "auto", "where images come from: auto (the cache, else a registry by digest, else a build), pull, or build (contacts no registry)"},
		{"POLICY", defaultPolicy, "the policy to test: a manifest, a folder of manifests, a kustomization, or a conformance.yaml that lists them"},
		{"S3_ENDPOINT", "", "the S3 address that the policy uses; it is served only inside the test network (default: s3.endpoint in conformance.yaml)"},
		{"UPGRADES_FROM", "", "the policy that POLICY replaces, such as its last commit in another work tree (default: upgradesFrom in conformance.yaml)"},
		{"FOCUS", "", "run only the specs whose ID or sentence matches this regular expression, such as core/restore"},
		{"LABELS", "", "run only the specs that match this Ginkgo label filter, such as 'core && !s3-down'"},
		{"PROCS", strconv.Itoa(defaultProcs()), "how many specs run in parallel (default: 3 per CPU, at least 4, at most 8)"},
		{"KEEP", "never", "when to keep the stack after the run: never, failure, or always"},
		{"TIME_SCALE", "1", "a factor for all time limits and windows of the specs, from 1 to 10, for a slow machine"},
		{"ARTIFACTS", "artifacts", "the folder for the artifacts of runs: reports, logs, events, audit log and dumps, in a folder per run"},
		{"KUBE_CONTEXT", "", "the kubeconfig context of an existing cluster to test on, instead of a new kind cluster"},
		{"KUBECONFIG", "", "the kubeconfig file that has KUBE_CONTEXT (default: as kubectl finds it)"},
		{"ALLOW_CLUSTER", "", "with KUBE_CONTEXT, required: the cluster name of that context in the kubeconfig, to confirm that this is the right cluster"},
		{"BASE_SECRET_FROM", "", "with KUBE_CONTEXT: namespace/name of the Secret that holds the credentials for S3 and restic"},
		{"PLAN", "", "with KUBE_CONTEXT: 1 prints what a run would create there, and exits"},
	}
}

func defaultProcs() int { return min(maxDefaultProcs, max(4, 3*runtime.NumCPU())) }

// Flag is the name of the setting as a command line flag: s3-endpoint for S3_ENDPOINT, and context for KUBE_CONTEXT, as
// kubectl has it.
func (s Setting) Flag() string {
	return strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(s.Name), "_", "-"), "kube-")
}

// FromEnvironment reads and checks every setting. A setting that is given beats the environment, also where it is given
// empty. Relative paths are taken from root. Every problem is in the error.
func FromEnvironment(root string, given map[string]string, stacks, imageModes []string) (*Settings, error) {
	values := map[string]string{}
	for _, setting := range All() {
		value, ok := given[setting.Name]
		if !ok {
			value = os.Getenv(setting.Name)
		}
		values[setting.Name] = cmp.Or(value, setting.Default)
	}
	return parse(root, values, stacks, imageModes)
}

// values are what each setting was set to, as a variable of the environment has it.
func (s *Settings) values() map[string]string {
	plan := ""
	if s.External.PlanOnly {
		plan = "1"
	}
	return map[string]string{
		"STACK": s.Stack, "IMAGES": s.Images, "POLICY": s.Policy, "S3_ENDPOINT": s.S3Endpoint.URL, "UPGRADES_FROM": s.Earlier, "FOCUS": s.Focus, "LABELS": s.Labels,
		"PROCS": strconv.Itoa(s.Procs), "KEEP": string(s.Keep), "TIME_SCALE": strconv.FormatFloat(s.TimeScale, 'g', -1, 64), "ARTIFACTS": s.Artifacts,
		"KUBE_CONTEXT": s.External.Context, "KUBECONFIG": s.External.Kubeconfig, "ALLOW_CLUSTER": s.External.Allow,
		"BASE_SECRET_FROM": s.External.BaseSecretFrom, "PLAN": plan,
	}
}

// Environ is every setting as NAME=value, for a child process that is to have the same settings but for the changed ones.
// Unset settings are in it, empty: a variable of this process's environment must not come through.
func (s *Settings) Environ(changed map[string]string) []string {
	values := s.values()
	maps.Copy(values, changed)
	var environ []string
	for _, setting := range All() {
		environ = append(environ, setting.Name+"="+values[setting.Name])
	}
	return environ
}

// Value is what a setting was set to, as a variable of the environment has it.
func (s *Settings) Value(name string) string { return s.values()[name] }

func parse(root string, values map[string]string, stacks, imageModes []string) (*Settings, error) {
	var problems []error
	oneOf := func(name string, allowed []string) string {
		if values[name] != "" && !slices.Contains(allowed, values[name]) {
			problems = append(problems, fmt.Errorf("%s=%s is unknown: allowed are %s", name, values[name], strings.Join(allowed, ", ")))
		}
		return values[name]
	}
	absolute := func(name string) string {
		if filepath.IsAbs(values[name]) {
			return filepath.Clean(values[name])
		}
		return filepath.Join(root, values[name])
	}
	s := &Settings{
		Stack:     oneOf("STACK", stacks),
		Images:    oneOf("IMAGES", imageModes),
		Keep:      Keep(oneOf("KEEP", []string{string(KeepNever), string(KeepOnFailure), string(KeepAlways)})),
		Policy:    absolute("POLICY"),
		Artifacts: absolute("ARTIFACTS"),
		Focus:     values["FOCUS"],
		Labels:    values["LABELS"],
	}
	// The default is there in a checkout only, and not everything that is done elsewhere needs a policy.
	if _, err := os.Stat(s.Policy); err != nil && values["POLICY"] != defaultPolicy {
		problems = append(problems, fmt.Errorf("POLICY=%s cannot be read: %w", values["POLICY"], err))
	}
	if values["UPGRADES_FROM"] != "" {
		s.Earlier = absolute("UPGRADES_FROM")
		if _, err := os.Stat(s.Earlier); err != nil {
			problems = append(problems, fmt.Errorf("UPGRADES_FROM=%s cannot be read: %w", values["UPGRADES_FROM"], err))
		}
	}
	if _, err := regexp.Compile(s.Focus); err != nil {
		problems = append(problems, fmt.Errorf("FOCUS=%s is no regular expression: %w", s.Focus, err))
	}
	if _, err := types.ParseLabelFilter(s.Labels); err != nil {
		problems = append(problems, fmt.Errorf("LABELS=%s is no label filter, such as 'core && !s3-down'", s.Labels))
	}
	procs, err := strconv.Atoi(values["PROCS"])
	if err != nil || procs < 1 || procs > 64 {
		problems = append(problems, fmt.Errorf("PROCS=%s must be a number from 1 to 64", values["PROCS"]))
	}
	s.Procs = procs
	if s.TimeScale, err = strconv.ParseFloat(values["TIME_SCALE"], 64); err != nil {
		problems = append(problems, fmt.Errorf("TIME_SCALE=%s must be a number from 1 to 10", values["TIME_SCALE"]))
	} else if err := timing.CheckScale(s.TimeScale); err != nil {
		problems = append(problems, fmt.Errorf("TIME_SCALE=%s: %w", values["TIME_SCALE"], err))
	}
	s.External = ExternalCluster{
		Kubeconfig: values["KUBECONFIG"], Context: values["KUBE_CONTEXT"], Allow: values["ALLOW_CLUSTER"],
		BaseSecretFrom: values["BASE_SECRET_FROM"], PlanOnly: oneOf("PLAN", []string{"1", "true"}) != "",
	}
	if s.External.Context == "" {
		for _, name := range []string{"ALLOW_CLUSTER", "BASE_SECRET_FROM", "PLAN"} {
			if values[name] != "" {
				problems = append(problems, fmt.Errorf("%s=%s is for an existing cluster: set KUBE_CONTEXT, too, to a context of the kubeconfig", name, values[name]))
			}
		}
	} else if s.Stack != "" {
		problems = append(problems, fmt.Errorf("STACK=%s chooses what a new cluster is made of, and KUBE_CONTEXT=%s is an existing one: leave one of them out", s.Stack, s.External.Context))
	}
	if set := values["S3_ENDPOINT"]; set != "" {
		if s.S3Endpoint, err = endpoint.Parse(set); err != nil {
			problems = append(problems, fmt.Errorf("S3_ENDPOINT=%s: %w", set, err))
		}
	}
	return s, errors.Join(problems...)
}
