package check

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/endpoint"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
)

const url = "http://192.168.10.133:9000"

// fake is a simulator that takes every policy, and says of each situation what it is told to.
type fake struct {
	acceptances []play.Acceptance
	course      func(play.Situation) play.Course
	err         error
}

func (f fake) Play(_ context.Context, given play.Play) (*play.Record, error) {
	r := &play.Record{Kyverno: "nobody", Policies: f.acceptances}
	for _, s := range given.Situations {
		c := f.course(s)
		c.Name = s.Name
		r.Situations = append(r.Situations, c)
	}
	return r, f.err
}

var taken = []play.Acceptance{{Kind: "GeneratingPolicy", Name: "p-restore", Called: 1}}

// plan is what the plan's policies are about.
var plan = plot{Contract: policy.Default(), endpoint: url}

// nothing happens.
func nothing(play.Situation) play.Course {
	return play.Course{Events: []play.Event{{What: play.Admitted, Object: plan.claim(claimName)}}}
}

// loaded is a policy of one file, with a contract.
func loaded(t *testing.T, contract string) *policy.Policy {
	t.Helper()
	return policyOf(t, map[string]string{
		"policy.yaml": `# A comment.
apiVersion: policies.kyverno.io/v1
kind: GeneratingPolicy
metadata:
  name: p-restore
spec:
  matchConstraints:
    {objectSelector: {matchLabels: {backup: hourly}}, resourceRules: [{resources: [persistentvolumeclaims]}]}
  variables:
  - name: a
    expression: "1"
  - name: b
    expression: http.get("http://192.168.10.133:9000/volsync-backups/").statusCode
  generate:
  - expression: generator.apply("ReplicationDestination, ReplicationSource")
`,
		"conformance.yaml": "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: p\ndescription: d\nadmissionSeconds: 6\n" + contract,
	})
}

