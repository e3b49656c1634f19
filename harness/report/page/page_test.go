package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/smart-restore/conformance/harness/explain"
	"github.com/smart-restore/conformance/harness/report/timeline"
	"github.com/smart-restore/conformance/harness/verdict"
)

var begin = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }

// hostile is what a log, a manifest or an error may hold.
const hostile = `</script></style></pre><script>alert(1)</script><img src=x onerror=alert(1)>" onload="x' javascript:alert(1) &lt; {{.}} ` + "\u2028`"

// report has something of everything, and what is hostile wherever text can come from outside.
func report() *verdict.Report {
	result := func(id, level string, v verdict.Verdict) verdict.Result {
		return verdict.Result{Requirement: verdict.Requirement{ID: id, Level: level, Sentence: "It holds " + hostile}, Verdict: v,
			Started: at(10), Ended: at(50), DurationSeconds: 40, Rerun: "make e2e FOCUS=" + id, Location: "e2e/x_test.go:7",
			Evidence: []verdict.Evidence{
				{Time: at(11), Kind: verdict.KindFault, Text: "S3 is " + hostile, Data: map[string]any{"fault": "refused", "on": true}},
				{Time: at(12), Kind: "seen", Text: hostile},
			}}
	}
	fail := result("core/restore", verdict.Core, verdict.Fail)
	fail.Message, fail.FailedAt = "it is not back: "+hostile, at(45)
	fail.Evidence = append(fail.Evidence, verdict.Evidence{Time: at(46), Kind: verdict.KindOutcome, Data: verdict.Decision{
		Situation: "backup", Wanted: verdict.Restore, Outcome: verdict.None, AdmittedSeconds: 1.5, Said: hostile}.Data()})
	unknown := result("core/s3-down/500", verdict.Core, verdict.Unknown)
	unknown.Message = hostile
	expected := result("safety/late", verdict.Safety, verdict.Fail)
	expected.ExpectedFailure = "known " + hostile
	skipped := verdict.Result{Requirement: verdict.Requirement{ID: "safety/optional", Level: verdict.Safety, Feature: "relabel"}, Verdict: verdict.NotPromised, Message: "not promised"}
	return &verdict.Report{
		Run:            verdict.Run{ID: "r7", Started: at(0), Ended: at(100), Host: verdict.Host{OS: "linux", CPUs: 2}},
		Implementation: verdict.Implementation{Policy: "policies/" + hostile, SHA256: strings.Repeat("a", 64), Objects: []string{hostile}, Features: verdict.FeatureSupport{Declared: []string{"visible-decision"}}},
		Stack:          verdict.Stack{Name: hostile, Observed: map[string]verdict.Component{hostile: {Version: hostile, ImageID: hostile}}},
		Partial:        []string{hostile}, Phases: []verdict.Phase{{Name: hostile, Started: at(0), DurationSeconds: 9, Error: hostile}},
		Requirements: []verdict.Result{result("core/fresh", verdict.Core, verdict.Pass), fail, unknown, expected, skipped},
		NotSelected:  []string{hostile}, SuiteErrors: []string{hostile},
	}
}

// folder is an artifacts folder with hostile logs.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	event, err := json.Marshal(map[string]any{"time": at(20), "seen": at(20), "namespace": "core-restore-abc234", "object": "Pod/app " + hostile, "type": "Warning", "reason": "Odd", "message": hostile})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"events.jsonl": string(event) + "\n", "report.yaml": "x", "logs/s3/gateway.log": "",
		"logs/core-restore-abc234/app <b>&\"x.log": "x", "dumps/core-restore/pods.yaml": "x",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// element is one of a page's elements.
type element struct {
	name  string
	attrs map[string]string
	text  string // all that is in it
}

func elements(t *testing.T, page []byte) (all []element) {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for node := range doc.Descendants() {
		if node.Type != html.ElementNode {
			continue
		}
		e := element{name: node.Data, attrs: map[string]string{}}
		for _, a := range node.Attr {
			e.attrs[a.Key] = a.Val
		}
		var b strings.Builder
		for inner := range node.Descendants() {
			if inner.Type == html.TextNode {
				b.WriteString(inner.Data)
			}
		}
		e.text = b.String()
		all = append(all, e)
	}
	return all
}

func render(t *testing.T, dir string, r *verdict.Report) ([]byte, []element) {
	t.Helper()
	text, err := Render(dir, r)
	if err != nil {
		t.Fatal(err)
	}
	return text, elements(t, text)
}

