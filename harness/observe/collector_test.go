package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/internal/fakeapi"
	"github.com/smart-restore/conformance/harness/redact"
)

// eventually polls until ok, at most 20 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not in 20 s: %s", what)
		case <-tick.C:
		}
	}
}

func content(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// texts returns a log's lines without their times.
func texts(path string) string {
	var out []string
	for line := range strings.Lines(content(path)) {
		line = strings.TrimSuffix(line, "\n")
		if _, ok := lineTime([]byte(line)); ok {
			_, line, _ = strings.Cut(line, " ")
		}
		out = append(out, line)
	}
	return strings.Join(out, "|")
}

type collecting struct {
	*fakeapi.API
	*Collector
	t   *testing.T
	dir string
}

func collect(t *testing.T, f *fakeapi.API, o Options) *collecting {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "artifacts")
	// A set-up node's context ends with it.
	ctx, cancel := context.WithCancel(t.Context())
	c, err := StartCollector(ctx, f.Config(), dir, o)
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return &collecting{f, c, t, dir}
}

func (c *collecting) log(namespace, file string) string {
	return filepath.Join(c.dir, "logs", namespace, file+".log")
}

func (c *collecting) want(namespace, file, want string) {
	c.t.Helper()
	path := c.log(namespace, file)
	eventually(c.t, fmt.Sprintf("%s is %q", file, want), func() bool { return texts(path) == want })
}

func (c *collecting) close() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		c.t.Fatal(err)
	}
}

func (c *collecting) lostNothing() {
	c.t.Helper()
	if lost := c.Lost(); len(lost) > 0 {
		c.t.Errorf("lost: %s", strings.Join(lost, "\n"))
	}
}

func TestCollectorFollows(t *testing.T) {
	f := fakeapi.New(t)
	f.Say("ns/before/app", "1 was here", "1 first")
	f.Put("pods", fakeapi.Pod("ns", "before", "u1", "app", 0, "running"))
	c := collect(t, f, Options{})
	c.want("ns", "before-app", "was here|first")

	// A mover: there for a moment, ended, deleted.
	f.Put("pods", fakeapi.Pod("ns", "mover", "u2", "restic", 0, "waiting"))
	f.Say("ns/mover/restic", "2 start")
	f.Put("pods", fakeapi.Pod("ns", "mover", "u2", "restic", 0, "running"))
	f.Say("ns/mover/restic", "2.5 copy", "3 done")
	f.End("ns/mover/restic")
	f.Put("pods", fakeapi.Pod("ns", "mover", "u2", "restic", 0, "terminated"))
	c.want("ns", "mover-restic", "start|copy|done")
	f.Delete("pods", "ns", "mover")

	// First seen when it had ended already.
	f.Say("ns/quick/app", "4 in", "4 and out")
	f.End("ns/quick/app")
	f.Put("pods", fakeapi.Pod("ns", "quick", "u3", "app", 0, "terminated"))
	c.want("ns", "quick-app", "in|and out")

	f.Say("ns/before/app", "5 still here")
	c.want("ns", "before-app", "was here|first|still here")
	c.close()
	c.lostNothing()
	summary := content(filepath.Join(c.dir, "logs", "_collector.txt"))
	for _, want := range []string{"pods seen 3\n", "containers followed 3\n", "log lines 8\n", "lost 0\n", "state closed"} {
		if !strings.Contains(summary, want) {
			t.Errorf("no %q in\n%s", want, summary)
		}
	}
}

// Init and ephemeral containers have logs too.
func TestCollectorAllContainers(t *testing.T) {
	f := fakeapi.New(t)
	p := fakeapi.Pod("ns", "p", "u", "main", 0, "running")
	status := p["status"].(fakeapi.Object)
	status["initContainerStatuses"] = []any{fakeapi.Object{"name": "init", "state": fakeapi.Object{"terminated": fakeapi.Object{}}}}
	status["ephemeralContainerStatuses"] = []any{fakeapi.Object{"name": "debug", "state": fakeapi.Object{"running": fakeapi.Object{}}}}
	for _, container := range []string{"main", "init", "debug"} {
		f.Say("ns/p/"+container, "1 of "+container)
	}
	f.End("ns/p/init")
	f.Put("pods", p)
	c := collect(t, f, Options{})
	for _, container := range []string{"main", "init", "debug"} {
		c.want("ns", "p-"+container, "of "+container)
	}
}

