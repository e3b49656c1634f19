package verdict

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

type junitSuites struct {
	XMLName xml.Name `xml:"testsuites"`
	junitCounts
	Suites []junitSuite `xml:"testsuite"`
}

type junitCounts struct {
	Name     string `xml:"name,attr"`
	Tests    int    `xml:"tests,attr"`
	Failures int    `xml:"failures,attr"`
	Errors   int    `xml:"errors,attr"`
	Time     string `xml:"time,attr"`
}

type junitSuite struct {
	junitCounts
	Skipped    int             `xml:"skipped,attr"`
	Timestamp  string          `xml:"timestamp,attr,omitempty"`
	Properties []junitProperty `xml:"properties>property,omitempty"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	ClassName string        `xml:"classname,attr"`
	Time      string        `xml:"time,attr"`
	Failure   *junitProblem `xml:"failure,omitempty"`
	Error     *junitProblem `xml:"error,omitempty"`
	Skipped   *junitSkipped `xml:"skipped,omitempty"`
	Out       string        `xml:"system-out,omitempty"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

// WriteJUnit writes the report as JUnit XML, whole or not at all: a test case a
// requirement, named by its ID and classed by its level. A failure's type is
// "fail", "unknown" or "surprise". What failed as expected and what the policy
// does not promise is skipped, with the reason. A set-up error is an error of a
// case "setup", what went wrong around the specs of a case "suite".
func (r *Report) WriteJUnit(path string) error {
	suite := junitSuite{
		junitCounts: junitCounts{Name: "smart-restore conformance", Time: junitTime(max(0, seconds(r.Run.Ended.Sub(r.Run.Started))))},
		Properties: []junitProperty{
			{"run", r.Run.ID}, {"stack", r.Stack.Name}, {"policy", r.Implementation.Policy}, {"policy.sha256", r.Implementation.SHA256},
		},
	}
	if !r.Run.Started.IsZero() {
		suite.Timestamp = r.Run.Started.UTC().Format("2006-01-02T15:04:05")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Stack.Observed)) {
		suite.Properties = append(suite.Properties, junitProperty{"observed." + name, r.Stack.Observed[name].Version})
	}
	for _, p := range r.Partial {
		suite.Properties = append(suite.Properties, junitProperty{"partial", p})
	}
	around := func(name, text string) {
		if text == "" {
			return
		}
		suite.Errors++
		suite.Cases = append(suite.Cases, junitCase{
			Name: name, ClassName: "suite", Time: junitTime(0),
			Error: &junitProblem{Message: FirstLine(text), Type: name, Text: text},
		})
	}
	around("setup", r.SetupError)
	for _, result := range r.Requirements {
		c := junitCase{Name: result.ID, ClassName: cmp.Or(result.Level, "other"), Time: junitTime(result.DurationSeconds)}
		var out strings.Builder
		switch {
		case result.Fails():
			suite.Failures++
			text := strings.TrimSpace(result.Why() + "\n" + result.Location + "\n" + result.Rerun)
			c.Failure = &junitProblem{Message: FirstLine(result.Why()), Type: result.Word(), Text: text}
		case result.outcome() != good:
			suite.Skipped++
			c.Skipped = &junitSkipped{Message: result.Word() + ": " + FirstLine(strings.TrimPrefix(result.Why(), "expected: "))}
			fmt.Fprintln(&out, result.Why())
		}
		if result.Sentence != "" {
			fmt.Fprintln(&out, result.Sentence)
		}
		for _, e := range result.Evidence {
			fmt.Fprintf(&out, "%s %s: %s\n", e.Time.UTC().Format(time.RFC3339Nano), e.Kind, e.Text)
		}
		c.Out = out.String()
		suite.Cases = append(suite.Cases, c)
	}
	around("suite", strings.Join(r.SuiteErrors, "\n"))
	suite.Tests = len(suite.Cases)

	text, err := xml.MarshalIndent(junitSuites{junitCounts: suite.junitCounts, Suites: []junitSuite{suite}}, "", "  ")
	if err != nil {
		return fmt.Errorf("JUnit report: %w", err)
	}
	return r.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...))
}

func junitTime(s float64) string { return fmt.Sprintf("%.3f", s) }
