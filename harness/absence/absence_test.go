package absence

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/creations"
)

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

// An object counts as made for a PVC by its name where that is as promised, or begins with the PVC's and is not promised to
// begin otherwise.
func TestAbsencesKnowNames(t *testing.T) {
	for _, c := range []struct {
		promised, name string
		want           bool
	}{
		{"", "data-restic", true}, {"", "other", false}, {"", "data", false},
		{"data-x", "data-x", true}, {"data-x", "data-y", true}, {"data-x", "other-x", false},
		{"restic-data", "restic-data", true}, {"restic-data", "data-of-another", false}, {"restic-data", "restic-other", false},
	} {
		a := Absence{PVC: "data", Names: map[string]string{"secrets": c.promised}}
		if got := a.looksLike("secrets", c.name); got != c.want {
			t.Errorf("%q promised, %q found: %v", c.promised, c.name, got)
		}
	}
}

func TestBackupsArePodsThatReadThePVC(t *testing.T) {
	pod := func(job, claim string) creations.CreatedObject {
		return creations.CreatedObject{Name: job + "-x", Raw: map[string]any{
			"metadata": map[string]any{"labels": map[string]any{"batch.kubernetes.io/job-name": job}},
			"spec": map[string]any{"volumes": []any{
				map[string]any{"name": "cache", "persistentVolumeClaim": map[string]any{"claimName": job + "-cache"}},
				map[string]any{"name": "data", "persistentVolumeClaim": map[string]any{"claimName": claim}},
			}},
		}}
	}
	a := Absence{PVC: "data"}
	for name, c := range map[string]struct {
		object creations.CreatedObject
		want   bool
	}{
		"a backup":           {pod("volsync-src-data-1", "data"), true},
		"a restore":          {pod("volsync-dst-data-1", "data"), false},
		"another's":          {pod("volsync-src-data-2", "data-2"), false},
		"of a copy":          {pod("volsync-src-source", "volsync-source-src"), true},
		"of another's copy":  {pod("volsync-src-source-2", "volsync-source-2-src"), false},
		"a copy is restored": {pod("volsync-dst-source", "volsync-source-dest"), false},
		"an app":             {pod("", "data"), false},
		"not to tell":        {creations.CreatedObject{Name: "data-x"}, false},
	} {
		if got := a.isAbout(Backups, c.object, []string{"source"}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
