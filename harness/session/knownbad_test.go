package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/verdict"
)

func result(id string, v verdict.Verdict, message string) verdict.Result {
	return verdict.Result{Requirement: verdict.Requirement{ID: id}, Verdict: v, Message: message}
}

func TestRateCatches(t *testing.T) {
	finding := &policy.Finding{Requirement: policy.Label, Text: "it is for others"}
	of := func(results ...verdict.Result) trial { return trial{results: results} }
	good := of(result("core/fresh", verdict.Pass, ""))
	fails := of(result("core/fresh", verdict.Fail, "an RD\nwas made"))
	const worthless = "worthless: the control, the good policy, "
	for _, c := range []struct {
		name    string
		by      string
		tried   trial
		control trial
		caught  bool
		text    string
	}{
		{"by its spec", "core/fresh", fails, good, true, "an RD"},
		{"its spec passed", "core/fresh", of(result("core/fresh", verdict.Pass, "")), good, false, "pass"},
		{"its spec could not see", "core/fresh", of(result("core/fresh", verdict.Unknown, "no log")), good, false, "unknown: no log"},
		{"its spec is not promised", "core/fresh", of(result("core/fresh", verdict.NotPromised, "no promise")), good, false, "not-promised: no promise"},
		{"another spec failed", "core/fresh", of(result("core/restore", verdict.Fail, "x")), good, false, "no spec of that name ran"},
		{"by its finding", policy.Label, trial{found: fmt.Errorf("around: %w", errors.Join(finding))}, good, true, "it is for others [policy/label]"},
		{"another finding", policy.Acts, trial{found: finding}, good, false, "it is for others [policy/label]"},
		{"a finding where a spec was to catch it", "core/fresh", trial{found: finding}, good, false, "it is for others [policy/label]"},
		{"no finding", policy.Label, fails, good, false, "nothing of the kind was found before specs ran"},
		{"an error that is none", policy.Accepted, trial{found: errors.New("no engine")}, good, false, "no engine"},
		{"something went wrong outside the specs", "core/fresh", trial{results: fails.results, suiteErrors: []string{"clean-up\nhung"}}, good, false,
			"does not count, because something went wrong outside the specs: clean-up"},

		{"the control fails, too", "core/fresh", fails, of(result("core/fresh", verdict.Fail, "no node")), false, worthless + "is caught by it, too: no node"},
		{"the control could not see", "core/fresh", fails, of(result("core/fresh", verdict.Unknown, "no log")), false, worthless + "does not pass it: unknown: no log"},
		{"the control was not asked", "core/fresh", fails, of(), false, worthless + "does not pass it: no spec of that name ran"},
		{"the control went wrong outside the specs", "core/fresh", fails, trial{results: good.results, suiteErrors: []string{"hung"}}, false,
			worthless + "does not count, because something went wrong outside the specs: hung"},
		{"the control has the same finding", policy.Label, trial{found: finding}, trial{found: finding}, false, worthless + "is caught by it, too: it is for others [policy/label]"},
		{"the control has a finding", "core/fresh", fails, trial{found: finding}, false, worthless + "is not tried: it is for others [policy/label]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := rateCatches(policy.Contract{Name: "p", CaughtBy: []string{c.by}}, c.tried, c.control)
			if want := (catch{"p", c.by, c.caught, c.text}); len(got) != 1 || got[0] != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// The control is tried first, with all that is to catch anything, and a harness that fails everything catches nothing.
func TestKnownBadHasItsControl(t *testing.T) {
	t.Chdir("../..")
	s := &Session{Settings: &settings.Settings{}, Log: progress.New(io.Discard)}
	suspects, err := s.loadKnownBad([]string{"restore-to-a-side-volume", "block-on-outage"}, []string{
		"core/restore", "core/s3-down/refused", "core/s3-down/black-hole", "core/s3-down/403-bucket",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		verdict verdict.Verdict // of the control
		caught  bool
	}{{verdict.Pass, true}, {verdict.Fail, false}, {verdict.Unknown, false}} {
		var tried []string
		catches, err := s.catchAll(t.Context(), suspects, func(p *policy.Policy, only []string) (trial, error) {
			tried = append(tried, p.Contract.Name+" by "+strings.Join(only, " "))
			var t trial
			for _, id := range only {
				v := verdict.Fail
				if p == suspects[0].control {
					v = c.verdict
				}
				t.results = append(t.results, result(id, v, "why"))
			}
			return t, nil
		})
		if err != nil || len(catches) != 4 {
			t.Fatalf("%v, %+v", err, catches)
		}
		for _, one := range catches {
			if one.Caught != c.caught {
				t.Errorf("the control came to %s: %+v", c.verdict, one)
			}
		}
		if want := "base by core/restore core/s3-down/403-bucket core/s3-down/black-hole core/s3-down/refused"; tried[0] != want {
			t.Errorf("tried first is %s, want %s", tried[0], want)
		}
	}
	catches, err := s.catchAll(t.Context(), suspects, func(*policy.Policy, []string) (trial, error) { return trial{}, errors.New("no engine") })
	want := "the control, base, could not be tried: no engine\nrestore-to-a-side-volume was not tried, because its control was not\nblock-on-outage was not tried, because its control was not"
	if err == nil || err.Error() != want || len(catches) > 0 {
		t.Errorf("a control that could not be tried: %v, %+v", err, catches)
	}
	catches, err = s.catchAll(t.Context(), suspects, func(p *policy.Policy, _ []string) (trial, error) {
		if p == suspects[0].Policy {
			return trial{}, errors.New("no room")
		}
		return trial{}, nil
	})
	if err == nil || err.Error() != "restore-to-a-side-volume could not be tried: no room" || len(catches) != 3 {
		t.Errorf("a policy that could not be tried: %v, %+v", err, catches)
	}
}

// A testbed serves one address of S3.
func TestKnownBadIsTriedByAddress(t *testing.T) {
	at := func(url string) suspect {
		return suspect{&policy.Policy{}, &policy.Policy{Endpoint: endpoint.Endpoint{URL: url}}}
	}
	all := rounds([]suspect{at("http://10.0.0.5:9000"), at("http://10.0.0.6:9000"), at("http://10.0.0.5:9000")})
	if len(all) != 2 || len(all[0]) != 2 || len(all[1]) != 1 {
		t.Errorf("got %d rounds: %+v", len(all), all)
	}
}

// A known-bad policy's contract is held to its folder and to the specs.
func TestAKnownBadContractIsChecked(t *testing.T) {
	t.Chdir("../..")
	s := &Session{Settings: &settings.Settings{}}
	_, err := s.loadKnownBad([]string{"never-restore", "nobody"}, []string{"core/fresh"})
	if err == nil || !strings.Contains(err.Error(), `no spec has the requirement "core/restore"`) || !strings.Contains(err.Error(), `has no "nobody"`) {
		t.Errorf("got %v", err)
	}
}

// A known-bad policy of another stack is left out, unless it was asked for.
func TestKnownBadPoliciesOfAnotherStack(t *testing.T) {
	t.Chdir("../..")
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stack string
		named bool
		want  string // those that are tried, or the error
	}{
		{"kyverno-1.19", false, "names-without-uid"},
		{"kyverno-1.19-csi", false, "names-without-uid populator-same-name"},
		{"kyverno-1.19", true, "POLICY=fixtures/known-bad/populator-same-name: the policy populator-same-name is made for kyverno-1.19-csi"},
	} {
		var log bytes.Buffer
		s := &Session{Settings: &settings.Settings{}, Lock: lock, Stack: &stack.Stack{Name: c.stack}, Log: progress.New(&log)}
		suspects, err := s.loadKnownBad([]string{"names-without-uid", "populator-same-name"}, []string{"safety/stale-destination"})
		if err != nil {
			t.Fatal(err)
		}
		made, err := s.madeForStack(suspects, c.named)
		var got []string
		for _, one := range made {
			got = append(got, one.Contract.Name)
		}
		if text := strings.Join(got, " "); err == nil && text != c.want || err != nil && !strings.HasPrefix(err.Error(), c.want) || err == nil && c.named {
			t.Errorf("%s: got %q, %v, want %q", c.stack, text, err, c.want)
		}
		if said := strings.Contains(log.String(), "not tried here: POLICY=fixtures/known-bad/populator-same-name"); said != (c.stack == "kyverno-1.19" && !c.named) {
			t.Errorf("%s: it said %q", c.stack, log.String())
		}
	}
}

func TestPrintCatches(t *testing.T) {
	var b bytes.Buffer
	if !printCatches(&b, []catch{{"one", "core/fresh", true, "an RD"}, {"other", "core/restore", false, "pass"}}) {
		t.Error("one was missed")
	}
	want := "caught      one    core/fresh    an RD\nNOT CAUGHT  other  core/restore  pass\n1 caught, 1 not caught\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if printCatches(&b, []catch{{"one", "core/fresh", true, ""}}) {
		t.Error("none was missed")
	}
}

// A FOCUS that is an ID selects that spec alone.
func TestFocusOnID(t *testing.T) {
	specs := func() []spec {
		return []spec{{ID: "core/s3-down/reset", Selected: true}, {ID: "core/s3-down/reset-late", Selected: true}}
	}
	for focus, want := range map[string]string{
		"core/s3-down/reset":      "core/s3-down/reset",
		"core/s3-down/reset-late": "core/s3-down/reset-late",
		"core/s3-down":            "core/s3-down/reset core/s3-down/reset-late",
	} {
		listed := specs()
		sel := selection{focus: focus}.onID(listed)
		re := regexp.MustCompile(strings.TrimPrefix(sel.args()[0], "--focus="))
		var selected, matched []string
		for _, sp := range listed {
			if sp.Selected {
				selected = append(selected, sp.ID)
			}
			if re.MatchString("Smart Restore conformance " + sp.ID + " While S3 is down") {
				matched = append(matched, sp.ID)
			}
		}
		if strings.Join(selected, " ") != want || !slices.Equal(selected, matched) {
			t.Errorf("FOCUS=%s selects %v, and Ginkgo %v", focus, selected, matched)
		}
	}
}

// The line that runs a spec again names the settings that the run had.
func TestRerunLine(t *testing.T) {
	run := func(change func(*e2eRun)) string {
		r := &e2eRun{
			Session: &Session{
				Settings: &settings.Settings{Images: "auto", TimeScale: 1},
				Lock:     &stack.Lock{DefaultStack: "kyverno-1.19"}, Stack: &stack.Stack{Name: "kyverno-1.19"},
			},
			report: &verdict.Report{Implementation: verdict.Implementation{Policy: "policies/smart-restore"}},
		}
		change(r)
		return r.rerunLine("core/fresh")
	}
	for want, change := range map[string]func(*e2eRun){
		"make e2e FOCUS=core/fresh":                                    func(*e2eRun) {},
		"make e2e FOCUS=core/fresh POLICY=fixtures/known-bad/x":        func(r *e2eRun) { r.report.Implementation.Policy = "fixtures/known-bad/x" },
		"make e2e FOCUS=core/fresh STACK=kyverno-1.13 POLICY='/my p'":  func(r *e2eRun) { r.Stack.Name = "kyverno-1.13"; r.report.Implementation.Policy = "/my p" },
		"make e2e FOCUS=core/fresh S3_ENDPOINT=http://10.0.0.5:9000":   func(r *e2eRun) { r.Settings.S3Endpoint.URL = "http://10.0.0.5:9000" },
		"make e2e FOCUS=core/fresh IMAGES=build POLICY='it'\\''s/$$x'": func(r *e2eRun) { r.Settings.Images = "build"; r.report.Implementation.Policy = "it's/$x" },
		"make e2e FOCUS=core/fresh KUBE_CONTEXT=home KUBECONFIG=/k ALLOW_CLUSTER=theirs BASE_SECRET_FROM=a/b": func(r *e2eRun) {
			r.Settings.External = settings.ExternalCluster{Context: "home", Kubeconfig: "/k", Allow: "theirs", BaseSecretFrom: "a/b"}
		},
		"make e2e FOCUS=core/fresh  ": func(r *e2eRun) { r.Settings.External.Kubeconfig = "/k" },
	} {
		if got := run(change); got != strings.TrimSpace(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