// However often the connection breaks, every line is there once, in order,
// also those that share a time.
func TestCollectorOverBrokenConnections(t *testing.T) {
	f := fakeapi.New(t)
	f.Put("pods", fakeapi.Pod("ns", "p", "u", "app", 0, "running"))
	c := collect(t, f, Options{})
	var want []string
	for i := range 60 {
		text := fmt.Sprint("line ", i)
		want = append(want, text)
		f.Say("ns/p/app", fmt.Sprintf("%.1f %s", float64(i/3)/10, text)) // three a time stamp, thirty a second
		if i%12 == 7 {
			c.want("ns", "p-app", strings.Join(want, "|"))
			f.HangUp()
		}
	}
	c.want("ns", "p-app", strings.Join(want, "|"))

	// An outage; a pod that came meanwhile is found after it.
	f.Do(func() { f.Down = true })
	f.HangUp()
	f.Say("ns/p/app", "70 in the dark")
	f.Say("ns/late/app", "71 born in the dark")
	f.Put("pods", fakeapi.Pod("ns", "late", "u2", "app", 0, "running"))
	f.Do(func() { f.Down = false })
	c.want("ns", "p-app", strings.Join(append(want, "in the dark"), "|"))
	c.want("ns", "late-app", "born in the dark")
	c.close()
	c.lostNothing()
}

func TestCollectorRestartedContainer(t *testing.T) {
	f := fakeapi.New(t)
	f.Put("pods", fakeapi.Pod("ns", "p", "u", "app", 0, "running"))
	f.Say("ns/p/app", "1 first life")
	c := collect(t, f, Options{})
	c.want("ns", "p-app", "first life")
	f.Do(func() { // it dies and is back before anybody looks
		l := f.Log("ns/p/app")
		l.Previous = append(l.Current, fakeapi.At(2).Format(time.RFC3339Nano)+" last words")
		l.Current = []string{fakeapi.At(3).Format(time.RFC3339Nano) + " second life"}
	})
	f.Put("pods", fakeapi.Pod("ns", "p", "u", "app", 1, "running"))
	f.HangUp()
	c.want("ns", "p-app", "first life|last words|--- restarted|second life")
	c.close()
	c.lostNothing()
}

// A pod of a StatefulSet comes back under its name.
func TestCollectorSameNameAgain(t *testing.T) {
	f := fakeapi.New(t)
	f.Say("ns/p/app", "1 old")
	f.End("ns/p/app")
	f.Put("pods", fakeapi.Pod("ns", "p", "u1", "app", 0, "terminated"))
	c := collect(t, f, Options{})
	c.want("ns", "p-app", "old")
	f.Delete("pods", "ns", "p")
	f.Do(func() { f.Logs["ns/p/app"] = &fakeapi.ContainerLog{} })
	f.Say("ns/p/app", "2 new")
	f.Put("pods", fakeapi.Pod("ns", "p", "u2", "app", 0, "running"))
	// Where exactly the mark stands depends on which is seen first, the log or the status.
	eventually(t, "both logs and the mark", func() bool {
		lines := strings.Split(texts(c.log("ns", "p-app")), "|")
		slices.Sort(lines)
		return strings.Join(lines, "|") == "--- another pod of that name, UID u2|new|old"
	})
	c.close()
	c.lostNothing()
}

func TestCollectorNamesThatCollide(t *testing.T) {
	f := fakeapi.New(t)
	f.Say("ns/a-b/c", "1 of a-b")
	f.Say("ns/a/b-c", "1 of a")
	f.Put("pods", fakeapi.Pod("ns", "a-b", "u1", "c", 0, "running"))
	c := collect(t, f, Options{})
	c.want("ns", "a-b-c", "of a-b")
	f.Put("pods", fakeapi.Pod("ns", "a", "u2", "b-c", 0, "running"))
	c.want("ns", "a_b-c", "of a")
	c.want("ns", "a-b-c", "of a-b")
}

