package verdict

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/smart-restore/conformance/harness/artifacts"
)

// What report.yaml says it is.
const (
	APIVersion = "conformance.smart-restore.io/v1alpha1"
	Kind       = "Report"
)

// Result is what a run found about one requirement.
type Result struct {
	Requirement
	Verdict         Verdict   `json:"verdict"`
	Started         time.Time `json:"started,omitzero"`
	Ended           time.Time `json:"ended,omitzero"`
	DurationSeconds float64   `json:"durationSeconds"`
	// FailedAt is when it gave up, before clean-up.
	FailedAt time.Time  `json:"failedAt,omitzero"`
	Evidence []Evidence `json:"evidence,omitempty"`
	// Message is why it did not pass.
	Message string `json:"message,omitempty"`
	// ExpectedFailure is why the policy is known not to meet the requirement:
	// a failure then does not fail the run, a pass does.
	ExpectedFailure string `json:"expectedFailure,omitempty"`
	// Location is where it failed or, if it did not, where the spec is: file:line.
	Location string `json:"location,omitempty"`
	// Rerun is the command that runs this requirement alone.
	Rerun string `json:"rerun,omitempty"`
}

// Report says all about one run; Write makes report.yaml and report.json of it.
type Report struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	Run            Run            `json:"run"`
	Implementation Implementation `json:"implementation"`
	Stack          Stack          `json:"stack"`
	Selection      Selection      `json:"selection"`
	// Partial says why this run says less than a full one: filtered, skipped,
	// not reached, tried again, on a stack that was up before.
	Partial []string `json:"partial,omitempty"`
	Phases  []Phase  `json:"phases,omitempty"`
	// Timings are the bounds within which the run looked and waited.
	Timings      Timings  `json:"timings,omitzero"`
	Requirements []Result `json:"requirements"`
	// NotSelected are IDs.
	NotSelected []string `json:"notSelected,omitempty"`
	// Counts is made by Write; Count computes it.
	Counts Counts `json:"summary"`
	// Levels is Counts for each level; what was not selected is in none.
	Levels map[string]Counts `json:"levels,omitempty"`
	// SetupError is why no spec could run.
	SetupError string `json:"setupError,omitempty"`
	// SuiteErrors are what went wrong that is not about a requirement: a panic, a
	// clean-up, an interrupt, a leaked secret. One of a spec begins with its ID.
	// They fail the run, and change no verdict.
	SuiteErrors []string `json:"suiteErrors,omitempty"`

	// Redact, when set, passes over every byte that Write, WriteJUnit, Summary
	// and Markdown put out.
	Redact func([]byte) []byte `json:"-"`
}

// Timings are the bounds, windows and pauses of a run, as they were used: with the scale in them.
type Timings struct {
	// Scale is the factor for slow machines, 1 on others.
	Scale   float64            `json:"scale"`
	Seconds map[string]float64 `json:"seconds"` // by name
}

