package absence

import (
	"context"
	"errors"
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

// What says that it is for another PVC is not taken for this one's because the other's name begins with this one's.
func TestWhatIsForAnotherPVCIsNotTakenForOnes(t *testing.T) {
	spec := func(content map[string]any) map[string]any { return map[string]any{"spec": content} }
	owned := func(by string) map[string]any {
		return map[string]any{"metadata": map[string]any{"ownerReferences": []any{map[string]any{"kind": "PersistentVolumeClaim", "name": by}}}}
	}
	restic := func(pvc string) map[string]any {
		return spec(map[string]any{"restic": map[string]any{"destinationPVC": pvc}})
	}
	for name, c := range map[string]struct {
		object   creations.CreatedObject
		promised string
		want     bool
	}{
		"its own":                            {creations.CreatedObject{Name: "data-restore", Raw: restic("data")}, "", true},
		"another's restore":                  {creations.CreatedObject{Name: "data-2-restore", Raw: restic("data-2")}, "", false},
		"another's backup":                   {creations.CreatedObject{Name: "data-2-backup", Raw: spec(map[string]any{"sourcePVC": "data-2"})}, "", false},
		"another's Secret":                   {creations.CreatedObject{Name: "data-2-restic", Raw: owned("data-2")}, "", false},
		"another's, with a name as promised": {creations.CreatedObject{Name: "data-2-restore", Raw: restic("data-2")}, "data-restore", false},
		"its own, of a name for another":     {creations.CreatedObject{Name: "data-2-restore", Raw: owned("data")}, "", true},
		"its promised name":                  {creations.CreatedObject{Name: "data-restore", Raw: restic("a-copy")}, "data-restore", true},
		"filled from, and says nothing":      {creations.CreatedObject{Name: "data-restore", Raw: restic("")}, "", true},
		"nothing but a name is known":        {creations.CreatedObject{Name: "data-2-restore"}, "", true},
	} {
		a := Absence{PVC: "data", Names: map[string]string{ReplicationDestinations: c.promised}, Resources: []string{ReplicationDestinations}}
		found, err := a.Violations(t.Context(), made{ReplicationDestinations: {c.object}})
		if err != nil || (len(found) > 0) != c.want {
			t.Errorf("%s: %q, %v", name, found, err)
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
	source := func(name, pvc string) creations.CreatedObject {
		return creations.CreatedObject{Name: name, Raw: map[string]any{"spec": map[string]any{"sourcePVC": pvc}}}
	}
	copied := func(name, owner, of string) creations.CreatedObject {
		return creations.CreatedObject{Name: name, Raw: map[string]any{"metadata": map[string]any{
			"ownerReferences": []any{map[string]any{"kind": owner, "name": of}},
		}}}
	}
	known := made{
		ReplicationSources: {source("hourly", "data"), source("theirs", "data-2")},
		claims: {
			{Name: "data"}, copied("volsync-hourly-src", "ReplicationSource", "hourly"), copied("volsync-theirs-src", "ReplicationSource", "theirs"),
			copied("volsync-hourly-dest", "ReplicationDestination", "hourly"),
		},
	}
	for name, c := range map[string]struct {
		object creations.CreatedObject
		want   bool
	}{
		"a backup":                       {pod("volsync-src-hourly", "data"), true},
		"a backup of a copy":             {pod("volsync-src-hourly", "volsync-hourly-src"), true},
		"a backup of a copy of another":  {pod("volsync-src-theirs", "volsync-theirs-src"), false},
		"a restore":                      {pod("volsync-dst-data-1", "data"), false},
		"a restore into a volume of its": {pod("volsync-dst-hourly", "volsync-hourly-dest"), false},
		"another's":                      {pod("volsync-src-data-2", "data-2"), false},
		"an app":                         {pod("", "data"), false},
		"not to tell":                    {creations.CreatedObject{Name: "data-x"}, false},
	} {
		known[Backups] = []creations.CreatedObject{c.object}
		found, err := (Absence{PVC: "data", Resources: []string{Backups}}).Violations(t.Context(), known)
		if err != nil || (len(found) > 0) != c.want {
			t.Errorf("%s: %q, %v", name, found, err)
		}
	}
	for _, unseen := range []string{ReplicationSources, claims, Backups} {
		blind := made{ReplicationSources: nil, claims: nil, Backups: nil}
		delete(blind, unseen)
		if found, err := (Absence{PVC: "data", Resources: []string{Backups}}).Violations(t.Context(), blind); err == nil {
			t.Errorf("%s were not seen: %q", unseen, found)
		}
	}
}

// What is older than the namespace need not be known: a log that has lost some of that is whole enough.
func TestWhatBacksUpIsLookedForSinceTheNamespaceWasThere(t *testing.T) {
	begun := time.Now().Add(-time.Hour)
	known := sinces{}
	if _, err := (Absence{PVC: "data", Since: begun.Add(time.Minute), Begun: begun, Resources: []string{Backups}}).Violations(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	for resource, want := range map[string]time.Time{ReplicationSources: begun, claims: begun, Backups: begun.Add(time.Minute)} {
		if !known[resource].Equal(want) {
			t.Errorf("%s: since %v, wanted %v", resource, known[resource], want)
		}
	}
}

// sinces takes down since when each resource was asked for.
type sinces map[string]time.Time

func (s sinces) Created(_ context.Context, resource, _ string, since time.Time) ([]creations.CreatedObject, error) {
	s[resource] = since
	return nil, nil
}

func (sinces) Covers(context.Context, time.Time) (bool, error) { return true, nil }

func (sinces) Close() error { return nil }

// made is what was created, by resource. Another resource cannot be seen.
type made map[string][]creations.CreatedObject

func (m made) Created(_ context.Context, resource, _ string, _ time.Time) ([]creations.CreatedObject, error) {
	objects, seen := m[resource]
	if !seen {
		return nil, errors.New(resource + " are not watched")
	}
	return objects, nil
}

func (m made) Covers(context.Context, time.Time) (bool, error) { return true, nil }
func (m made) Close() error                                    { return nil }