func TestCollectorFiltersAndRedacts(t *testing.T) {
	f := fakeapi.New(t)
	for _, ns := range []string{"in", "out"} {
		f.Say(ns+"/yes/app", "1 key=hunter22secret.")
		f.Put("pods", fakeapi.Pod(ns, "yes", ns+"yes", "app", 0, "running"))
	}
	f.Put("events", event("out", "e1", "x1", "pulled with hunter22secret"))
	c := collect(t, f, Options{
		Namespace: func(ns string) bool { return ns == "in" },
		Redact:    redact.NewRedactor("hunter22secret"),
	})
	c.want("in", "yes-app", "key=[redacted].")
	c.close()
	entries, _ := filepath.Glob(filepath.Join(c.dir, "logs", "*", "*"))
	if len(entries) != 1 {
		t.Errorf("%v", entries)
	}
	if got := content(filepath.Join(c.dir, "events.jsonl")); !strings.Contains(got, "pulled with [redacted]") {
		t.Errorf("events: %s", got)
	}
}

func event(namespace, name, uid, message string) fakeapi.Object {
	return fakeapi.Object{
		"apiVersion": "v1", "kind": "Event",
		"metadata":       fakeapi.Object{"namespace": namespace, "name": name, "uid": uid, "creationTimestamp": "2026-11-22T12:00:00Z"},
		"involvedObject": fakeapi.Object{"kind": "Pod", "namespace": namespace, "name": "p"},
		"reason":         "Pulled", "message": message, "type": "Normal", "count": 1,
		"eventTime": nil, "firstTimestamp": "2026-11-22T12:00:01Z", "lastTimestamp": "2026-11-22T12:00:02Z",
		"source": fakeapi.Object{"component": "kubelet"},
	}
}

func TestCollectorEvents(t *testing.T) {
	f := fakeapi.New(t)
	f.Put("events", event("a", "e1", "x1", "one"))
	c := collect(t, f, Options{})
	lines := func() []EventRecord {
		var out []EventRecord
		for line := range strings.Lines(content(filepath.Join(c.dir, "events.jsonl"))) {
			var r EventRecord
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			out = append(out, r)
		}
		return out
	}
	eventually(t, "the first event", func() bool { return len(lines()) == 1 })
	again := event("a", "e1", "x1", "one")
	again["count"] = 5
	f.Put("events", again)
	f.Put("events", event("b", "e2", "x2", "two"))
	eventually(t, "three records", func() bool { return len(lines()) == 3 })
	// A history that is too old makes the watch list anew; what is known stays single.
	f.Do(func() { f.Oldest = 1 << 30 })
	f.HangUp()
	f.Put("events", event("b", "e3", "x3", "three"))
	eventually(t, "four records", func() bool { return len(lines()) == 4 })
	f.Do(func() { f.Oldest = 0 })
	c.close()
	got := lines()
	if len(got) != 4 {
		t.Fatalf("%d records", len(got))
	}
	first := got[0]
	if first.Object != "Pod/p" || first.Reason != "Pulled" || first.Source != "kubelet" || !first.Time.Equal(fakeapi.At(2)) || first.Count != 1 || got[1].Count != 5 {
		t.Errorf("%+v", got)
	}
}

// What the streams have not brought by then is fetched on closing.
func TestCollectorFinalPass(t *testing.T) {
	f := fakeapi.New(t)
	f.Say("ns/p/app", "1 one")
	f.Put("pods", fakeapi.Pod("ns", "p", "u", "app", 0, "running"))
	c := collect(t, f, Options{})
	c.want("ns", "p-app", "one")
	f.Do(func() { f.Mute = true })
	f.Say("ns/p/app", "1 two of that second", "2 three")
	f.Say("ns/new/app", "3 unseen")
	f.Put("pods", fakeapi.Pod("ns", "new", "u2", "app", 0, "running"))
	f.Put("events", event("ns", "e", "x", "late"))
	c.close()
	c.close() // twice is one
	if got := texts(c.log("ns", "p-app")); got != "one|two of that second|three" {
		t.Errorf("%q", got)
	}
	if got := texts(c.log("ns", "new-app")); got != "unseen" {
		t.Errorf("%q", got)
	}
	if got := content(filepath.Join(c.dir, "events.jsonl")); !strings.Contains(got, "late") {
		t.Errorf("%q", got)
	}
	c.lostNothing()
}