func number(all []element, is func(element) bool) (n int) {
	for _, e := range all {
		if is(e) {
			n++
		}
	}
	return n
}

func has(e element, class string) bool {
	return slices.Contains(strings.Fields(e.attrs["class"]), class)
}

func TestThePageSaysWhatTheReportDoes(t *testing.T) {
	_, all := render(t, folder(t), report())
	ids := map[string]element{}
	for _, e := range all {
		if id := e.attrs["id"]; id != "" {
			if _, twice := ids[id]; twice {
				t.Errorf("two elements are called %s", id)
			}
			ids[id] = e
		}
	}
	for _, r := range report().Requirements {
		e, there := ids[Anchor(r.ID)]
		if !there || e.name != "details" || !strings.Contains(e.text, r.ID) || !strings.Contains(e.text, r.Sentence) || !strings.Contains(e.text, r.Message) {
			t.Errorf("%s is not there as it is in the report", r.ID)
		}
	}
	for _, e := range all {
		if target, inner := strings.CutPrefix(e.attrs["href"], "#"); inner {
			if _, there := ids[target]; !there {
				t.Errorf("a link leads nowhere: %s", target)
			}
		}
	}
	for what, n := range map[string]int{
		"h1 1 of 4 requirements does not hold": number(all, func(e element) bool { return e.name == "h1" && e.text == "1 of 4 requirements does not hold" }),
		"the failing moment":                   number(all, func(e element) bool { return has(e, "gave") && strings.Contains(e.text, "35 s") }),
		"a decision": number(all, func(e element) bool {
			return e.name == "tr" && strings.Contains(e.text, "backup") && strings.Contains(e.text, "1.50 s")
		}),
		"the log":         number(all, func(e element) bool { return e.attrs["href"] == "logs/core-restore-abc234/app%20%3Cb%3E&%22x.log" }),
		"the dump":        number(all, func(e element) bool { return e.attrs["href"] == "dumps/core-restore/pods.yaml" }),
		"what is missing": number(all, func(e element) bool { return e.name == "p" && strings.Contains(e.text, "audit.log is not there") }),
	} {
		if n != 1 {
			t.Errorf("%s: %d times", what, n)
		}
	}
	if n := number(all, func(e element) bool { return has(e, "band") }); n != 4 {
		t.Errorf("%d faults are drawn, wanted one for each spec that was tried", n)
	}
	// Beside a failure, also an expected one, stands what it usually means; not beside what is unknown, nor where there is no text.
	for id, wanted := range map[string]bool{"core/restore": true, "core/s3-down/500": false, "core/fresh": false, "safety/late": false} {
		text, _ := explain.Of(id)
		e := ids[Anchor(id)]
		shown := text.Failure != "" && strings.Contains(e.text, text.How) && strings.Contains(e.text, text.Failure) && strings.Contains(e.text, text.Look)
		if shown != wanted {
			t.Errorf("%s: explained is %v", id, shown)
		}
	}
	if e := ids[Anchor("core/restore")]; !strings.Contains(e.text, "pod app ") {
		t.Error("an event is not in the list of what happened")
	}
}

// Nothing of the page is loaded, and nothing that came from outside is more than text.
func TestThePageNeedsAndObeysNothing(t *testing.T) {
	text, all := render(t, folder(t), report())
	for _, e := range all {
		switch e.name {
		case "link", "img", "iframe", "object", "embed", "base", "video", "audio", "svg", "template":
			t.Errorf("there is a <%s>", e.name)
		case "script":
			if e.text != pageJS {
				t.Errorf("a script that is not the page's: %s", e.text)
			}
		case "style":
			if e.text != Style {
				t.Error("a style that is not the page's")
			}
		}
		for name, value := range e.attrs {
			switch {
			case strings.HasPrefix(name, "on"):
				t.Errorf("<%s %s=%q>", e.name, name, value)
			case name == "src" || name == "srcset" || name == "action":
				t.Errorf("<%s %s=%q>", e.name, name, value)
			case name == "href" && !regexp.MustCompile(`^(#|logs/|dumps/|[a-z0-9-]+\.(yaml|json|jsonl|log|xml|txt)$)`).MatchString(value):
				t.Errorf("a link to %q", value)
			case name == "style" && !regexp.MustCompile(`^left:[0-9.]+%(;width:[0-9.]+%)?$`).MatchString(value):
				t.Errorf("a style of %q", value)
			}
		}
	}
	for _, name := range []string{"script", "style"} {
		if n := number(all, func(e element) bool { return e.name == name }); n != 1 {
			t.Errorf("%d <%s>", n, name)
		}
	}
	policy := ""
	for _, e := range all {
		if e.attrs["http-equiv"] == "Content-Security-Policy" {
			policy = e.attrs["content"]
		}
	}
	if policy != "default-src 'none'; style-src 'unsafe-inline'; script-src "+hash(pageJS) {
		t.Errorf("the content security policy is %q", policy)
	}
	for _, word := range []string{"url(", "@import", "http:", "https:", "ZgotmplZ"} {
		if bytes.Contains(text, []byte(word)) {
			t.Errorf("the page has %q in it", word)
		}
	}
	for _, script := range []string{"innerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch("} {
		if strings.Contains(pageJS, script) {
			t.Errorf("the script uses %s", script)
		}
	}
}

