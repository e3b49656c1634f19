package timeline

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/verdict"
)

var begin = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// at is so many seconds after the spec's beginning.
func at(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }

const namespace = "core-restore-abc234"

func result(id string, from, to float64) verdict.Result {
	return verdict.Result{Requirement: verdict.Requirement{ID: id}, Verdict: verdict.Pass, Started: at(from), Ended: at(to)}
}

// audited is a line of the audit log.
func audited(seconds float64, verb, resource, name, user string, code int, object any) string {
	uri := "/api/v1/namespaces/" + namespace + "/" + resource
	if verb != "create" && verb != "deletecollection" {
		uri += "/" + name
	}
	line := map[string]any{
		"stage": "ResponseComplete", "user": map[string]any{"username": user}, "objectRef": map[string]any{"resource": resource, "namespace": namespace, "name": name},
		"responseStatus": map[string]any{"code": code}, "requestReceivedTimestamp": at(seconds), "stageTimestamp": at(seconds + 0.02),
	}
	if object != nil {
		line["responseObject"] = object
	}
	rest, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	// The API server writes these first.
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","requestURI":%q,"verb":%q,%s`, uri, verb, rest[1:])
}

type object = map[string]any

// The files of an artifacts folder that timelines are made of, below it.
var (
	auditFile    = artifacts.Dir("").AuditLog()
	eventsFile   = artifacts.Dir("").Events()
	progressFile = artifacts.Dir("").Progress()
	requestsFile = artifacts.Dir("").GatewayLog()
)

