package creations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// at is t0 plus some seconds.
func at(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

// auditLine returns a line as the API server writes it: a create of resource
// ns/name, received at second s, answered with code; with changes applied.
func auditLine(resource, ns, name string, s float64, code int, change ...func(map[string]any)) string {
	e := map[string]any{
		"level": "RequestResponse", "auditID": fmt.Sprintf("%s/%s/%s@%v", resource, ns, name, s),
		"stage": "ResponseComplete", "requestURI": "/apis/x/" + resource, "verb": "create",
		"user":                     map[string]any{"username": "system:serviceaccount:kyverno:kyverno-background-controller"},
		"objectRef":                map[string]any{"resource": resource, "namespace": ns, "name": name, "apiGroup": "volsync.backube", "apiVersion": "v1alpha1"},
		"responseStatus":           map[string]any{"metadata": map[string]any{}, "code": code},
		"responseObject":           map[string]any{"kind": "X", "metadata": map[string]any{"name": name, "namespace": ns, "uid": "uid-" + name}},
		"requestReceivedTimestamp": at(s).Format("2006-01-02T15:04:05.000000Z07:00"),
		"stageTimestamp":           at(s + 0.1).Format("2006-01-02T15:04:05.000000Z07:00"),
	}
	for _, c := range change {
		c(e)
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1",` + string(b[1:]) + "\n"
}

func set(key string, value any) func(map[string]any) {
	return func(e map[string]any) { e[key] = value }
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, a *AuditLog, q Query) string {
	t.Helper()
	events, err := a.Events(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		out = append(out, e.ObjectRef.Name)
	}
	return strings.Join(out, " ")
}

func newLog(t *testing.T) (*AuditLog, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	a := OpenAudit(path)
	t.Cleanup(func() { _ = a.Close() })
	return a, path
}

func TestAuditQuery(t *testing.T) {
	a, path := newLog(t)
	const rd = "replicationdestinations"
	status, none := "status", ""
	appendTo(t, path, auditLine(rd, "a", "late", 5, 201)+
		auditLine(rd, "a", "one", 1, 201)+
		auditLine(rd, "b", "two", 2, 201)+
		auditLine("pods", "a", "three", 3, 201, set("verb", "delete"))+
		auditLine(rd, "a", "four", 4, 200, set("verb", "update"), func(e map[string]any) {
			e["objectRef"].(map[string]any)["subresource"] = "status"
		})+
		auditLine(rd, "a", "started", 4.5, 200, set("stage", "ResponseStarted")))
	cases := []struct {
		name string
		q    Query
		want string
	}{
		{"all, oldest first, complete only", Query{}, "one two three four late"},
		{"resource", Query{Resource: rd}, "one two four late"},
		{"unknown resource", Query{Resource: "nodes"}, ""},
		{"namespace", Query{Namespace: "b"}, "two"},
		{"name", Query{Name: "one"}, "one"},
		{"since is inclusive", Query{Since: at(4)}, "four late"},
		{"until is inclusive", Query{Until: at(2)}, "one two"},
		{"window", Query{Since: at(1.5), Until: at(3.5)}, "two three"},
		{"verbs", Query{Verbs: []string{"delete", "update"}}, "three four"},
		{"subresource", Query{Subresource: &status}, "four"},
		{"the object itself", Query{Resource: rd, Subresource: &none}, "one two late"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := names(t, a, c.q); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAuditCreated(t *testing.T) {
	a, path := newLog(t)
	const rd = "replicationdestinations"
	object := func(o string) func(map[string]any) {
		return func(e map[string]any) {
			e["responseObject"] = json.RawMessage(o)
			e["objectRef"].(map[string]any)["name"] = ""
		}
	}
	appendTo(t, path, ""+
		auditLine(rd, "ns", "before", -1, 201)+
		// generateName: the name is in the response alone.
		auditLine(rd, "ns", "", 1, 201, object(`{"kind":"ReplicationDestination","metadata":{"name":"gen-x7","uid":"u1"},"spec":{"restic":{"destinationPVC":"data"}}}`))+
		auditLine(rd, "ns", "", 2, 201, object(`{"metadata":{"name":"owned","uid":"u2","ownerReferences":[{"kind":"ConfigMap","name":"data","uid":"u9"},{"kind":"PersistentVolumeClaim","name":"data","uid":"p1"}]}}`))+
		auditLine(rd, "ns", "refused", 3, 409, set("responseObject", json.RawMessage(`{"kind":"Status","metadata":{}}`)))+
		auditLine(rd, "ns", "dry", 4, 201, set("requestURI", "/apis/x/rd?dryRun=All&fieldManager=f"))+
		auditLine(rd, "ns", "applied", 5, 201, set("verb", "patch"))+
		auditLine(rd, "ns", "patched", 6, 200, set("verb", "patch"))+
		auditLine(rd, "other", "elsewhere", 7, 201)+
		auditLine("pods", "ns", "binding", 8, 201, func(e map[string]any) { e["objectRef"].(map[string]any)["subresource"] = "binding" })+
		auditLine(rd, "ns", "sent-only", 9, 201, func(e map[string]any) {
			delete(e, "responseObject")
			e["requestObject"] = json.RawMessage(`{"spec":{"rclone":{"destinationPVC":"data"}}}`)
		})+
		auditLine(rd, "ns", "", 9, 201, func(e map[string]any) {
			delete(e, "responseObject")
			e["objectRef"].(map[string]any)["name"] = ""
			e["requestObject"] = json.RawMessage(`{"metadata":{"generateName":"sent-"}}`)
		})+
		auditLine(rd, "ns", "metadata-level", 10, 201, func(e map[string]any) { delete(e, "responseObject") }))

	got, err := a.Created(t.Context(), rd, "ns", at(0))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, o := range got {
		list = append(list, fmt.Sprintf("%s uid=%s for=%v for-p1=%v for-p2=%v", o.Name, o.UID, o.For("data", ""), o.For("data", "p1"), o.For("data", "p2")))
	}
	want := []string{
		"gen-x7 uid=u1 for=true for-p1=true for-p2=true",
		"owned uid=u2 for=true for-p1=true for-p2=false",
		"applied uid= for=false for-p1=false for-p2=false",
		"sent-only uid= for=true for-p1=true for-p2=true",
		"sent-… uid= for=false for-p1=false for-p2=false",
		"metadata-level uid= for=false for-p1=false for-p2=false",
	}
	if strings.Join(list, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
	if got[0].User != "system:serviceaccount:kyverno:kyverno-background-controller" || !got[0].Time.Equal(at(1)) {
		t.Errorf("%+v", got[0])
	}
}

func TestAuditHalfLines(t *testing.T) {
	a, path := newLog(t)
	if _, err := a.Events(t.Context(), Query{}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without a file: %v", err)
	}
	line := auditLine("pods", "a", "one", 1, 201)
	for i := range line { // every cut, grown byte by byte
		appendTo(t, path, line[i:i+1])
		want := ""
		if i == len(line)-1 {
			want = "one"
		}
		if i%50 == 0 || i >= len(line)-3 {
			if got := names(t, a, Query{}); got != want {
				t.Fatalf("after %d of %d bytes: %q", i+1, len(line), got)
			}
		}
	}
}

// What an API server was killed in the middle of writing is lost: whether it stored something is not known, up to the next
// event, unless the line's beginning tells.
func TestAuditTornLines(t *testing.T) {
	const rd = "replicationdestinations"
	torn := auditLine(rd, "a", "torn", 1.5, 201)
	inOrder := func(stage, uri, verb string) string { // as the API server writes it
		return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"x","stage":"` + stage + `","requestURI":"` + uri + `","verb":"` + verb + `","user":{"use`
	}
	const uri = "/apis/volsync.backube/v1alpha1/namespaces/a/replicationdestinations"
	after := auditLine(rd, "a", "after", 2, 201)
	for _, c := range []struct {
		name, text string
		since      float64
		resource   string
		want       string // "gap": it is one
	}{
		{"a create", inOrder("ResponseComplete", uri, "create") + after, 1, rd, "gap"},
		{"an apply", inOrder("ResponseComplete", uri+"/torn?fieldManager=k", "patch") + after, 1, rd, "gap"},
		{"a create, looked for after it", inOrder("ResponseComplete", uri, "create") + after, 2.5, rd, ""},
		{"a create of something else", inOrder("ResponseComplete", "/api/v1/namespaces/a/pods", "create") + after, 1, rd, "one after"},
		{"a create, of whatever", inOrder("ResponseComplete", uri, "create") + after, 1, "", "gap"},
		{"a read", inOrder("ResponseComplete", uri, "get") + after, 1, rd, "one after"},
		{"a deletion", inOrder("ResponseComplete", uri, "delete") + after, 1, rd, "one after"},
		{"a beginning", inOrder("RequestReceived", uri, "create") + after, 1, rd, "one after"},
		{"nearly nothing", `{"kind":"Ev` + after, 1, rd, "gap"},
		{"a line of its own", "garbage\n" + after, 1, rd, "gap"},
		{"a line of its own, looked for after it", "garbage\n" + after, 2.5, rd, ""},
		{"nothing came after it", torn[:80] + "\n", 3, rd, "gap"},
		{"it may yet be written to its end", torn[:80], 1, rd, "one"},
		{"an empty line", "\n" + after, 1, rd, "one after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, path := newLog(t)
			appendTo(t, path, auditLine(rd, "a", "one", 1, 201)+c.text)
			events, err := a.Events(t.Context(), Query{Resource: c.resource, Since: at(c.since)})
			var got []string
			for _, e := range events {
				got = append(got, e.ObjectRef.Name)
			}
			if errors.Is(err, ErrAuditGap) {
				got = []string{"gap"}
			} else if err != nil {
				t.Fatal(err)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestAuditTornLineInARotatedFile(t *testing.T) {
	a, path := newLog(t)
	appendTo(t, path, auditLine("pods", "a", "one", 1, 201)+auditLine("pods", "a", "torn", 1.5, 201)[:80])
	if got := names(t, a, Query{}); got != "one" {
		t.Fatalf("while it may yet be written to its end: %q", got)
	}
	if err := os.Rename(path, filepath.Join(filepath.Dir(path), "audit-2026-11-22T12-00-00.000.log")); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path, auditLine("pods", "a", "after", 2, 201))
	if _, err := a.Events(t.Context(), Query{}); !errors.Is(err, ErrAuditGap) {
		t.Errorf("%v, want a gap", err)
	}
	if got := names(t, a, Query{Since: at(2.5)}); got != "" {
		t.Errorf("after it: %q", got)
	}
}

func TestAuditBigLine(t *testing.T) {
	a, path := newLog(t)
	big := strings.Repeat("x", 5<<20)
	appendTo(t, path, auditLine("secrets", "a", "big", 1, 201, set("annotations", map[string]string{"k": big}))+auditLine("secrets", "a", "next", 2, 201))
	events, err := a.Events(t.Context(), Query{Resource: "secrets"})
	if err != nil || len(events) != 2 || len(events[0].Annotations["k"]) != len(big) {
		t.Fatalf("%d events, %v", len(events), err)
	}
}

func TestAuditRotation(t *testing.T) {
	a, path := newLog(t)
	dir := filepath.Dir(path)
	rotate := func(stamp string) string {
		to := filepath.Join(dir, "audit-"+stamp+".log")
		if err := os.Rename(path, to); err != nil {
			t.Fatal(err)
		}
		return to
	}
	appendTo(t, filepath.Join(dir, "audit-policy.yaml"), "not a log\n")
	appendTo(t, filepath.Join(dir, "auditor.log"), "not ours\n")

	// Rotated before the first read.
	appendTo(t, path, auditLine("pods", "a", "p0", 0, 201))
	rotate("2026-11-22T12-00-00.000")
	appendTo(t, path, auditLine("pods", "a", "p1", 1, 201))
	if got := names(t, a, Query{}); got != "p0 p1" {
		t.Fatalf("at first: %q", got)
	}
	// Written, then rotated, between two reads; and twice in a row.
	appendTo(t, path, auditLine("pods", "a", "p2", 2, 201))
	rotate("2026-11-22T12-00-02.000")
	appendTo(t, path, auditLine("pods", "a", "p3", 3, 201))
	old := rotate("2026-11-22T12-00-03.000")
	appendTo(t, path, auditLine("pods", "a", "p4", 4, 201))
	if got := names(t, a, Query{}); got != "p0 p1 p2 p3 p4" {
		t.Fatalf("after rotations: %q", got)
	}
	// Read again: nothing doubled; what was read may go.
	if got := names(t, a, Query{}); got != "p0 p1 p2 p3 p4" {
		t.Fatalf("again: %q", got)
	}
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	if got := names(t, a, Query{}); got != "p0 p1 p2 p3 p4" {
		t.Fatalf("after an old file went: %q", got)
	}
	// Between rename and re-creation.
	rotate("2026-11-22T12-00-04.000")
	if got := names(t, a, Query{}); got != "p0 p1 p2 p3 p4" {
		t.Fatalf("without an active file: %q", got)
	}
	appendTo(t, path, auditLine("pods", "a", "p5", 5, 201))
	if got := names(t, a, Query{}); got != "p0 p1 p2 p3 p4 p5" {
		t.Fatalf("in the end: %q", got)
	}
}

func TestAuditGap(t *testing.T) {
	cases := []struct {
		name string
		lose func(t *testing.T, path string)
	}{
		{"deleted unread", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			appendTo(t, path, auditLine("pods", "a", "later", 9, 201))
		}},
		{"cut", func(t *testing.T, path string) {
			if err := os.Truncate(path, 10); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, path := newLog(t)
			appendTo(t, path, auditLine("pods", "a", "one", 1, 201))
			_ = names(t, a, Query{})
			c.lose(t, path)
			for range 2 { // it stays so
				if _, err := a.Events(t.Context(), Query{}); !errors.Is(err, ErrAuditGap) {
					t.Errorf("Events: %v", err)
				}
				if ok, err := a.Covers(t.Context(), at(-1)); ok || !errors.Is(err, ErrAuditGap) {
					t.Errorf("Covers: %v, %v", ok, err)
				}
			}
		})
	}
}

func TestAuditCovers(t *testing.T) {
	a, path := newLog(t)
	appendTo(t, path, auditLine("pods", "a", "one", 1, 201))
	for _, c := range []struct {
		t    float64
		want bool
	}{{0, true}, {0.999, true}, {1, false}, {2, false}} {
		if got, err := a.Covers(t.Context(), at(c.t)); err != nil || got != c.want {
			t.Errorf("Covers(%v) = %v, %v", c.t, got, err)
		}
	}
	// Any stage shows that the log is written.
	appendTo(t, path, auditLine("pods", "a", "two", 3, 200, set("stage", "RequestReceived")))
	if got, err := a.Covers(t.Context(), at(2)); err != nil || !got {
		t.Errorf("Covers = %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Covers(ctx, at(0)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Readers share one log while it grows and rotates; each sees every event once.
func TestAuditConcurrent(t *testing.T) {
	a, path := newLog(t)
	appendTo(t, path, auditLine("pods", "a", "first", 0, 201))
	const n = 300
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				t.Error(err)
				return
			}
			line := auditLine("pods", "a", fmt.Sprint("p", i), float64(i+1), 201)
			_, _ = f.WriteString(line[:20])
			_, _ = f.WriteString(line[20:])
			_ = f.Close()
			if i%40 == 39 {
				if err := os.Rename(path, filepath.Join(filepath.Dir(path), fmt.Sprintf("audit-%04d.log", i))); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				events, err := a.Events(t.Context(), Query{Resource: "pods"})
				if err != nil {
					t.Error(err)
					return
				}
				if len(events) == n+1 {
					return
				}
				select {
				case <-done:
					if events, _ = a.Events(t.Context(), Query{}); len(events) != n+1 {
						t.Errorf("%d events of %d", len(events), n+1)
					}
					return
				default:
				}
			}
		})
	}
	wg.Wait()
	<-done
	if _, err := a.Events(t.Context(), Query{}); err != nil {
		t.Error(err)
	}
}
