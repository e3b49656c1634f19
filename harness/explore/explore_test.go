package explore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/explore/picture"
	"github.com/smart-restore/conformance/harness/policy"
)

// fake is a simulator whose workers say what they are told to.
type fake struct {
	says  func(given history.Given) []history.Message
	fails error
}

func (f fake) Explore(_ context.Context, given history.Given, tell func(history.Message)) error {
	for _, m := range f.says(given) {
		tell(m)
	}
	return f.fails
}

var taken = history.Message{Kyverno: "Kyverno v1", Policies: []play.Acceptance{{Kind: "MutatingPolicy", Name: "good"}}}

func load(t *testing.T, name string) *policy.Policy {
	t.Helper()
	p, err := policy.Load(filepath.Join("..", "..", "policies", name), endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func finding(invariant string, events ...history.Event) history.Message {
	return history.Message{Finding: &history.Finding{Violation: history.Violation{Invariant: invariant, Text: "it was lost", Event: 1}, Events: events, Millis: 1500, Histories: 3}}
}

var (
	one = history.Event{Do: "create", PVC: "shop/data", How: "clean"}
	two = history.Event{Do: "hour"}
)

func TestWhatIsSaidOfAPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		says   func(history.Given) []history.Message
		fails  error
		ok     bool
		err    string
		text   []string
	}{
		"no finding": {"smart-restore", func(history.Given) []history.Message {
			return []history.Message{taken, {Histories: 50, Events: 1500}, {Histories: 50, Events: 1500}, {Done: true}}
		}, nil, true, "", []string{"200 histories of 30 events", "with seed 7: 0 findings"}},
		"two workers find the same: the shorter history is told": {"smart-restore", func(given history.Given) []history.Message {
			if given.Worker == 0 {
				return []history.Message{taken, finding("b/removed", one, two, two)}
			}
			return []history.Message{taken, finding("b/removed", one, two)}
		}, nil, false, "", []string{
			"fail  b/removed: The last good snapshot", " 1. PVC shop/data is created: clean   ← here", " 2. the next full hour comes", "again: make explore REPLAY=", "smart-restore-b-removed.yaml", "1 findings",
		}},
		"what the contract does not promise": {"clusterpolicy", func(_ history.Given) []history.Message {
			return []history.Message{taken, finding("a", one), finding("b/overwritten", one), finding("e/backup", one), {Done: true}}
		}, nil, true, "", []string{
			"not asked  e: ClusterPolicy/smart-restore-restored changes what exists, which is not played",
			"fail, expected  a: What an app wrote", "as its contract says of safety/restore-beside-app: nothing keeps a restore", "as its contract says of safety/bucket-forgets: no mover is refused",
		}},
		"another one than that": {"clusterpolicy", func(_ history.Given) []history.Message {
			return []history.Message{taken, finding("a", one), finding("c", one), {Done: true}}
		}, nil, false, "", []string{"fail  c: No volume holds"}},
		"a policy that is not taken is unknown": {"smart-restore", func(history.Given) []history.Message {
			return []history.Message{{Kyverno: "Kyverno v1", Policies: []play.Acceptance{{Kind: "GeneratingPolicy", Name: "odd", Problems: []play.Problem{{Field: "spec", Text: "no"}}}}}}
		}, errors.New("it came to no end"), false, "", []string{"unknown  smart-restore: GeneratingPolicy/odd is not taken: spec no"}},
		"a policy that cannot be played is unknown": {"smart-restore", func(history.Given) []history.Message {
			return []history.Message{{Policies: []play.Acceptance{{Kind: "ClusterPolicy", Name: "odd", Unjudged: "it validates"}}}}
		}, nil, false, "", []string{"unknown  smart-restore: only a cluster can tell: ClusterPolicy/odd (it validates)"}},
		"what is applied without Kyverno is unknown": {"plain", nil, nil, false, "", []string{"unknown  plain: only a cluster can tell"}},
		"a history that cannot be played is unknown": {"smart-restore", func(history.Given) []history.Message {
			return []history.Message{taken, {Unplayed: "event 3: the simulated cluster has no Lease"}, {Done: true}}
		}, nil, false, "", []string{"unknown  a history could not be played to its end: event 3"}},
		"no history that was played is no proof": {"smart-restore", func(history.Given) []history.Message {
			return []history.Message{taken, {Done: true}}
		}, nil, false, "", []string{"unknown  no history was played to its end\n"}},
		"a simulator that dies": {"smart-restore", func(history.Given) []history.Message { return nil }, errors.New("killed"), false, "killed", nil},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Run(t.Context(), load(t, c.policy), fake{c.says, c.fails}, Options{For: time.Second, Seed: 7, Workers: 2, Folder: t.TempDir()}, nil)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			if err := report.Text(&text); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.text {
				if !strings.Contains(text.String(), want) {
					t.Errorf("it says\n%s\nwant %q", text.String(), want)
				}
			}
			if report.OK() != c.ok {
				t.Errorf("ok: %v, want %v", report.OK(), c.ok)
			}
		})
	}
}