// A secret is found before HTML's escapes hide it.
func TestThePageIsRedacted(t *testing.T) {
	const secret = `pass+"word'<&>`
	r := report()
	r.Requirements[1].Message = "the password is " + secret
	r.Redact = func(b []byte) []byte {
		inJSON, _ := json.Marshal(secret)
		b = bytes.ReplaceAll(b, inJSON[1:len(inJSON)-1], []byte("[redacted]"))
		return bytes.ReplaceAll(b, []byte(secret), []byte("[redacted]"))
	}
	dir := folder(t)
	if err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("pass+")) || bytes.Contains(text, []byte("pass&#43;")) || !bytes.Contains(text, []byte("the password is [redacted]")) {
		t.Error("the secret is in the page")
	}
}

func TestAPageIsSmallEnough(t *testing.T) {
	r := report()
	r.Requirements = nil
	long := strings.Repeat("much to say ", 30)
	for i := range 54 {
		result := verdict.Result{Requirement: verdict.Requirement{ID: fmt.Sprintf("core/x%d", i), Level: verdict.Core}, Verdict: verdict.Fail, Message: strings.Repeat(long, 100), Started: at(1), Ended: at(99)}
		for n := range 240 {
			result.Evidence = append(result.Evidence, verdict.Evidence{Time: at(1 + float64(n)/5), Kind: "seen", Text: long})
		}
		r.Requirements = append(r.Requirements, result)
	}
	text, all := render(t, t.TempDir(), r)
	if len(text) > maxBytes {
		t.Errorf("%d bytes", len(text))
	}
	page := string(text)
	for _, want := range []string{"Details were left out", "more characters are in report.yaml"} {
		if !strings.Contains(page, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if n := number(all, func(e element) bool { return e.name == "details" && has(e, "spec") }); n != 54 {
		t.Errorf("%d of 54 specs", n)
	}
}

// Of too many lines those are kept that the spec wrote and that went wrong.
func TestOfTooManyLinesTheTellingOnesAreKept(t *testing.T) {
	dir := folder(t)
	var events []string
	for i := range 50 {
		events = append(events, fmt.Sprintf(`{"time":%q,"seen":%[1]q,"namespace":"core-restore-abc234","object":"Pod/app-%d","type":"Normal","reason":"Odd","message":"x"}`, at(11+float64(i)/10).Format(time.RFC3339Nano), i%5))
	}
	if err := os.WriteFile(filepath.Join(dir, "events.jsonl"), []byte(strings.Join(events, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	r := report()
	s := newSpec(dir, r.Requirements[1], timeline.Read(dir, r), amount{timeline.Default, 6, 100, 1})
	var kept []string
	for i, row := range s.Rows {
		if row.N != i+1 {
			t.Errorf("line %d is called %d", i+1, row.N)
		}
		kept = append(kept, row.Kind)
	}
	slices.Sort(kept)
	if got := strings.Join(kept, " "); got != "fault pod suite suite suite suite" || s.RowsLeftOut < 30 || s.LogsLeftOut != 1 {
		t.Errorf("%s; %d lines and %d logs are left out", got, s.RowsLeftOut, s.LogsLeftOut)
	}
}

func TestAPageOfARunThatTriedNothing(t *testing.T) {
	for name, c := range map[string]struct {
		report *verdict.Report
		want   string
	}{
		"set-up failed": {&verdict.Report{SetupError: "no engine"}, "Set-up failed: nothing was tried"},
		"nothing":       {&verdict.Report{}, "No requirement was tried"},
		"one spec twice": {&verdict.Report{SuiteErrors: []string{"two specs claim it"}, Requirements: []verdict.Result{
			{Requirement: verdict.Requirement{ID: "core/a"}, Verdict: verdict.Pass}, {Requirement: verdict.Requirement{ID: "core/a"}, Verdict: verdict.Pass}}}, "The suite itself had errors"},
	} {
		t.Run(name, func(t *testing.T) {
			_, all := render(t, filepath.Join(t.TempDir(), "no-such-folder"), c.report)
			if n := number(all, func(e element) bool { return e.name == "h1" && e.text == c.want }); n != 1 {
				t.Errorf("it does not begin with %q", c.want)
			}
			ids := map[string]bool{}
			for _, e := range all {
				if id := e.attrs["id"]; id != "" && ids[id] {
					t.Errorf("two elements are called %s", id)
				} else {
					ids[id] = true
				}
			}
		})
	}
}

// Text on its ground has at least the contrast that WCAG 2 AA asks for, light and dark.
func TestTimingsAreShown(t *testing.T) {
	shown := func(timings verdict.Timings) string {
		text, err := Render(t.TempDir(), &verdict.Report{Timings: timings})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, c := range []struct {
		timings verdict.Timings
		want    string
	}{
		{verdict.Timings{Scale: 1.5, Seconds: map[string]float64{"mover": 135}}, "Timings, in seconds, scaled by 1.5</summary>"},
		{verdict.Timings{Scale: 1, Seconds: map[string]float64{"mover": 90}}, "Timings, in seconds</summary>"},
	} {
		if text := shown(c.timings); !strings.Contains(text, c.want) || !strings.Contains(text, `<th scope="row">mover</th>`) {
			t.Errorf("no %q", c.want)
		}
	}
	if strings.Contains(shown(verdict.Timings{}), "Timings, in seconds") {
		t.Error("timings are shown that are not there")
	}
}

func TestContrast(t *testing.T) {
	light, dark, found := strings.Cut(Style, "prefers-color-scheme: dark")
	if !found {
		t.Fatal("there is no dark scheme")
	}
	for name, css := range map[string]string{"light": light, "dark": dark} {
		colors := map[string][3]float64{}
		for _, match := range regexp.MustCompile(`--([a-z0-9-]+): (#[0-9a-f]{3,6});`).FindAllStringSubmatch(css, -1) {
			if _, there := colors[match[1]]; !there {
				colors[match[1]] = rgb(t, match[2])
			}
		}
		for _, pair := range [][2]string{
			{"ink", "bg"}, {"ink", "card"}, {"ink", "sunk"}, {"soft", "bg"}, {"soft", "card"}, {"soft", "sunk"}, {"link", "bg"}, {"link", "card"}, {"ink", "unknown-bg"},
			{"pass", "pass-bg"}, {"fail", "fail-bg"}, {"unknown", "unknown-bg"}, {"expected", "expected-bg"}, {"none", "none-bg"}, {"card", "fail"}, {"card", "unknown"}, {"ink", "fail-bg"},
			{"fail", "card"}, {"fail", "sunk"}, {"unknown", "sunk"}, {"unknown", "card"},
			{"pvc", "sunk"}, {"source", "sunk"}, {"destination", "sunk"}, {"secret", "sunk"}, {"mover", "sunk"}, {"pod", "sunk"}, {"policy", "sunk"}, {"controller", "sunk"}, {"s3", "sunk"}, {"suite", "sunk"}, {"fault", "sunk"},
		} {
			a, hasA := colors[pair[0]]
			b, hasB := colors[pair[1]]
			if !hasA || !hasB {
				t.Errorf("%s: there is no --%s or no --%s", name, pair[0], pair[1])
				continue
			}
			if c := contrast(a, b); c < 4.5 {
				t.Errorf("%s: %s on %s has a contrast of %.2f, wanted 4.5", name, pair[0], pair[1], c)
			}
		}
	}
}

func rgb(t *testing.T, hex string) (color [3]float64) {
	t.Helper()
	digits := hex[1:]
	if len(digits) == 3 {
		digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
	}
	for i := range 3 {
		var n int
		if _, err := fmt.Sscanf(digits[2*i:2*i+2], "%02x", &n); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		color[i] = float64(n) / 255
	}
	return color
}

func contrast(a, b [3]float64) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(c [3]float64) float64 {
	linear := func(v float64) float64 {
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}