// A cluster that is gone costs no time, and what it kept back is said.
func TestCollectorClosesWithoutCluster(t *testing.T) {
	f := fakeapi.New(t)
	f.Say("ns/p/app", "1 one")
	f.Put("pods", fakeapi.Pod("ns", "p", "u", "app", 0, "running"))
	c := collect(t, f, Options{})
	c.want("ns", "p-app", "one")
	f.Stop()
	begin := time.Now()
	c.close()
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("took %s", d)
	}
	lost := strings.Join(c.Lost(), "\n")
	for _, want := range []string{"last look at pods", "last look at events", "ns/p app: the rest of the log"} {
		if !strings.Contains(lost, want) {
			t.Errorf("no %q in\n%s", want, lost)
		}
	}
	if got := texts(c.log("ns", "p-app")); got != "one" {
		t.Errorf("%q", got)
	}
	if !strings.Contains(content(filepath.Join(c.dir, "logs", "_collector.txt")), "the rest of the log") {
		t.Error("the summary keeps silent")
	}
}

// A pod that went before its log was read is counted, not passed over.
func TestCollectorLostPod(t *testing.T) {
	f := fakeapi.New(t)
	c := collect(t, f, Options{})
	eventually(t, "watching", func() bool {
		f.Put("events", event("a", "e", "x", "tick"))
		return content(filepath.Join(c.dir, "events.jsonl")) != ""
	})
	p := fakeapi.Pod("ns", "p", "u", "app", 0, "terminated")
	eventually(t, "the loss", func() bool {
		f.Do(func() { // only its deletion is ever seen, again and again: the watch of pods may begin later than that of events
			f.Version++
			p["metadata"].(fakeapi.Object)["resourceVersion"] = fmt.Sprint(f.Version)
			f.Record("DELETED", "pods", p)
		})
		return len(c.Lost()) > 0
	})
}

func TestCollectorBadFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := fakeapi.New(t)
	if _, err := StartCollector(t.Context(), f.Config(), filepath.Join(file, "sub"), Options{}); err == nil {
		t.Error("no error")
	}
}