// What was found is not lost where a person ends it, or where the disk is full.
func TestWhatWasFoundIsKept(t *testing.T) {
	p := load(t, "smart-restore")
	ctx, interrupt := context.WithCancel(t.Context())
	found := fake{func(history.Given) []history.Message { return []history.Message{taken, finding("a", one, two)} }, nil}
	ended := fake{func(given history.Given) []history.Message {
		interrupt()
		return found.says(given)
	}, errors.New("signal: killed")}
	report, err := Run(ctx, p, ended, Options{Seed: 7, Workers: 2, Folder: t.TempDir()}, nil)
	if err == nil || err.Error() != "interrupted: context canceled" {
		t.Errorf("interrupted: %v", err)
	}
	if len(report.Findings) != 1 {
		t.Fatalf("interrupted: %+v, want the finding", report.Findings)
	}
	if _, err := os.Stat(report.Findings[0].File); err != nil {
		t.Errorf("interrupted: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	report, err = Run(t.Context(), p, found, Options{Seed: 7, Workers: 1, Folder: filepath.Join(file, "explore")}, nil)
	if err == nil || len(report.Findings) != 1 || report.Findings[0].File != "" {
		t.Errorf("nowhere to write to: %v, %+v, want the finding, and no file that is not there", err, report.Findings)
	}
}

func TestAFindingIsPlayedAgainFromItsFile(t *testing.T) {
	folder := t.TempDir()
	p := load(t, "smart-restore")
	report, err := Run(t.Context(), p, fake{func(history.Given) []history.Message { return []history.Message{taken, finding("a", one, two)} }, nil}, Options{Seed: 7, Workers: 1, Folder: folder}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := report.Findings[0].File
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"#  1. PVC shop/data is created: clean\n", "apiVersion: " + fileVersion, "seed: 7", "invariant: a", "policy: smart-restore"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s says\n%s\nwant %q", file, raw, want)
		}
	}
	var played []history.Event
	again, err := Replay(t.Context(), p, fake{func(given history.Given) []history.Message {
		played = given.Replay
		return []history.Message{taken, {Histories: 1}, {Done: true}}
	}, nil}, file)
	if err != nil {
		t.Fatal(err)
	}
	if !again.OK() {
		t.Errorf("%+v, want no finding", again)
	}
	if !slices.Equal(played, []history.Event{one, two}) {
		t.Errorf("played were %+v", played)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"another version":   {"apiVersion: conformance.smart-restore.io/history/v9\nkind: History\nevents: [{do: hour}]\n", `found "conformance.smart-restore.io/history/v9"`},
		"something else":    {"apiVersion: v1\nkind: ConfigMap\n", `found "v1" and "ConfigMap"`},
		"no events":         {"apiVersion: " + fileVersion + "\nkind: History\n", "it has no events"},
		"an unknown field":  {"apiVersion: " + fileVersion + "\nkind: History\nevents: [{do: hour, who: me}]\n", "who"},
		"an unknown event":  {"apiVersion: " + fileVersion + "\nkind: History\nevents: [{do: hour}, {do: explode}]\n", `event 2: there is no event "explode"`},
		"an unknown outage": {"apiVersion: " + fileVersion + "\nkind: History\nevents: [{do: s3-down, how: unplugged}]\n", "event 1: s3-down happens in one of the ways"},
		"no YAML":           {"{", "REPLAY="},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "h.yaml")
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(file, []history.Fault{{Name: "refused"}}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none.yaml"), nil); err == nil {
		t.Error("a file that is not there is read")
	}
}

func TestForesee(t *testing.T) {
	seen := []picture.Picture{{"shop/data": {Claim: picture.There}}}
	violation := &history.Violation{Invariant: "a", Event: 2}
	for name, c := range map[string]struct {
		policy    string
		says      []history.Message
		fails     error
		pictures  int
		violation string
		err       string
	}{
		"pictures":           {"smart-restore", []history.Message{taken, {Done: true, Pictures: seen}}, nil, 1, "", ""},
		"and what is broken": {"smart-restore", []history.Message{taken, {Done: true, Pictures: seen, Violation: violation}}, nil, 1, "a", ""},
		"not to its end":     {"smart-restore", []history.Message{taken, {Done: true, Unplayed: "event 2: no such object"}}, nil, 0, "", "event 2: no such object"},
		"not taken": {
			"smart-restore", []history.Message{{Policies: []play.Acceptance{{Kind: "MutatingPolicy", Name: "bad", Problems: []play.Problem{{Text: "a typo"}}}}}}, errors.New("it came to no end"), 0, "",
			"MutatingPolicy/bad is not taken: a typo",
		},
		"the simulator ends early": {"smart-restore", []history.Message{taken}, errors.New("it came to no end"), 0, "", "it came to no end"},
	} {
		t.Run(name, func(t *testing.T) {
			var given history.Given
			got, err := Foresee(t.Context(), load(t, c.policy), fake{func(g history.Given) []history.Message { given = g; return c.says }, c.fails}, []history.Event{one, two})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !given.Pictures || !slices.Equal(given.Replay, []history.Event{one, two}) {
				t.Errorf("the simulator was not asked for pictures of the history: %+v", given.Replay)
			}
			if broken := got.Violation; len(got.Pictures) != c.pictures || (broken == nil) != (c.violation == "") || broken != nil && broken.Invariant != c.violation {
				t.Errorf("%+v, want %d pictures and %q", got, c.pictures, c.violation)
			}
		})
	}
}
