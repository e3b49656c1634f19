package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/redact"
)

// recorder is a Reporter that ends a spec by panicking, as Ginkgo does.
type recorder struct{ evidence []string }

type ended struct{ how, reason string }

func (r *recorder) Evidence(kind, text string, _ map[string]any) {
	r.evidence = append(r.evidence, kind+": "+text)
}
func (r *recorder) Fail(reason string)    { panic(ended{"fail", reason}) }
func (r *recorder) Unknown(reason string) { panic(ended{"unknown", reason}) }

// outcome runs a part of a spec and says how it ended.
func outcome(do func()) (end ended) {
	defer func() {
		if e, ok := recover().(ended); ok {
			end = e
		}
	}()
	do()
	return ended{how: "pass"}
}

func newScenario(t *testing.T) (*Scenario, *recorder) {
	t.Helper()
	r := &recorder{}
	return &Scenario{Suite: &Suite{Artifacts: t.TempDir(), Redactor: redact.NewRedactor()}, ID: "core/x", report: r}, r
}

func TestEventually(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		look look
		want ended
	}{
		"there at the first look": {t.Context(), func(context.Context) (bool, string, error) { return true, "", nil }, ended{"pass", ""}},
		"never there": {t.Context(), func(context.Context) (bool, string, error) { return false, "phase Pending", nil },
			ended{"fail", "last seen: phase Pending"}},
		"cannot come any more": {t.Context(), func(context.Context) (bool, string, error) { return false, "", errors.New("the PVC is Lost") },
			ended{"fail", "the PVC is Lost"}},
		"interrupted": {interrupted, func(context.Context) (bool, string, error) { return false, "", nil }, ended{"unknown", "interrupted"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newScenario(t)
			got := outcome(func() { s.eventually(c.ctx, "the end state", 300*time.Millisecond, c.look) })
			if got.how != c.want.how || !strings.Contains(got.reason, c.want.reason) {
				t.Errorf("got %+v, wanted %+v", got, c.want)
			}
		})
	}
}

func TestProgressOfManyProcessesDoesNotMix(t *testing.T) {
	s, _ := newScenario(t)
	for i := range 50 {
		s.Step("step %d", i)
	}
	raw, err := os.ReadFile(filepath.Join(s.Artifacts, ProgressFile))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	for i, line := range lines {
		var p ProgressLine
		if err := json.Unmarshal([]byte(line), &p); err != nil || p.Text != fmt.Sprintf("step %d", i) || p.Spec != "core/x" {
			t.Errorf("line %d: %s, %v", i, line, err)
		}
	}
}

func TestNoSecretGetsIntoProgress(t *testing.T) {
	s, _ := newScenario(t)
	s.Redactor.Add("very-secret-value")
	s.Step("found very-secret-value")
	raw, err := os.ReadFile(filepath.Join(s.Artifacts, ProgressFile))
	if err != nil || strings.Contains(string(raw), "very-secret") {
		t.Errorf("%s, %v", raw, err)
	}
}

func TestAnAbsenceFindsWhatCameAndWent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	event := func(resource, name, destination string) string {
		return fmt.Sprintf(`{"kind":"Event","stage":"ResponseComplete","verb":"create","user":{"username":"kyverno"},"objectRef":{"resource":%q,"namespace":"ns","name":%q},"responseStatus":{"code":201},"requestReceivedTimestamp":%q,"stageTimestamp":%[3]q,"responseObject":{"metadata":{"name":%[2]q},"spec":{"restic":{"destinationPVC":%[4]q}}}}`,
			resource, name, time.Now().UTC().Format(time.RFC3339Nano), destination)
	}
	log := strings.Join([]string{
		event("replicationdestinations", "other-restore", "other"),
		event("replicationdestinations", "odd-name", "data"),
		event("replicationsources", "data-backup", ""),
	}, "\n") + "\n"
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	audit := creations.OpenAudit(path)
	defer func() { _ = audit.Close() }()
	for resources, want := range map[string]int{"replicationdestinations": 1, "replicationsources": 1, "secrets": 0} {
		a := Absence{Namespace: "ns", PVC: "data", Since: time.Now().Add(-time.Minute), Resources: []string{resources}}
		found, err := a.Violations(t.Context(), audit)
		if err != nil || len(found) != want {
			t.Errorf("%s: %v, %v, wanted %d", resources, found, err, want)
		}
	}
	later := Absence{Namespace: "ns", PVC: "data", Since: time.Now().Add(time.Minute), Resources: []string{"replicationdestinations"}}
	if found, err := later.Violations(t.Context(), audit); err != nil || len(found) > 0 {
		t.Errorf("what came before counts: %v, %v", found, err)
	}
}

func TestHostNamesDiffer(t *testing.T) {
	long := strings.Repeat("letters-", 7)
	seen := map[string]string{}
	for _, name := range []string{"app-data", "app-a.b", "app-a-b", "app-" + long + "1", "app-" + long + "2", strings.Repeat("x", 253)} {
		got := hostName(name)
		if other, taken := seen[got]; taken || len(got) > 63 || strings.Contains(got, ".") {
			t.Errorf("%q becomes %q, as does %q", name, got, other)
		}
		seen[got] = name
	}
}