func TestDumpNamespace(t *testing.T) {
	f := fakeapi.New(t)
	anObject := func(kind, name string, more fakeapi.Object) fakeapi.Object {
		o := fakeapi.Object{"kind": kind, "metadata": fakeapi.Object{"namespace": "ns", "name": name, "managedFields": []any{fakeapi.Object{"manager": "m"}}}}
		for k, v := range more {
			o[k] = v
		}
		return o
	}
	f.Put("namespaces/ns/persistentvolumeclaims", anObject("PersistentVolumeClaim", "data", fakeapi.Object{"spec": fakeapi.Object{"volumeName": "pv1"}}))
	f.Put("namespaces/ns/pods", anObject("Pod", "app", fakeapi.Object{"spec": fakeapi.Object{"env": "hunter22secret"}}))
	f.Put("namespaces/ns/events", event("ns", "e", "x", "a mover's \x7f and \u0085"))
	f.Put("batch/v1/namespaces/ns/jobs", anObject("Job", "j", nil))
	f.Put("volsync.backube/v1alpha1/namespaces/ns/replicationsources", anObject("ReplicationSource", "rs", nil))
	f.Put("external-secrets.io/v1/namespaces/ns/externalsecrets", anObject("ExternalSecret", "es", nil))
	f.Put("namespaces/ns/configmaps", anObject("ConfigMap", "cm", fakeapi.Object{"data": fakeapi.Object{"file": "content-of-it"}}))
	f.Put("namespaces/ns/secrets", anObject("Secret", "s", fakeapi.Object{"type": "Opaque", "data": fakeapi.Object{"RESTIC_PASSWORD": "c2VjcmV0LXZhbHVl"}}))
	f.Put("persistentvolumes", fakeapi.Object{"kind": "PersistentVolume", "metadata": fakeapi.Object{"name": "pv1"}, "spec": fakeapi.Object{"claimRef": fakeapi.Object{"namespace": "ns"}}})
	f.Put("persistentvolumes", fakeapi.Object{"kind": "PersistentVolume", "metadata": fakeapi.Object{"name": "pv2"}, "spec": fakeapi.Object{"claimRef": fakeapi.Object{"namespace": "ns2"}}})
	for _, namespace := range []string{"ns", "ns2"} {
		f.Put("snapshot.storage.k8s.io/v1/namespaces/"+namespace+"/volumesnapshots", fakeapi.Object{"kind": "VolumeSnapshot", "metadata": fakeapi.Object{"namespace": namespace, "name": "snap-of-" + namespace}})
		f.Put("snapshot.storage.k8s.io/v1/volumesnapshotcontents", fakeapi.Object{"kind": "VolumeSnapshotContent", "metadata": fakeapi.Object{"name": "content-of-" + namespace},
			"spec": fakeapi.Object{"volumeSnapshotRef": fakeapi.Object{"namespace": namespace}}})
	}
	const ur = "kyverno.io/v2/namespaces/kyverno/updaterequests"
	f.Put(ur, fakeapi.Object{"kind": "UpdateRequest", "metadata": fakeapi.Object{"namespace": "kyverno", "name": "ur-by-resource"}, "spec": fakeapi.Object{"resource": fakeapi.Object{"kind": "PersistentVolumeClaim", "namespace": "ns", "name": "data"}}})
	f.Put(ur, fakeapi.Object{"kind": "UpdateRequest", "metadata": fakeapi.Object{"namespace": "kyverno", "name": "ur-nested"}, "spec": fakeapi.Object{"ruleContext": []any{fakeapi.Object{"trigger": fakeapi.Object{"namespace": "ns"}}},
		"context": fakeapi.Object{"object": fakeapi.Object{"kind": "Secret", "metadata": fakeapi.Object{"name": "s"}, "data": fakeapi.Object{"k": "Y2FycmllZA=="}}}}})
	f.Put(ur, fakeapi.Object{"kind": "UpdateRequest", "metadata": fakeapi.Object{"namespace": "kyverno", "name": "ur-json"}, "spec": fakeapi.Object{"context": fakeapi.Object{"request": `{"namespace":"ns","name":"x"}`}}})
	f.Put(ur, fakeapi.Object{"kind": "UpdateRequest", "metadata": fakeapi.Object{"namespace": "kyverno", "name": "ur-other"}, "spec": fakeapi.Object{"resource": fakeapi.Object{"namespace": "ns2", "name": "ns"}}})

	dir := filepath.Join(t.TempDir(), "dump")
	if err := DumpNamespace(t.Context(), f.Config(), "ns", dir, redact.NewRedactor("hunter22secret")); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]string{
		"persistentvolumeclaims.yaml": {"name: data", "volumeName: pv1"},
		"pods.yaml":                   {"name: app", "[redacted]"},
		"events.yaml":                 {"reason: Pulled", `\x7F and \N`},
		"jobs.yaml":                   {"name: j"},
		"replicationsources.yaml":     {"name: rs"},
		"externalsecrets.yaml":        {"name: es"},
		"configmaps.yaml":             {"name: cm", "- file"},
		"secrets.yaml":                {"name: s", "- RESTIC_PASSWORD", "type: Opaque"},
		"persistentvolumes.yaml":      {"name: pv1"},
		"volumesnapshots.yaml":        {"name: snap-of-ns"},
		"volumesnapshotcontents.yaml": {"name: content-of-ns"},
		"updaterequests.yaml":         {"ur-by-resource", "ur-nested", "ur-json"},
		"dump-errors.txt":             {"replicationdestinations.volsync.backube: "},
	} {
		got := content(filepath.Join(dir, file))
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in\n%s", file, w, got)
			}
		}
		for _, never := range []string{"managedFields", "hunter22", "content-of-it", "c2VjcmV0", "Y2Fycm", "pv2", "ur-other", "-of-ns2"} {
			if strings.Contains(got, never) {
				t.Errorf("%s: %q in\n%s", file, never, got)
			}
		}
	}
	if n := strings.Count(content(filepath.Join(dir, "dump-errors.txt")), "\n"); n != 1 {
		t.Errorf("%d errors", n)
	}

	// Not every stack has the External Secrets Operator.
	f.Do(func() { delete(f.Objects, "external-secrets.io/v1/namespaces/ns/externalsecrets") })
	dir = filepath.Join(t.TempDir(), "dump")
	if err := DumpNamespace(t.Context(), f.Config(), "ns", dir, nil); err != nil {
		t.Fatal(err)
	}
	if got := content(filepath.Join(dir, "dump-errors.txt")); strings.Contains(got, "externalsecrets") {
		t.Error(got)
	}

	// Without a cluster there is still a folder that says why.
	f.Stop()
	dir = filepath.Join(t.TempDir(), "dump")
	if err := DumpNamespace(t.Context(), f.Config(), "ns", dir, nil); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(content(filepath.Join(dir, "dump-errors.txt")), "\n"); n < len(dumps) {
		t.Errorf("%d errors", n)
	}
}