// folder writes files of an artifacts folder.
func folder(t *testing.T, files map[string][]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, lines := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func of(t *testing.T, files map[string][]string, results ...verdict.Result) *Timeline {
	t.Helper()
	run := Read(folder(t, files), &verdict.Report{Requirements: results})
	timeline := run.Of(results[0].ID, Limits{Lanes: 20, Points: 1000})
	if timeline == nil {
		t.Fatal("no timeline")
	}
	return timeline
}

// inWords is a timeline as a test compares it.
func inWords(tl *Timeline) string {
	var b strings.Builder
	for _, l := range tl.Lanes {
		fmt.Fprintf(&b, "%s %s\n", l.Kind, l.Name)
		for _, s := range l.Spans {
			fmt.Fprintf(&b, "  %g-%g %s %s\n", since(tl, s.From), since(tl, s.To), s.State, s.Text)
		}
		for _, p := range l.Points {
			fmt.Fprintf(&b, "  %g %s %s\n", since(tl, p.At), p.State, p.Text)
		}
	}
	return b.String()
}

func since(tl *Timeline, at time.Time) float64 {
	return at.Sub(tl.From).Round(time.Millisecond).Seconds()
}

func lane(tl *Timeline, kind Kind) string {
	only := *tl
	only.Lanes = slices.DeleteFunc(slices.Clone(tl.Lanes), func(l Lane) bool { return l.Kind != kind })
	return inWords(&only)
}

func expect(t *testing.T, got string, want ...string) {
	t.Helper()
	if w := strings.Join(want, "\n") + "\n"; got != w {
		t.Errorf("got\n%s\nwant\n%s", got, w)
	}
}

const (
	suite   = "kubernetes-admin"
	kyverno = "system:serviceaccount:kyverno:kyverno-background-controller"
	volsync = "system:serviceaccount:volsync-system:volsync-controller-manager"
)

func TestObjectsLive(t *testing.T) {
	pvc := func(volume string, annotations object, meta object) object {
		m := object{"name": "data", "annotations": annotations, "finalizers": []string{"kubernetes.io/pvc-protection"}}
		for k, v := range meta {
			m[k] = v
		}
		return object{"metadata": m, "spec": object{"volumeName": volume}}
	}
	rd := func(reason, result string) object {
		return object{"metadata": object{"name": "data-restore"}, "status": object{
			"conditions":        []object{{"type": "Synchronizing", "status": map[bool]string{true: "True", false: "False"}[reason == "SyncInProgress"], "reason": reason, "message": "no such volume"}},
			"latestMoverStatus": object{"result": result, "logs": "a\nFatal: wrong password\n"},
		}}
	}
	tl := of(t, map[string][]string{auditFile: {
		audited(1, "create", "persistentvolumeclaims", "data", suite, 201, pvc("", object{"decision": "restore", "pv.kubernetes.io/x": "y"}, nil)),
		audited(1.5, "create", "replicationdestinations", "data-restore", kyverno, 201, rd("", "")),
		audited(1.5, "create", "secrets", "data-restic", kyverno, 201, nil),
		audited(2, "update", "replicationdestinations", "data-restore/status", volsync, 200, rd("SyncInProgress", "")),
		audited(2.5, "update", "replicationdestinations", "data-restore/status", volsync, 200, rd("SyncInProgress", "")),
		audited(3, "update", "replicationdestinations", "data-restore/status", volsync, 200, rd("Error", "Failed")),
		audited(4, "update", "persistentvolumeclaims", "data", "system:kube-controller-manager", 200, pvc("pv-1", object{"decision": "restored"}, nil)),
		audited(5, "delete", "persistentvolumeclaims", "data", suite, 200, pvc("pv-1", object{"decision": "restored"}, object{"deletionTimestamp": at(5)})),
		audited(6, "update", "persistentvolumeclaims", "data", "system:kube-controller-manager", 200, pvc("pv-1", object{"decision": "restored"}, object{"deletionTimestamp": at(5), "finalizers": []string{}})),
		audited(7, "create", "persistentvolumeclaims", "data", suite, 201, pvc("", nil, nil)),
		audited(8, "create", "persistentvolumeclaims", "other", suite, 403, object{"kind": "Status", "message": "denied: too long"}),
		audited(8.2, "create", "persistentvolumeclaims", "data", suite, 409, nil),
		audited(9, "deletecollection", "replicationdestinations", "", "system:serviceaccount:kube-system:namespace-controller", 200, nil),
		strings.Replace(audited(9, "create", "persistentvolumeclaims", "dry", suite, 201, nil), `persistentvolumeclaims"`, `persistentvolumeclaims?dryRun=All"`, 1),
		audited(9, "get", "secrets", "data-restic", kyverno, 200, object{"x": `"verb":"create"`}),
	}}, result("core/restore", 0, 10))
	expect(t, lane(tl, Claim),
		"pvc data", "  1.02-6.02  PVC data made by the suite, admitted in 0.02 s; decision: restore", "  7.02-10.5  PVC data made by the suite, admitted in 0.02 s",
		"  1.02  PVC data made by the suite, admitted in 0.02 s; decision: restore", "  4.02 good PVC data has its volume",
		"  4.02  PVC data annotated by system:kube-controller-manager: decision: restored", "  5.02  PVC data deleted by the suite",
		"  7.02  PVC data made by the suite, admitted in 0.02 s",
		"pvc other", "  8.02 bad PVC other, asked for by the suite, is refused (HTTP status 403): denied: too long")
	expect(t, lane(tl, Destination),
		"destination data-restore", "  1.52-9.02  ReplicationDestination data-restore made by Kyverno", "  2.02-3.02 busy data-restore synchronizes",
		"  1.52  ReplicationDestination data-restore made by Kyverno", "  3.02 warn data-restore: no such volume", "  3.02 bad data-restore: the mover's result is Failed: Fatal: wrong password")
	expect(t, lane(tl, Secret), "secret all", "  1.52  Secret data-restic made by Kyverno")
	if fmt.Sprint(tl.Namespaces) != "["+namespace+"]" {
		t.Error(tl.Namespaces)
	}
}

func TestAuditLinesThatAreBroken(t *testing.T) {
	whole := audited(1, "create", "persistentvolumeclaims", "data", suite, 201, object{"metadata": object{"name": "data"}})
	tl := of(t, map[string][]string{auditFile: {"", "{", `{"requestURI":"x`, whole[:len(whole)/2], whole[:len(whole)/2] + whole}}, result("core/restore", 0, 10))
	if got := lane(tl, Claim); strings.Count(got, "made by the suite") != 2 { // its span and its point
		t.Error(got)
	}
}

func TestNamespacesAreTheSpecs(t *testing.T) {
	w := newWorld(&verdict.Report{Requirements: []verdict.Result{result("core/down", 0, 10), result("core/down-abc234", 0, 10), result("core/not-tried", 0, 0)}})
	for name, want := range map[string]string{
		"core-down-abc234": "core/down", "core-down-abc234-b": "core/down", "core-down-abc234-zzz222": "core/down-abc234",
		"core-down": "", "core-down-abc2345": "", "core-down-ABC234": "", "x-core-down-abc234": "", "core-not-tried-abc234": "", "kyverno": "",
	} {
		got := ""
		if b := w.owner(name); b != nil {
			got = b.id
		}
		if got != want {
			t.Errorf("%s: %q, wanted %q", name, got, want)
		}
	}
	if w.in("core-down-abc234", at(-1)) != nil || w.in("core-down-abc234", at(11)) != nil || w.in("core-down-abc234", at(5)) == nil {
		t.Error("a namespace of an earlier run is taken for this one's")
	}
}

func TestFaultsStepsAndTheFailingMoment(t *testing.T) {
	r := result("core/restore", 0, 10)
	r.Verdict, r.Message, r.FailedAt = verdict.Fail, "wanted: x within 3s\nlast seen: y", at(9)
	fault := func(seconds float64, name string, on bool) verdict.Evidence {
		return verdict.Evidence{Time: at(seconds), Kind: verdict.KindFault, Text: "S3 is " + name, Data: map[string]any{"fault": name, "on": on}}
	}
	r.Evidence = []verdict.Evidence{fault(1, "refused", true), fault(2, "slow", true), {Time: at(3), Kind: "seen", Text: "PVC\ndata bound"}, fault(4, "refused", false), fault(4.5, "refused", false)}
	tl := of(t, nil, r)
	expect(t, lane(tl, Fault), "fault S3", "  1-4 bad refused: S3 is refused", "  2-10.5 bad slow: S3 is slow")
	if got := lane(tl, Suite); !strings.Contains(got, "  3  PVC data bound\n") || !strings.HasSuffix(got, "  9 bad fail: wanted: x within 3s last seen: y\n") {
		t.Error(got)
	}
	if !tl.Failed.Equal(at(9)) {
		t.Error(tl.Failed)
	}
}

func TestProgressIsForSpecsThatLeftNoEvidence(t *testing.T) {
	died, told := result("core/restore", 0, 10), result("core/fresh", 0, 10)
	told.Evidence = []verdict.Evidence{{Time: at(1), Kind: "step", Text: "told"}}
	line := func(spec string) string {
		return fmt.Sprintf(`{"time":%q,"spec":%q,"text":"of the file"}`, at(2).Format(time.RFC3339Nano), spec)
	}
	run := Read(folder(t, map[string][]string{progressFile: {line("core/restore"), line("core/fresh"), line("core/other"), `{"time":`}}), &verdict.Report{Requirements: []verdict.Result{died, told}})
	expect(t, lane(run.Of("core/restore", Default), Suite), "suite spec", "  2  of the file")
	expect(t, lane(run.Of("core/fresh", Default), Suite), "suite spec", "  1  told")
}

func TestMoversPodsAndControllers(t *testing.T) {
	line := func(seconds float64, namespace, object, kind, reason, message string) string {
		raw, _ := json.Marshal(map[string]any{"time": at(seconds).Truncate(time.Second), "seen": at(seconds), "namespace": namespace, "object": object, "type": kind, "reason": reason, "message": message})
		return string(raw)
	}
	tl := of(t, map[string][]string{eventsFile: {
		line(1, namespace, "Job/volsync-dst-data-restore", "Normal", "SuccessfulCreate", "Created pod: volsync-dst-data-restore-x7k2p"),
		line(4, namespace, "Pod/volsync-dst-data-restore-x7k2p", "Normal", "Started", "Started container restic"),
		line(2, namespace, "Pod/volsync-dst-data-restore-x7k2p", "Warning", "FailedScheduling", "no volume"), // they are not in order
		line(6, namespace, "Job/volsync-dst-data-restore", "Normal", "Completed", "Job completed"),
		line(2, namespace, "Pod/app-data", "Normal", "Scheduled", "assigned"),
		line(3, namespace, "Pod/app-data", "Normal", "Started", "Started container app"),
		line(5, "default", "ValidatingPolicy/gate", "Warning", "PolicyViolation", "Pod "+namespace+"/app-data: fail (blocked)"),
		line(5, "default", "ValidatingPolicy/gate", "Warning", "PolicyViolation", "Pod somewhere-else/app: fail"),
		line(7, "kyverno", "Pod/kyverno-1", "Normal", "Killing", "Stopping container kyverno"),
		line(7, "kyverno", "Pod/kyverno-1", "Normal", "Pulled", "Container image"),
		line(20, "kyverno", "Pod/kyverno-1", "Normal", "Started", "too late"),
	}}, result("core/restore", 0, 10))
	expect(t, inWords(tl), "suite spec",
		"mover volsync-dst-data-restore", "  1-4  pod volsync-dst-data-restore-x7k2p waits", "  4-6 good pod volsync-dst-data-restore-x7k2p runs",
		"  2 warn pod volsync-dst-data-restore-x7k2p: no volume", "  6 good Job volsync-dst-data-restore completed",
		"pod app-data", "  2-3  pod app-data waits", "  3-10.5 busy pod app-data runs",
		"policy Kyverno", "  5 warn gate: Pod app-data: fail (blocked)",
		"controller Kyverno, VolSync", "  7 warn kyverno-1: Stopping container kyverno")
}

func TestRequests(t *testing.T) {
	line := func(seconds float64, method, path, query string, status int, millis float64, more string) string {
		return fmt.Sprintf(`{"time":%q,"method":%q,"path":%q,"query":%q,"status":%d,"durationMillis":%g%s}`, at(seconds).Format(time.RFC3339Nano), method, path, query, status, millis, more)
	}
	key := "/bucket/" + namespace + "/data/"
	tl := of(t, map[string][]string{requestsFile: {
		"gateway: listening",
		line(1, "GET", key+"config", "", 404, 3, `,"auth":"none","userAgent":"Go-http-client/1.1"`),
		line(2, "GET", key+"config", "", 503, 4, `,"auth":"none","rule":"core-restore"`),
		line(3, "GET", key+"config", "", 0, 3000, `,"auth":"none","rule":"core-restore","error":"reset"`),
		line(4, "GET", "/bucket/", "prefix="+namespace+"%2Fdata%2Fkeys%2F", 200, 2, `,"auth":"aws4"`),
		line(5, "PUT", key+"keys/"+strings.Repeat("a", 64), "", 500, 2, `,"auth":"aws4"`),
		line(6, "GET", key+"config", "", 200, 2, `,"auth":"none","userAgent":"smart-restore-conformance-probe"`),
		line(6, "GET", "/bucket/another-namespace/data/config", "", 200, 2, `,"auth":"none"`),
		line(6, "GET", "/bucket/", "location=", 200, 2, `,"auth":"aws4"`),
	}}, result("core/restore", 0, 10))
	expect(t, lane(tl, S3),
		"s3 asked by Kyverno", "  3-6 bad GET data/config: no reply in 3000 ms, reset, by the fault",
		"  1  GET data/config: 404 in 3 ms", "  2 bad GET data/config: 503 in 4 ms, by the fault",
		"s3 asked by restic", "  4  GET list data/keys/: 200 in 2 ms", "  5 warn PUT data/keys/aaaaaaaa…: 500 in 2 ms",
		"s3 asked by the suite", "  6  GET data/config: 200 in 2 ms")
}

func TestWhatIsDenseIsCountedTogether(t *testing.T) {
	var lines []string
	for i := range 1000 {
		status, rule := 200, ""
		if i%10 == 0 {
			status, rule = 503, `,"rule":"x"`
		}
		lines = append(lines, fmt.Sprintf(`{"time":%q,"method":"GET","path":"/bucket/%s/data/%d","status":%d,"auth":"aws4"%s}`, at(float64(i)/100).Format(time.RFC3339Nano), namespace, i, status, rule))
	}
	for i := range 5 {
		lines = append(lines, fmt.Sprintf(`{"time":%q,"method":"GET","path":"/bucket/%s-%d/data/x","status":200,"durationMillis":600,"auth":"none"}`, at(1).Format(time.RFC3339Nano), namespace, i))
	}
	run := Read(folder(t, map[string][]string{requestsFile: lines}), &verdict.Report{Requirements: []verdict.Result{result("core/restore", 0, 10)}})
	tl := run.Of("core/restore", Limits{Lanes: 5, Points: 20})
	for _, l := range tl.Lanes {
		if l.Kind != S3 || l.Name != "asked by restic" {
			continue
		}
		total := 0
		for _, p := range l.Points {
			total += max(1, p.Count)
			if p.State == Bad != strings.Contains(p.Text, "GET 503 by the fault") || strings.Contains(p.Text, "200") == strings.Contains(p.Text, "503") {
				t.Errorf("%s is not told apart: %s", p.State, p.Text)
			}
		}
		if len(l.Points) > 2*21 || total != 1000 {
			t.Errorf("%d points for %d requests", len(l.Points), total)
		}
	}
	less := run.Of("core/restore", Limits{Lanes: 1, Points: 2})
	if less.LeftOut == 0 || len(run.Of("core/restore", Limits{}).Lanes) != 0 {
		t.Errorf("nothing is left out: %d", less.LeftOut)
	}
	if again := run.Of("core/restore", Limits{Lanes: 5, Points: 20}); inWords(again) != inWords(tl) {
		t.Error("a timeline with less detail changed what there is")
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	dir := folder(t, map[string][]string{eventsFile: {strings.Repeat("x", maxLine+1)}})
	run := Read(dir, &verdict.Report{Requirements: []verdict.Result{result("core/restore", 0, 10), {Requirement: verdict.Requirement{ID: "core/none"}, Verdict: verdict.Unknown}}})
	got := strings.Join(run.Missing, "; ")
	for _, want := range []string{"progress.jsonl is not there", "audit.log is not there", "events.jsonl was not read to its end: bufio.Scanner: token too long", "gateway.log is not there"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if run.Of("core/none", Default) != nil || run.Of("core/unheard-of", Default) != nil {
		t.Error("a timeline of what was not tried")
	}
}