// policyOf is the policy that is in these files.
func policyOf(t *testing.T, files map[string]string) *policy.Policy {
	t.Helper()
	folder := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := policy.Load(folder, planEndpoint(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func planEndpoint(t *testing.T) endpoint.Endpoint {
	t.Helper()
	e, err := endpoint.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func run(t *testing.T, p *policy.Policy, simulator fake) *Report {
	t.Helper()
	r, err := Run(t.Context(), p, "kyverno-1.19", simulator)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func row(t *testing.T, r *Report, requirement string) Row {
	t.Helper()
	for _, row := range r.Rows {
		if row.Requirement == requirement {
			return row
		}
	}
	t.Fatalf("no row for %s", requirement)
	return Row{}
}

func TestWhatIsNotThereIsFound(t *testing.T) {
	r := run(t, loaded(t, ""), fake{acceptances: taken, course: nothing})
	if got := row(t, r, "core/restore"); got.Verdict != Finding || got.Restores != "no" || !strings.Contains(got.Text, "no ReplicationDestination is made") {
		t.Errorf("%+v", got)
	}
	if got := row(t, r, "core/unlabelled"); got.Verdict != OK {
		t.Errorf("%+v", got)
	}
	if r.OK() {
		t.Error("a policy that does nothing is not in order")
	}
	for _, trouble := range r.Findings {
		if filepath.Base(trouble.File) != "policy.yaml" || trouble.Line != 2 {
			t.Errorf("%s: at %s:%d, wanted policy.yaml:2", trouble.Requirement, trouble.File, trouble.Line)
		}
	}
}

func TestWhatTheContractExpectsIsNoFinding(t *testing.T) {
	bad := fake{acceptances: taken, course: func(s play.Situation) play.Course {
		if s.Name != "backup" {
			return good(s)
		}
		return nothing(s)
	}}
	if r := run(t, loaded(t, ""), bad); r.OK() || row(t, r, "core/restore").Verdict != Finding {
		t.Errorf("without an expectation: %+v", r.Findings)
	}
	r := run(t, loaded(t, "expectedFailures: [{requirement: core/restore, reason: so it is}]\n"), bad)
	if got := row(t, r, "core/restore"); !r.OK() || got.Verdict != Expected || !strings.Contains(r.Findings[0].Text, "so it is") {
		t.Errorf("%+v %+v", got, r.Findings)
	}
}

func TestGoodPolicyHasNoFinding(t *testing.T) {
	r := run(t, loaded(t, "features: [visible-decision, gated-start, relabel]\n"), fake{acceptances: taken, course: good})
	if !r.OK() || len(r.Findings) > 0 {
		t.Errorf("%+v", r.Findings)
	}
	for _, row := range r.Rows {
		if row.Verdict != OK && row.Text != noWayToDecide {
			t.Errorf("%+v", row)
		}
	}
}

func TestFeaturesAreAskedOfWhoPromisesThem(t *testing.T) {
	has := func(contract, requirement string) bool {
		r := run(t, loaded(t, contract), fake{acceptances: taken, course: good})
		return slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Requirement == requirement })
	}
	if has("", "safety/no-app-before-restore") || !has("features: [gated-start]\n", "safety/no-app-before-restore") {
		t.Error("gated-start is asked of those who do not promise it, or not of those who do")
	}
}

func TestWhatOnlyAClusterCanTellIsUnknown(t *testing.T) {
	const nothingSaid = "unknown: nothing could be said: "
	for name, c := range map[string]struct {
		acceptance play.Acceptance
		course     func(play.Situation) play.Course
		want       string
		line, last string
	}{
		"of another kind": {
			play.Acceptance{Kind: "CleanupPolicy", Name: "x", Unjudged: "no"}, good,
			"only a cluster can tell: CleanupPolicy/x (no)", "unknown", nothingSaid + "only a cluster can tell: CleanupPolicy/x (no)",
		},
		"not taken": {
			play.Acceptance{Kind: "GeneratingPolicy", Name: "p-restore", Problems: []play.Problem{{Field: "spec.variables[1].expression", Text: "undeclared reference"}}}, good,
			"nothing was tried: Kyverno does not take GeneratingPolicy/p-restore", "fail", "",
		},
		"not played": {
			taken[0], func(play.Situation) play.Course { return play.Course{Error: "has no CronJob"} },
			"only a cluster can tell: has no CronJob", "unknown", nothingSaid + "only a cluster can tell: has no CronJob",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, loaded(t, ""), fake{acceptances: []play.Acceptance{c.acceptance}, course: c.course})
			for _, row := range r.Rows {
				if row.Verdict != Unknown || !strings.Contains(row.Text, c.want) {
					t.Errorf("%+v", row)
				}
			}
			if r.OK() {
				t.Error("nothing was said of it, and it is in order")
			}
			if c.line == "fail" && (r.Findings[0].Requirement != policy.Accepted || r.Findings[0].Line != 13) {
				t.Errorf("wanted %s at line 13: %+v", policy.Accepted, r.Findings[0])
			}
			saysOfAll(t, r, c.line, c.last)
		})
	}
}

// saysOfAll looks at what a report says of the whole: how its line begins, and how its text ends. Empty: not with nothing that could be said.
func saysOfAll(t *testing.T, r *Report, line, last string) {
	t.Helper()
	if got := r.Line(); !strings.HasPrefix(got, line+" ") {
		t.Errorf("its line is %q, wanted %q", got, line)
	}
	var text strings.Builder
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if said := text.String(); !strings.HasSuffix(strings.TrimSpace(said), last) || last == "" && strings.Contains(said, "nothing could be said") {
		t.Errorf("it says\n%s\nwanted at its end %q", said, last)
	}
}

// Situations that are unknown fail nothing where others were played.
func TestOneUnknownSituationIsNotAll(t *testing.T) {
	r := run(t, loaded(t, ""), fake{acceptances: taken, course: func(s play.Situation) play.Course {
		if s.Name == "backup" {
			return play.Course{Error: "has no CronJob"}
		}
		return good(s)
	}})
	if got := row(t, r, "core/restore"); got.Verdict != Unknown || !r.OK() {
		t.Errorf("%+v %+v", got, r.Findings)
	}
	saysOfAll(t, r, "ok", "")
}

// Where templates come beside policies, they were read: that is said, though no situation is.
func TestTemplatesThatAreReadAreSomething(t *testing.T) {
	p, err := policy.Load(filepath.Join("..", "..", "fixtures", "gallery", "mover-jitter"), endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, p, fake{course: nothing})
	if !r.OK() || len(r.Rows) == 0 {
		t.Errorf("%d rows, %+v", len(r.Rows), r.Findings)
	}
	saysOfAll(t, r, "unknown", "")
}

// Backups may begin later, by what a policy changes when a restore is done.
func TestThatNoBackupIsLetInLaterIsNotPlayed(t *testing.T) {
	const resumes = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: p-resume}
spec:
  rules:
  - name: resume
    match: {any: [{resources: {kinds: [volsync.backube/v1alpha1/ReplicationDestination/status]}}]}
    mutate: {targets: [{apiVersion: volsync.backube/v1alpha1, kind: ReplicationSource}], patchStrategicMerge: {spec: {paused: false}}}
`
	acceptances := append(slices.Clone(taken), play.Acceptance{Kind: "ClusterPolicy", Name: "p-resume", Called: 1})
	p := loaded(t, "")
	raw, err := os.ReadFile(filepath.Join(p.Path, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	contract, err := os.ReadFile(filepath.Join(p.Path, "conformance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	changing := policyOf(t, map[string]string{"policy.yaml": string(raw) + "---\n" + resumes, "conformance.yaml": string(contract)})
	for _, requirement := range []string{"core/s3-down/list-lies", "core/s3-down/list-short"} {
		if got := row(t, run(t, p, fake{acceptances: taken, course: good}), requirement); got.Verdict != OK {
			t.Errorf("%+v", got)
		}
		got := row(t, run(t, changing, fake{acceptances: acceptances, course: good}), requirement)
		if got.Verdict != Unknown || !strings.Contains(got.Text, "only a cluster can tell: ClusterPolicy/p-resume changes what exists") {
			t.Errorf("%+v", got)
		}
	}
}

func TestNobodyCalled(t *testing.T) {
	r := run(t, loaded(t, ""), fake{acceptances: []play.Acceptance{{Kind: "GeneratingPolicy", Name: "p-restore"}}, course: good})
	if len(r.Findings) != 1 || r.Findings[0].Requirement != policy.Acts {
		t.Errorf("%+v", r)
	}
	if !slices.ContainsFunc(r.NotLookedAt, func(text string) bool { return strings.HasPrefix(text, "GeneratingPolicy/p-restore (") }) {
		t.Errorf("%q", r.NotLookedAt)
	}
}

func TestASimulatorThatFails(t *testing.T) {
	_, err := Run(t.Context(), loaded(t, ""), "", fake{course: good, err: errors.New("crashed")})
	if err == nil || err.Error() != "crashed" {
		t.Error(err)
	}
}

// keepsRestoreBack says whether a restore's mover is refused after a step: S3 is down, or the PVC gets a volume that was there before.
func keepsRestoreBack(s play.Step) bool {
	spec, _ := s.Create["spec"].(map[string]any)
	return s.Outage != nil || s.Appears != nil || spec["storageClassName"] == "" || spec["selector"] != nil
}

// good is what a policy does that is in order, as far as a course shows.
func good(s play.Situation) play.Course {
	c := play.Course{Objects: slices.Clone(s.Objects)}
	backedUp, restoring, unknown, away, waiting, killed, there := false, false, false, false, false, false, map[string]bool{}
	backups := map[string]bool{} // by namespace/name
	var since int64              // the last backup, in milliseconds
	for i, step := range s.Steps {
		if name := nameOf(step.BringBack); step.BringBack["kind"] == "PersistentVolumeClaim" {
			delete(there, name)
			restoring = restoring && !away
			step = create(plan.claim(name[strings.Index(name, "/")+1:]))
		}
		away = (away || step.AdmissionOff) && !step.AdmissionOn
		backedUp, backups[step.Backup] = backedUp || step.Backup != "", true
		unknown = (unknown || step.Outage != nil || step.Later != nil || away) && (backedUp || !step.Scan)
		if since += step.WaitMillis; step.BackedUp {
			since = 0
		}
		switch {
		case step.Movers && restoring && !killed && !slices.ContainsFunc(s.Steps, keepsRestoreBack):
			c.Events = append(c.Events, play.Event{Step: i, What: play.Admitted, By: play.JobController, Object: moverPod("restore")})
		case step.Movers && restoring && killed:
			c.Events = append(c.Events, play.Event{Step: i, What: play.Admitted, By: play.JobController, Object: moverPod("unlock", "restore")})
		case step.Failing && restoring:
			killed = true
			c.Events = append(c.Events, play.Event{Step: i, What: play.Admitted, By: play.JobController, Object: moverPod("restore")})
		case step.Scan && slices.ContainsFunc(c.Objects, func(o map[string]any) bool { return o["kind"] == source }):
			told := plan.claim(claimName)
			told["metadata"].(map[string]any)["annotations"] = map[string]any{"p/decision": "something"}
			if since > hourMillis/2 {
				told["metadata"].(map[string]any)["annotations"].(map[string]any)["p/warning"] = "something is wrong"
			}
			c.Events = append(c.Events, play.Event{Step: i, What: play.Changed, Object: told})
		case step.Movers, step.BackedUp, step.Failing:
			if !restoring && !unknown {
				mover := moverPod("backup")
				if killed {
					mover = moverPod("unlock", "backup")
				}
				killed = killed || step.Failing
				c.Events = append(c.Events, play.Event{Step: i, What: play.Admitted, By: play.JobController, Object: mover})
				c.Objects = append(c.Objects, mover)
			}
		case isForAnybody(step.Appears):
			restoring, unknown = false, true
		case step.DryRun, step.Refused != "", there[nameOf(step.Create)]: // it comes to nothing
		case step.Delete != nil:
			delete(there, nameOf(step.Delete))
		case step.Collect:
			c.Objects = slices.DeleteFunc(c.Objects, func(content map[string]any) bool {
				o := unstructured.Unstructured{Object: content}
				return slices.ContainsFunc(o.GetOwnerReferences(), func(owner metav1.OwnerReference) bool {
					return !there[owner.Kind+" "+o.GetNamespace()+"/"+owner.Name]
				})
			})
		case step.Update["kind"] == source, step.Update["kind"] == destination:
			for _, o := range c.Objects {
				if o["kind"] == step.Update["kind"] {
					maps.Copy(o["spec"].(map[string]any), step.Update["spec"].(map[string]any))
				}
			}
		case step.Outage != nil && step.Outage.Rules == nil, step.Outage != nil && !tellsOfTheBackup(step.Outage.Rules[0].ID):
			backedUp = false
		case step.Create["kind"] == "Pod":
			e := play.Event{Step: i, What: play.Admitted, Object: step.Create}
			if restoring && mounted(e) == claimName && object(e).GetNamespace() == namespace {
				e.What = play.Refusal
			}
			c.Events = append(c.Events, e)
			waiting = len(there) == 0
		case step.Restored:
			if restoring {
				c.Events = append(c.Events, play.Event{Step: i, What: play.Admitted, By: play.VolSync, Object: map[string]any{
					"kind": destination, "spec": map[string]any{"trigger": map[string]any{"manual": "once"}}, "status": map[string]any{"lastManualSync": "once"},
				}})
			}
			unknown = unknown || restoring && step.Said != ""
			restoring = false
		case step.Update["kind"] == "PersistentVolumeClaim":
			c.Events = append(c.Events, play.Event{Step: i, What: play.Admitted, Object: step.Update})
		case step.Create["kind"] == "PersistentVolumeClaim":
			o := step.Create
			metadata := o["metadata"].(map[string]any)
			metadata["uid"] = "uid-of-step-" + string(rune('a'+i))
			if metadata["name"] == longName {
				c.Events = append(c.Events, play.Event{Step: i, What: play.Refusal, Text: "too long", Object: o})
				continue
			}
			e := play.Event{Step: i, What: play.Admitted, Object: o}
			c.Events, c.Objects, there[nameOf(o)] = append(c.Events, e), append(c.Objects, o), true
			spec := o["spec"].(map[string]any)
			if from, _ := spec["dataSource"].(map[string]any); from["kind"] != "PersistentVolumeClaim" && from["apiGroup"] != "snapshot.storage.k8s.io" {
				delete(spec, "dataSource") // the API server leaves it out
			}
			kept := slices.ContainsFunc(s.Objects, func(o map[string]any) bool { return isKeptFor(o, metadata) })
			if kept {
				spec["volumeName"] = keptVolume
			}
			content := spec["volumeName"] != nil || spec["dataSource"] != nil || spec["dataSourceRef"] != nil
			relabelled := slices.ContainsFunc(s.Steps, func(s play.Step) bool { return s.Update["kind"] == "PersistentVolumeClaim" })
			labels, _ := metadata["labels"].(map[string]any)
			if labels["backup"] != "hourly" && !relabelled || labels["app.kubernetes.io/created-by"] == "volsync" || away {
				continue
			}
			metadata["annotations"] = map[string]any{"p/decision": "something"}
			waits := !kept && (waiting || step.Meanwhile != nil || slices.ContainsFunc(s.Objects, isForAnybody))
			unknown = unknown || backedUp && (away || waits)
			if restoring = backedUp && backups[object(e).GetNamespace()+"/"+object(e).GetName()] && metadata["labels"] != nil && !content && !away && !waits; restoring {
				e := made(i, destination, metadata, map[string]any{"trigger": map[string]any{"manual": "once"}, "restic": map[string]any{"destinationPVC": metadata["name"], "repository": metadata["name"], "copyMethod": "Direct"}})
				c.Events, c.Objects = append(c.Events, e), append(c.Objects, e.Object)
			}
			e = made(i, source, metadata, map[string]any{
				"sourcePVC": metadata["name"], "trigger": map[string]any{"schedule": "0 * * * *"},
				"restic": map[string]any{"repository": metadata["name"], "copyMethod": "Direct", "retain": map[string]any{"hourly": 24.0, "daily": 7.0}},
			})
			c.Events, c.Objects = append(c.Events, e), append(c.Objects, e.Object)
			secret := plan.base(metadata["namespace"].(string))
			secret["metadata"] = maps.Clone(e.Object["metadata"].(map[string]any))
			secret["data"].(map[string]any)["RESTIC_REPOSITORY"] = base64.StdEncoding.EncodeToString([]byte(repository(plan.Contract, url, metadata["namespace"].(string), metadata["name"].(string))))
			c.Objects = append(c.Objects, secret)
		}
	}
	return c
}

// moverPod is one of VolSync's, with these arguments.
func moverPod(args ...any) map[string]any {
	return map[string]any{"kind": "Pod", "metadata": map[string]any{"name": "mover"}, "spec": map[string]any{"containers": []any{map[string]any{"args": args}}}}
}

// isForAnybody says of an object whether it is a volume that nobody has and that the situations' PVCs fit.
func isForAnybody(o map[string]any) bool {
	metadata, _ := o["metadata"].(map[string]any)
	spec, _ := o["spec"].(map[string]any)
	capacity, _ := spec["capacity"].(map[string]any)
	modes, _ := spec["accessModes"].([]any)
	return o["kind"] == "PersistentVolume" && spec["claimRef"] == nil && metadata["deletionTimestamp"] == nil && spec["storageClassName"] == plan.class() &&
		capacity["storage"] == "256Mi" && slices.Contains(modes, any("ReadWriteOnce"))
}

// isKeptFor says of an object whether it is a volume whose claimRef names a PVC that is not there yet.
func isKeptFor(o, pvc map[string]any) bool {
	volume := &unstructured.Unstructured{Object: o}
	ref, _, _ := unstructured.NestedStringMap(o, "spec", "claimRef")
	return volume.GetDeletionTimestamp() == nil && ref["namespace"] == pvc["namespace"] && ref["name"] == pvc["name"] && ref["uid"] == ""
}

// nameOf is an object's kind, namespace and name.
func nameOf(object map[string]any) string {
	o := unstructured.Unstructured{Object: object}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// tellsOfTheBackup says whether Kyverno is told of the backup in an outage, by its rule's ID.
func tellsOfTheBackup(rule string) bool {
	i := slices.IndexFunc(outage.Faults, func(f outage.Fault) bool { return f.Name == rule })
	return i >= 0 && outage.Faults[i].Outcome.Restores()
}

func made(step int, kind string, of, spec map[string]any) play.Event {
	return play.Event{Step: step, What: play.Made, Policy: "GeneratingPolicy/p-restore", Object: map[string]any{
		"apiVersion": "volsync.backube/v1alpha1", "kind": kind, "spec": spec,
		"metadata": map[string]any{"name": of["name"], "namespace": of["namespace"], "ownerReferences": []any{
			map[string]any{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": of["name"], "uid": of["uid"]},
		}},
	}}
}

// What each look takes down, of courses in which one thing is not as in a good one.
func TestLooks(t *testing.T) {
	claimed := play.Event{What: play.Admitted, Object: plan.claim(claimName)}
	metadata := map[string]any{"name": claimName, "namespace": namespace, "uid": "u"}
	rd := func(into string) play.Event {
		return made(1, destination, metadata, map[string]any{"restic": map[string]any{"destinationPVC": into, "repository": claimName}})
	}
	triggered := func(trigger map[string]any, copyMethod string) play.Event {
		return made(1, destination, metadata, map[string]any{"trigger": trigger, "restic": map[string]any{"destinationPVC": claimName, "copyMethod": copyMethod}})
	}
	rs := func(spec map[string]any) play.Event {
		spec["sourcePVC"] = claimName
		return made(1, source, metadata, spec)
	}
	at := func(e play.Event, millis int64) play.Event { e.Millis = millis; return e }
	mover := func(what, action string) play.Event {
		return play.Event{What: what, By: play.JobController, Object: moverPod(action)}
	}
	restored := play.Event{What: play.Admitted, Object: map[string]any{
		"kind": destination, "spec": map[string]any{"trigger": map[string]any{"manual": "once"}}, "status": map[string]any{"lastManualSync": "once"},
	}}
	changed := play.Event{Step: 2, What: play.Admitted, Object: plan.claim(claimName)}
	then := func(e play.Event) play.Event { e.Step = 3; return e }
	backupOf := func(claim string) play.Event {
		e := mover(play.Admitted, "backup")
		e.Object["spec"].(map[string]any)["volumes"] = []any{map[string]any{"persistentVolumeClaim": map[string]any{"claimName": claim}}}
		return then(e)
	}
	late := func(e play.Event) play.Event { e.Step = lent + 1; return e }
	cached := func(what, text string, annotations map[string]any) play.Event {
		cache := plan.volSyncsOwn(longCacheName)
		cache["metadata"].(map[string]any)["annotations"] = annotations
		return play.Event{What: what, Text: text, Object: cache}
	}
	backedUpCache := made(1, source, metadata, map[string]any{"sourcePVC": cacheName})
	said := func(step int, key, value string) play.Event {
		pvc := plan.claim(claimName)
		pvc["metadata"].(map[string]any)["annotations"] = map[string]any{key: value}
		return play.Event{Step: step, What: play.Admitted, Object: pvc}
	}
	for name, c := range map[string]struct {
		look   func(*found)
		events []play.Event
		want   string // of the first problem; empty: there is none
	}{
		"promised, and once": {(*found).backsUpAsPromised, []play.Event{claimed, made(1, source, metadata, map[string]any{"sourcePVC": claimName, "trigger": map[string]any{"schedule": "0 * * * *", "manual": "m"}, "restic": map[string]any{"copyMethod": "Direct", "retain": map[string]any{"hourly": 24.0, "daily": 7.0}}})}, `has the manual trigger "m"`},
		"collected":          {(*found).isKept, []play.Event{claimed, rd(claimName)}, "is taken away by the garbage collector"},
		"another's":          {(*found).startsSoRestored, []play.Event{claimed, rd(twinName)}, "beside a PVC whose name begins like this one's"},
		"a Job's":            {(*found).appWaits, []play.Event{claimed, rd(claimName), {What: play.Admitted, By: play.JobController, Object: pod("early")}}, "taken before the restore is done"},
		"a mover":            {(*found).appWaits, []play.Event{claimed, rd(claimName), mover(play.Admitted, "restore")}, ""},
		"in time":            {(*found).admittedInTime, []play.Event{{What: play.Admitted, Object: plan.claim(claimName), TookMillis: 6000}}, ""},
		"not in time":        {(*found).admittedInTime, []play.Event{{What: play.Admitted, Object: plan.claim(claimName), TookMillis: 6001}}, "admitted after 6s, wanted within 6s"},
		"refused":            {(*found).admittedInTime, []play.Event{{What: play.Refusal, Object: plan.claim(claimName), Text: "Policy p-restore failed: no"}}, "the PVC is refused: Policy p-restore failed: no"},
		"restored":           {(*found).neverRestored, []play.Event{claimed, rd(claimName)}, "ReplicationDestination data is made"},
		"restored late":      {(*found).neverRestored, []play.Event{claimed, at(rd(claimName), 20_000)}, "20s after the PVC was admitted: over what an app has written"},
		"still waiting":      {(*found).neverRestored, []play.Event{claimed, {What: play.Waiting, Policy: "GeneratingPolicy/x"}}, "still waiting"},
		"into the PVC":       {func(f *found) { f.hasDestination(1000) }, []play.Event{claimed, rd(claimName)}, ""},
		"beside the PVC":     {func(f *found) { f.hasDestination(1000) }, []play.Event{claimed, rd("")}, `its destinationPVC is ""`},
		"into the PVC late":  {func(f *found) { f.hasDestination(1000) }, []play.Event{claimed, at(rd(claimName), 1001)}, "comes 1s after"},
		"asked wrongly":      {func(f *found) { f.hasDestination(1000) }, []play.Event{claimed, {What: play.Asked, Text: "GET /x → 404"}}, "(GET /x → 404)"},
		"once":               {(*found).restoresOnce, []play.Event{claimed, triggered(map[string]any{"manual": "m"}, "Direct")}, ""},
		"no trigger":         {(*found).restoresOnce, []play.Event{claimed, triggered(nil, "Direct")}, "has no manual trigger"},
		"on a schedule":      {(*found).restoresOnce, []play.Event{claimed, triggered(map[string]any{"schedule": "0 3 * * *"}, "Direct")}, `(schedule "0 3 * * *")`},
		"on a schedule, too": {(*found).restoresOnce, []play.Event{claimed, triggered(map[string]any{"schedule": "0 3 * * *", "manual": "m"}, "Direct")}, ""}, // the manual trigger goes before it
		"by a snapshot":      {(*found).restoresOnce, []play.Event{claimed, triggered(map[string]any{"manual": "m"}, "Snapshot")}, `has the copyMethod "Snapshot", wanted Direct`},
		"source":             {func(f *found) { f.hasSource(1000) }, []play.Event{claimed, rs(map[string]any{})}, ""},
		"no source":          {func(f *found) { f.hasSource(1000) }, []play.Event{claimed, {What: play.Failed, Policy: "GeneratingPolicy/p-restore", Text: "why"}}, "no ReplicationSource is made for the PVC; GeneratingPolicy/p-restore: why"},
		"seldom":             {(*found).backsUpAsPromised, []play.Event{claimed, rs(map[string]any{"trigger": map[string]any{"schedule": "0 0 * * *"}})}, "wanted @hourly"},
		"no Secret":          {func(f *found) { f.repositoryIs(url) }, []play.Event{claimed, rd(claimName)}, `names the Secret "data", which nothing makes`},
		"a backup let in":    {(*found).noBackupLetIn, []play.Event{claimed, at(mover(play.Admitted, "backup"), 15_000)}, "VolSync may begin a backup (Pod mover) during the outage"},
		"let in later":       {(*found).noBackupLetIn, []play.Event{claimed, at(mover(play.Refusal, "backup"), 15_000), at(mover(play.Admitted, "backup"), 80_000)}, "(Pod mover) after the outage"},
		"backups held":       {(*found).noBackupLetIn, []play.Event{claimed, at(mover(play.Refusal, "backup"), 15_000)}, ""},
		"nothing pushed out": {(*found).pushesNothingOut, []play.Event{claimed, mover(play.Refusal, "backup")}, ""},
		"pushed out":         {(*found).pushesNothingOut, []play.Event{claimed, mover(play.Admitted, "backup")}, "VolSync may begin a backup (pod mover) of a volume that is empty, and S3 holds an older one"},
		"not believed":       {(*found).pushesNothingOut, []play.Event{claimed, rd(claimName), mover(play.Admitted, "backup")}, ""},
		"backup meanwhile":   {(*found).noBackupWhileRestoring, []play.Event{claimed, rd(claimName), mover(play.Admitted, "backup")}, "half of the data"},
		"no backup then":     {(*found).noBackupWhileRestoring, []play.Event{claimed, rd(claimName), mover(play.Refusal, "backup")}, ""},
		"a restore's mover":  {(*found).noBackupWhileRestoring, []play.Event{claimed, rd(claimName), mover(play.Admitted, "restore")}, ""},
		"backup afterwards":  {(*found).noBackupWhileRestoring, []play.Event{claimed, rd(claimName), restored, mover(play.Admitted, "backup")}, ""},
		"a repository made":  {func(f *found) { f.restoresWhenFound(3) }, []play.Event{claimed, rd(claimName), mover(play.Admitted, "restore"), restored}, "while S3 does not find the repository"},
		"found again":        {func(f *found) { f.restoresWhenFound(3) }, []play.Event{claimed, rd(claimName), mover(play.Refusal, "restore"), then(mover(play.Admitted, "restore")), restored}, ""},
		"never found":        {func(f *found) { f.restoresWhenFound(3) }, []play.Event{claimed, rd(claimName), mover(play.Refusal, "restore"), then(mover(play.Refusal, "restore"))}, "the restore is not done when S3 is back"},
		"a mover waits":      {(*found).appWaits, []play.Event{claimed, rd(claimName), mover(play.Refusal, "restore")}, ""},
		"unlabelled":         {(*found).untouched, []play.Event{claimed, rd(claimName)}, "a PVC without the label gets ReplicationDestination data"},
		"app beside it":      {(*found).noAppBesideRestore, []play.Event{claimed, mover(play.Admitted, "restore"), {What: play.Admitted, Object: pod("early")}}, "pod early is let in beside the mover of a restore (pod mover)"},
		"app after it":       {(*found).noAppBesideRestore, []play.Event{claimed, mover(play.Admitted, "restore"), {What: play.Refusal, Object: pod("early")}, {What: play.Admitted, Object: pod("late")}}, ""},
		"app without it":     {(*found).noAppBesideRestore, []play.Event{claimed, mover(play.Refusal, "restore"), {What: play.Admitted, Object: pod("early")}}, ""},
		"late starts":        {(*found).lateStarts, []play.Event{claimed, {What: play.Refusal, Object: pod("early")}, {What: play.Admitted, Object: pod("late")}}, ""},
		"late does not":      {(*found).lateStarts, []play.Event{claimed, {What: play.Refusal, Object: pod("late"), Text: "no"}}, "pod late is refused: no"},
		"app first":          {(*found).appWaits, []play.Event{claimed, rd(claimName), {What: play.Admitted, Object: pod("early")}}, "is taken before the restore is done"},
		"app never":          {(*found).appWaits, []play.Event{claimed, rd(claimName), {What: play.Refusal, Object: pod("late")}}, "is refused when the restore is done"},
		"app unrestored":     {(*found).appWaits, []play.Event{claimed, {What: play.Admitted, Object: pod("early")}}, ""},
		"long name":          {(*found).worksOrRefused, []play.Event{{What: play.Admitted, Object: plan.claim(longName)}}, "it is never backed up"},
		"63 characters":      {(*found).longNameWorks, []play.Event{{What: play.Admitted, Object: plan.claim(longName[1:])}}, "it is never backed up"},
		"63 are too many":    {(*found).longNameWorks, []play.Event{{What: play.Refusal, Object: plan.claim(longName[1:]), Text: "too long"}}, "a PVC with a name of 63 characters is refused: too long"},
		"long name refused":  {(*found).worksOrRefused, []play.Event{{What: play.Refusal, Object: plan.claim(longName)}}, ""},
		"token":              {(*found).noToken, []play.Event{{What: play.Asked, Text: "GET / → 200, with credentials (bearer)"}}, "a token goes to S3"},
		"to the oracle":      {(*found).noToken, []play.Event{{What: play.Asked, Text: "the oracle: GET / → 200, with credentials (bearer)"}}, ""},
		"the old one's":      {(*found).hasDestinationOfItsOwn, []play.Event{claimed, rd(claimName), {Step: 2, What: play.Admitted, Object: plan.claim(claimName)}}, "what the old one left is in its place"},
		"let in by change":   {(*found).changeLetsNoBackupIn, []play.Event{claimed, changed, then(mover(play.Admitted, "backup"))}, "since the PVC changed"},
		"held after change":  {(*found).changeLetsNoBackupIn, []play.Event{claimed, changed, then(mover(play.Refusal, "backup"))}, ""},
		"let in before":      {(*found).changeLetsNoBackupIn, []play.Event{claimed, mover(play.Admitted, "backup"), changed, then(mover(play.Admitted, "backup"))}, ""},
		"one backup":         {(*found).noBackupButTheFirst, []play.Event{claimed, mover(play.Admitted, "backup"), mover(play.Refusal, "backup")}, ""},
		"made over":          {(*found).noBackupButTheFirst, []play.Event{claimed, mover(play.Admitted, "backup"), mover(play.Admitted, "backup")}, "restic makes it again"},
		"by a manifest":      {(*found).annotationsDecideNothing, []play.Event{claimed, changed, then(rd(claimName))}, "because of annotations that came with it"},
		"of the first life":  {(*found).annotationsDecideNothing, []play.Event{claimed, rd(claimName), changed}, ""},
		"let in by one":      {(*found).annotationsDecideNothing, []play.Event{claimed, changed, backupOf(claimName)}, "because of annotations that came with the PVC"},
		"lent a restore":     {(*found).lentDecideNothing, []play.Event{claimed, rd(claimName)}, "because of annotations of another PVC"},
		"lent a backup":      {(*found).lentDecideNothing, []play.Event{claimed, late(backupOf(claimName))}, "because of annotations of another PVC"},
		"lent nothing":       {(*found).lentDecideNothing, []play.Event{claimed, late(backupOf(twinName))}, ""},
		"by a clock":         {(*found).decidesNothingLater, []play.Event{claimed, changed, then(rd(claimName))}, "because of a decision that came with it"},
		"app by a clock":     {(*found).decidesNothingLater, []play.Event{claimed, changed, then(play.Event{What: play.Refusal, Object: pod("late"), Text: "no"})}, "pod late is refused: no"},
		"left alone":         {(*found).leftAlone, []play.Event{claimed, {What: play.Admitted, Object: job("theirs", nil, nil)}}, ""},
		"not left alone":     {(*found).leftAlone, []play.Event{claimed, {What: play.Refusal, Object: job("theirs", nil, nil), Text: "paused"}}, "Job theirs is refused, and the policy has nothing to do with it: paused"},
		"made for others":    {(*found).leftAlone, []play.Event{claimed, rs(map[string]any{})}, "a PVC without the label gets ReplicationSource data"},
		"VolSync's own":      {(*found).leavesVolSyncsAlone, []play.Event{claimed, rs(map[string]any{}), cached(play.Admitted, "", nil)}, ""},
		"its cache":          {(*found).leavesVolSyncsAlone, []play.Event{claimed, cached(play.Admitted, "", nil), backedUpCache}, "ReplicationSource data is made for a PVC that VolSync has made for itself"},
		"its cache decided":  {(*found).leavesVolSyncsAlone, []play.Event{claimed, cached(play.Admitted, "", map[string]any{"p/decision": "fresh"})}, "is written on: p/decision: fresh"},
		"its cache warned":   {(*found).leavesVolSyncsAlone, []play.Event{claimed, cached(play.Changed, "", map[string]any{"p/warning": "late"})}, "is written on: p/warning: late"},
		"its cache refused":  {(*found).leavesVolSyncsAlone, []play.Event{claimed, cached(play.Refusal, "too long", nil)}, "is refused, and backups or restores with it: too long"},
		"another volume":     {(*found).restoredOrKept, []play.Event{claimed, mover(play.Admitted, "backup")}, "a volume that is empty pushes it out"},
		"it is restored":     {(*found).restoredOrKept, []play.Event{claimed, rd(claimName), mover(play.Admitted, "backup")}, ""},
		"unlocks":            {func(f *found) { f.unlocks(source) }, []play.Event{claimed, mover(play.Admitted, "backup"), {What: play.Admitted, By: play.JobController, Object: moverPod("unlock", "backup")}}, ""},
		"keeps the lock":     {func(f *found) { f.unlocks(source) }, []play.Event{claimed, mover(play.Admitted, "backup"), mover(play.Admitted, "backup")}, "does not remove stale locks"},
		"killed for good":    {func(f *found) { f.unlocks(source) }, []play.Event{claimed, mover(play.Admitted, "backup"), mover(play.Refusal, "backup")}, "no mover is let in any more after one that was killed"},
		"not the latest":     {(*found).restoresOnce, []play.Event{claimed, made(1, destination, metadata, map[string]any{"trigger": map[string]any{"manual": "m"}, "restic": map[string]any{"destinationPVC": claimName, "copyMethod": "Direct", "previous": int64(1)}})}, "has previous: 1, so it does not restore the latest snapshot"},
		"no twin":            {(*found).twinIsRestored, []play.Event{claimed, rd(claimName)}, "beside a pod of another PVC whose names look like this PVC's"},
		"a twin":             {(*found).twinIsRestored, []play.Event{claimed, rd(twinName)}, ""},
		"of an earlier one":  {(*found).secondNotBackedUp, []play.Event{claimed, mover(play.Admitted, "backup"), changed, backupOf(claimName)}, "because one of an earlier PVC of that name is done"},
		"of another one":     {(*found).secondNotBackedUp, []play.Event{claimed, mover(play.Admitted, "backup"), changed, backupOf(claimName), backupOf(twinName)}, ""},
		"backed up twice":    {(*found).backedUpTwice, []play.Event{claimed, mover(play.Admitted, "backup"), mover(play.Admitted, "backup")}, ""},
		"backed up once":     {(*found).backedUpTwice, []play.Event{claimed, mover(play.Admitted, "backup"), mover(play.Refusal, "backup")}, "no backup is let in any more after one that found no files"},
		"restored, and lost": {(*found).noBackupOfTheRestored, []play.Event{claimed, rd(claimName), mover(play.Admitted, "backup")}, "while S3 does not find the repository that the PVC was restored from"},
		"restored, and held": {(*found).noBackupOfTheRestored, []play.Event{claimed, rd(claimName), mover(play.Refusal, "backup")}, ""},
		"unlocks by spec":    {func(f *found) { f.unlocks(source) }, []play.Event{claimed, rs(map[string]any{"restic": map[string]any{"unlock": "1"}}), mover(play.Admitted, "backup"), mover(play.Admitted, "backup")}, ""},
		"says so":            {func(f *found) { f.saysMore(1, 2, "it is late") }, []play.Event{said(1, "w", "no backup since 2026-11-23T02:00:00Z"), said(2, "w", "")}, ""},
		"says nothing":       {func(f *found) { f.saysMore(1, 2, "it is late") }, []play.Event{said(1, "w", "fine at 2026-11-23T02:00:00Z"), said(2, "w", "fine at 2026-11-23T03:00:00Z")}, "it is late, and the PVC says nothing that it does not say when all is well"},
		"says it for ever":   {func(f *found) { f.saysMore(1, 2, "it is late") }, []play.Event{said(1, "w", "late"), said(2, "other", "x"), said(3, "w", "")}, ""},
		"restored once":      {(*found).notRestoredAgain, []play.Event{claimed, rd(claimName), restored}, ""},
		"asked for again":    {(*found).notRestoredAgain, []play.Event{claimed, rd(claimName), restored, then(rd(claimName))}, "is made when the restore is long done"},
		"older, backed up":   {(*found).noBackupOfAnOlderSnapshot, []play.Event{claimed, rd(claimName), backupOf(claimName)}, "restored an older snapshot"},
		"older, held":        {(*found).noBackupOfAnOlderSnapshot, []play.Event{claimed, rd(claimName)}, ""},
		"another's volume":   {(*found).isLeftToAPerson, []play.Event{claimed, rd(claimName), backupOf(claimName)}, "of a volume that Kubernetes gave to the PVC as it was"},
		"restored over it":   {(*found).isLeftToAPerson, []play.Event{claimed, rd(claimName), mover(play.Admitted, "restore")}, "over the content of a volume that was not made for the PVC"},
		"left to a person":   {(*found).isLeftToAPerson, []play.Event{claimed, rd(claimName), mover(play.Refusal, "restore"), backupOf(twinName)}, ""},
		"half a clone":       {(*found).noBackupOfTheClone, []play.Event{claimed, rd(claimName), backupOf(twinName)}, "of a clone of a PVC whose restore is not done"},
		"a clone, held":      {(*found).noBackupOfTheClone, []play.Event{claimed, rd(claimName), backupOf(claimName)}, ""},
		"may change":         {func(f *found) { f.mayChange("no change") }, []play.Event{claimed, {What: play.Refusal, Object: pod("early"), Text: "no"}}, ""},
		"may not change":     {func(f *found) { f.mayChange("no change") }, []play.Event{claimed, {What: play.Refusal, Object: plan.claim(claimName), Text: "why"}}, "no change: why"},
		"let in like all":    {(*found).annotationsDecideNothing, []play.Event{claimed, changed, backupOf(claimName), backupOf(twinName)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := loaded(t, "")
			f := &found{course: play.Course{Events: c.events}, contract: p.Contract, subjects: subjectsOf(p), applied: applied{}}
			c.look(f)
			switch {
			case c.want == "" && len(f.problems) > 0:
				t.Errorf("found %+v", f.problems)
			case c.want != "" && (len(f.problems) == 0 || !strings.Contains(f.problems[0].text, c.want)):
				t.Errorf("got  %+v\nwant %s", f.problems, c.want)
			}
		})
	}
}

func TestWhatIsSaidOfADecision(t *testing.T) {
	const contract = "features: [visible-decision]\ndecisions: {annotation: p/decision, restore: restore, fresh: fresh, unknown: 'unknown: .+'}\n"
	for said, want := range map[string]string{
		"unknown: S3 is away": "", "fresh": `its p/decision is "fresh", and must say that the decision is unknown`, "": "the PVC does not say what was decided",
	} {
		p := loaded(t, contract)
		claim := plan.claim(claimName)
		if said != "" {
			claim["metadata"].(map[string]any)["annotations"] = map[string]any{"p/decision": said}
		}
		f := &found{course: play.Course{Events: []play.Event{{What: play.Admitted, Object: claim}}}, contract: p.Contract, subjects: subjectsOf(p), applied: applied{}}
		f.decisionVisible(outage.OutcomeUnknown)
		if want == "" && len(f.problems) > 0 || want != "" && (len(f.problems) != 1 || !strings.Contains(f.problems[0].text, want)) {
			t.Errorf("%q: %+v, wanted %q", said, f.problems, want)
		}
	}
}

// A reason that is the same but for the step is one, and what Kyverno says of a policy is said whole: what is to be done stands at its end.
func TestWhatIsUnknownAndRefusedIsSaid(t *testing.T) {
	long := "spec.rules[1] : somebody requires permissions get,create,update,delete for resource volsync.backube/v1alpha1/ReplicationDestination in the namespace " + namespace + ", and has none of them"
	for name, c := range map[string]struct {
		acceptance play.Acceptance
		steps      bool
		refused    string
		want       []string
	}{
		"steps":     {taken[0], true, "", []string{"situations: only a cluster can tell: it is not played\n"}},
		"not taken": {play.Acceptance{Kind: "GeneratingPolicy", Name: "p-restore", Problems: []play.Problem{{Text: long}}}, false, "", []string{long}},
		"no stack":  {taken[0], false, "a\nb", []string{"make e2e would not start. To try it on a cluster, change this first:\n  a\n  b\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			step := 0
			r := run(t, loaded(t, ""), fake{acceptances: []play.Acceptance{c.acceptance}, course: func(s play.Situation) play.Course {
				if step++; c.steps {
					return play.Course{Error: fmt.Sprintf("step %d: it is not played", step)}
				}
				return good(s)
			}})
			r.Refused = c.refused
			var text strings.Builder
			if err := r.Text(&text); err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if strings.Count(text.String(), want) != 1 {
					t.Errorf("%q is not in it once:\n%s", want, text.String())
				}
			}
		})
	}
}

func TestOutput(t *testing.T) {
	r := run(t, loaded(t, "stacks: [kyverno-1.13]\n"), fake{acceptances: taken, course: func(s play.Situation) play.Course {
		c := nothing(s)
		c.Events = append(c.Events, made(1, destination, map[string]any{"name": claimName, "namespace": namespace}, map[string]any{"restic": map[string]any{"destinationPVC": claimName}}))
		return c
	}})
	var text strings.Builder
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"policy p (", "played by nobody", "made for kyverno-1.13", "fail     S3 down: refused",
		"situations follow from it: core/s3-down/refused, core/s3-down/black-hole", "not: a backup may run", "Not looked at, so neither right nor wrong:\n  RBAC beyond ",
		"0 fail as its contract says, 16 unknown, in ", "policy.yaml:2 (GeneratingPolicy/p-restore): ReplicationDestination data is made",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	var raw strings.Builder
	if err := r.JSON(&raw); err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal([]byte(raw.String()), &again); err != nil || len(again.Rows) != len(r.Rows) || again.OK() {
		t.Errorf("%v\n%s", err, raw.String())
	}
}

// A request for a restore that was lost is made up for by a restore, or by words.
func TestWhatWasLostIsMadeUpFor(t *testing.T) {
	claim := func(annotations map[string]any) map[string]any {
		pvc := plan.claim(claimName)
		pvc["metadata"].(map[string]any)["annotations"] = annotations
		return pvc
	}
	decided := claim(map[string]any{"decision": "restore"})
	admitted := play.Event{What: play.Admitted, Object: decided}
	rd := func(into string) play.Event {
		return made(1, destination, map[string]any{"name": claimName, "namespace": namespace}, map[string]any{"restic": map[string]any{"destinationPVC": into}})
	}
	for name, c := range map[string]struct {
		events []play.Event
		atEnd  map[string]any
		want   string // empty: it is
	}{
		"nothing":               {[]play.Event{admitted}, decided, `no ReplicationDestination is made later, and the PVC says no more than when it was created ("decision: restore")`},
		"a restore":             {[]play.Event{admitted, rd(claimName)}, decided, ""},
		"a restore of another":  {[]play.Event{admitted, rd("other")}, decided, "no ReplicationDestination is made later"},
		"words":                 {[]play.Event{admitted}, claim(map[string]any{"decision": "restore", "warning": "it is not restored yet"}), ""},
		"words of Kubernetes":   {[]play.Event{admitted}, claim(map[string]any{"decision": "restore", "pv.kubernetes.io/bind-completed": "yes"}), "no ReplicationDestination is made later"},
		"an app that is held":   {[]play.Event{admitted, rd(claimName), {What: play.Refusal, Object: pod("late"), Text: "it is being restored"}}, decided, "pod late is refused: it is being restored"},
		"a PVC that is refused": {[]play.Event{{What: play.Refusal, Object: decided, Text: "no"}}, decided, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := loaded(t, "")
			f := &found{course: play.Course{Events: c.events, Objects: []map[string]any{c.atEnd}}, contract: p.Contract, subjects: subjectsOf(p), applied: applied{}}
			f.madeUpFor()
			if c.want == "" && len(f.problems) > 0 || c.want != "" && (len(f.problems) != 1 || !strings.Contains(f.problems[0].text, c.want)) {
				t.Errorf("got %+v, want %q", f.problems, c.want)
			}
		})
	}
}

func TestEveryFaultIsPlayed(t *testing.T) {
	for _, s := range situations(plan) {
		for _, step := range s.play.Steps {
			if o := step.Outage; o != nil && o.Dial == "" && len(o.Rules) == 0 {
				t.Errorf("%s: an outage in which nothing is down", s.name)
			}
		}
	}
}

func TestPositionOfAField(t *testing.T) {
	s := subjectsOf(loaded(t, ""))
	for field, want := range map[string]int{"": 2, "spec.variables[1].expression": 13, "spec.variables[7].expression": 10, "spec.nothing": 7} {
		if _, line := s.position("GeneratingPolicy/p-restore", field); line != want {
			t.Errorf("%s is at line %d, wanted %d", field, line, want)
		}
	}
	if file, line := s.position("GeneratingPolicy/other", ""); filepath.Base(file) != "policy.yaml" || line != 2 {
		t.Error("no finding without a file and a line:", file, line)
	}
}

// The rows about an oracle are for a policy that asks one, and their rules are about it.
func TestRowsOfAnOracle(t *testing.T) {
	contract := policy.Default()
	count := func() (rows, rules, dials int) {
		for _, s := range situations(plot{Contract: contract, endpoint: "http://192.168.10.133:9000"}) {
			if !strings.HasPrefix(s.requirement, "core/oracle-down/") {
				continue
			}
			rows++
			for _, step := range s.play.Steps {
				if step.Outage == nil {
					continue
				}
				if step.Outage.DialOracle != "" {
					dials++
				}
				for _, rule := range step.Outage.Rules {
					if rule.To == gateway.ToOracle && rule.PathPrefix == "/volsync-backups/shop/" {
						rules++
					}
				}
			}
		}
		return rows, rules, dials
	}
	if rows, _, _ := count(); rows != 0 {
		t.Errorf("of a policy that asks S3: %d rows", rows)
	}
	contract.Oracle = policy.Oracle{URL: "http://o.kyverno.svc/{namespace}/{pvc}"}
	if rows, rules, dials := count(); rows != len(outage.OracleFaults) || rules+dials != rows || dials != 2 {
		t.Errorf("of one that asks an oracle: %d rows, %d with rules, %d that refuse", rows, rules, dials)
	}
}

// What a policy that keeps more than one snapshot of an hour loses by a lie, only a cluster shows.
func TestWhatRetentionKeepsIsNotPlayed(t *testing.T) {
	backup := play.Event{What: play.Admitted, By: play.JobController, Object: map[string]any{
		"kind": "Pod", "metadata": map[string]any{"name": "mover"}, "spec": map[string]any{"containers": []any{map[string]any{"args": []any{"backup"}}}},
	}}
	for name, c := range map[string]struct {
		retain policy.Retain
		blind  bool
	}{
		"by the hour": {policy.Retain{Hourly: 24}, false},
		"within":      {policy.Retain{Hourly: 24, Within: "1d"}, true},
		"the last":    {policy.Retain{Last: "5"}, true},
	} {
		f := &found{course: play.Course{Events: []play.Event{backup}}, contract: policy.Contract{Retain: c.retain}}
		f.pushesNothingOut()
		if (f.blind != "") != c.blind || (len(f.problems) > 0) == c.blind {
			t.Errorf("%s: blind %q, %v", name, f.blind, f.problems)
		}
	}
}