// Run is when and where, and by which suite.
type Run struct {
	ID string `json:"id"`
	// Suite is this suite's version, or the commit of its checkout, with "+"
	// where files were not as committed.
	Suite   string    `json:"suite,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Host    Host      `json:"host"`
}

// Host is the machine that the cluster ran on.
type Host struct {
	OS            string `json:"os,omitempty"`
	Kernel        string `json:"kernel,omitempty"`
	Arch          string `json:"arch,omitempty"`
	CPUs          int    `json:"cpus,omitempty"`
	MemoryBytes   int64  `json:"memoryBytes,omitempty"`
	DiskFreeBytes int64  `json:"diskFreeBytes,omitempty"`
	Engine        string `json:"engine,omitempty"` // name and version
}

// Implementation is the policy under test.
type Implementation struct {
	Policy string `json:"policy"` // path
	// Name and Description are the contract's.
	Name        string `json:"name,omitempty"`
	Description string `json:"description,omitempty"`
	// SHA256 is of the bytes as they were applied, in hex.
	SHA256 string `json:"sha256,omitempty"`
	// Objects are what these bytes define: kind/name.
	Objects []string `json:"objects,omitempty"`
	// Features are what it promises beyond core and safety. Only Declared is
	// set by who makes the report; Write finds out the rest.
	Features FeatureSupport `json:"features,omitzero"`
}

// Stack is what the policy ran on.
type Stack struct {
	Name  string `json:"name"`
	Nodes int    `json:"nodes,omitempty"` // how many its cluster has, where they are several
	// Endpoint is the S3 address that the policy names and that was used, Images
	// where images came from.
	Endpoint  string            `json:"endpoint,omitempty"`
	Images    string            `json:"images,omitempty"`
	Requested map[string]string `json:"requested,omitempty"` // component → version
	// Observed is what the cluster itself said, by component.
	Observed map[string]Component `json:"observed,omitempty"`
	// ExternalCluster is set where the cluster was there before.
	ExternalCluster ExternalCluster `json:"externalCluster,omitzero"`
}

// ExternalCluster is what a run said and saw of a cluster that was there before.
type ExternalCluster struct {
	// Name is the cluster's in the kubeconfig, of which Context is the context.
	Name    string `json:"name"`
	Context string `json:"context"`
	// BaseSecretFrom is where its credentials were: namespace/name.
	BaseSecretFrom string `json:"baseSecretFrom,omitempty"`
	// Plan is what was said before anything was made.
	Plan []string `json:"plan,omitempty"`
	// Left is what of the run was found after it.
	Left []string `json:"left,omitempty"`
}

// Component is one part of a stack as the cluster reported it.
type Component struct {
	Version string `json:"version,omitempty"`
	Image   string `json:"image,omitempty"`
	ImageID string `json:"imageID,omitempty"`
}

// Selection is which specs ran, and how.
type Selection struct {
	Focus  string `json:"focus,omitempty"`
	Labels string `json:"labels,omitempty"`
	// Whole says that neither is set: all ran but those that run on request.
	Whole bool `json:"whole,omitempty"`
	// EndpointSetting is the S3 address that S3_ENDPOINT set instead of the
	// contract's.
	EndpointSetting string `json:"endpointSetting,omitempty"`
	// RerunOf is the ID of the run of which this one tries again what failed or
	// was unknown.
	RerunOf   string `json:"rerunOf,omitempty"`
	Procs     int    `json:"procs,omitempty"`
	Keep      string `json:"keep,omitempty"`
	KeptStack bool   `json:"keptStack,omitempty"` // ran on a stack that was up before
}

// Counts are of requirements, each in one of them.
type Counts struct {
	Pass int `json:"pass"`
	Fail int `json:"fail"`
	// ExpectedFail are failures that were expected, Surprise what passed
	// although it was expected to fail.
	ExpectedFail int `json:"expectedFail"`
	Surprise     int `json:"surprise"`
	Unknown      int `json:"unknown"`
	NotPromised  int `json:"notPromised"`
	NotSelected  int `json:"notSelected"`
}

// outcome is what a result means for the run.
type outcome int

const (
	good outcome = iota
	failed
	expectedFail
	surprise
	unseen
	notPromised
)

// outcome tells results apart; one without a verdict is unknown, and what is
// unknown was not expected.
func (r Result) outcome() outcome {
	expected := r.ExpectedFailure != ""
	switch {
	case r.Verdict == Pass && expected:
		return surprise
	case r.Verdict == Pass:
		return good
	case r.Verdict == Fail && expected:
		return expectedFail
	case r.Verdict == Fail:
		return failed
	case r.Verdict == NotPromised:
		return notPromised
	}
	return unseen
}

// Fails reports whether the result keeps the run from being good.
func (r Result) Fails() bool {
	o := r.outcome()
	return o == failed || o == surprise || o == unseen
}

// Why says in words why a result is not simply a pass.
func (r Result) Why() string {
	switch r.outcome() {
	case expectedFail:
		return "expected: " + r.ExpectedFailure + "\n" + r.Message
	case surprise:
		return "expected to fail (" + r.ExpectedFailure + ") but passed: remove it from expectedFailures in the policy's conformance.yaml"
	}
	return r.Message
}

// Word is the result in a word or two.
func (r Result) Word() string {
	switch r.outcome() {
	case expectedFail:
		return "fail, expected"
	case surprise:
		return "surprise"
	case unseen:
		return string(Unknown)
	}
	return string(r.Verdict)
}

// Expect takes over why requirements are expected to fail, by ID.
func (r *Report) Expect(reasons map[string]string) {
	for i := range r.Requirements {
		r.Requirements[i].ExpectedFailure = reasons[r.Requirements[i].ID]
	}
}

// Count counts the verdicts. A result without one counts as unknown.
func (r *Report) Count() Counts {
	c := count(r.Requirements)
	c.NotSelected = len(r.NotSelected)
	return c
}

// CountByLevel counts the verdicts of each level that has any.
func (r *Report) CountByLevel() map[string]Counts {
	byLevel := map[string][]Result{}
	for _, result := range r.Requirements {
		level := cmp.Or(result.Level, OtherLevel)
		byLevel[level] = append(byLevel[level], result)
	}
	counts := map[string]Counts{}
	for level, results := range byLevel {
		counts[level] = count(results)
	}
	return counts
}

func count(results []Result) (c Counts) {
	for _, result := range results {
		switch result.outcome() {
		case good:
			c.Pass++
		case failed:
			c.Fail++
		case expectedFail:
			c.ExpectedFail++
		case surprise:
			c.Surprise++
		case notPromised:
			c.NotPromised++
		default:
			c.Unknown++
		}
	}
	return c
}

// Failures is how many things keep the run from being good: requirements that
// failed, passed as a surprise or are unknown, the set-up, and the suite's own
// errors. It is the second number of the summary's last line, and of
// JUnit.
func (r *Report) Failures() int {
	c := r.Count()
	n := c.Fail + c.Surprise + c.Unknown
	if r.SetupError != "" {
		n++
	}
	if len(r.SuiteErrors) > 0 {
		n++
	}
	return n
}

// OK reports whether the run was good: at least one requirement was selected,
// all that were passed, failed as expected or are not promised, and nothing went
// wrong around them.
func (r *Report) OK() bool {
	return len(r.Requirements) > 0 && r.Failures() == 0
}

// Add takes over what FromGinkgo read.
func (r *Report) Add(results []Result, info SuiteInfo) {
	r.Requirements = append(r.Requirements, results...)
	r.NotSelected = append(r.NotSelected, info.NotSelected...)
	r.Partial = slices.Concat(r.Partial, info.Partial, info.Irregular)
	r.SuiteErrors = append(r.SuiteErrors, info.Errors...)
	if r.SetupError == "" {
		r.SetupError = info.SetupError
	}
}

// Write writes report.yaml and report.json into dir, which it makes; each
// appears whole or not at all.
func (r *Report) Write(dir string) error {
	inYAML, text, err := r.encode()
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return errors.Join(
		r.WriteFile(artifacts.Dir(dir).ReportYAML(), inYAML),
		r.WriteFile(artifacts.Dir(dir).ReportJSON(), append(text, '\n')),
	)
}

// notInYAML are the characters that JSON has in a text as they are, and YAML
// not.
var notInYAML = regexp.MustCompile(`[\x{7f}-\x{9f}\x{feff}\x{fffe}\x{ffff}]`)

// encode is the report as it is written, before it is redacted. The JSON is
// YAML, too, and so is read as that.
func (r *Report) encode() (inYAML, inJSON []byte, err error) {
	r.complete()
	if inJSON, err = json.MarshalIndent(r, "", "  "); err != nil {
		return nil, nil, err
	}
	inJSON = notInYAML.ReplaceAllFunc(inJSON, func(char []byte) []byte { return fmt.Appendf(nil, `\u%04x`, bytes.Runes(char)[0]) })
	var content any
	if err := yaml.Unmarshal(inJSON, &content); err != nil {
		return nil, nil, err
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	err = errors.Join(encoder.Encode(content), encoder.Close())
	return text.Bytes(), inJSON, err
}

// complete makes what follows from the rest.
func (r *Report) complete() {
	r.APIVersion, r.Kind = APIVersion, Kind
	r.Counts, r.Levels = r.Count(), r.CountByLevel()
	r.Implementation.Features = SupportOf(r.Implementation.Features.Declared, r.Requirements)
	if r.Requirements == nil {
		r.Requirements = []Result{}
	}
}

// WriteFile is WriteFile, redacted.
func (r *Report) WriteFile(path string, text []byte) error { return WriteFile(path, r.redact(text)) }

// WriteFile replaces a file at once, in a folder that it makes where there is none.
func WriteFile(path string, text []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Redacted is a copy of the report with every secret replaced, to be put into
// a form in which Redact would not find them any more.
func (r *Report) Redacted() (*Report, error) {
	r.complete()
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	clean := &Report{Redact: r.Redact}
	if err := json.Unmarshal(r.redact(text), clean); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return clean, nil
}

func (r *Report) redact(b []byte) []byte {
	if r.Redact == nil {
		return b
	}
	return r.Redact(b)
}
