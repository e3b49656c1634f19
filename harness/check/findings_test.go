package check

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
)

// twoPolicies is a policy of two rules, one that decides and one that restores, in a file each, with a contract.
func twoPolicies(t *testing.T, contract string) *policy.Policy {
	t.Helper()
	return policyOf(t, map[string]string{
		"decide.yaml": `apiVersion: policies.kyverno.io/v1
kind: MutatingPolicy
metadata:
  name: p-decide
spec:
  matchConstraints:
    objectSelector:
      matchLabels:
        backup: hourly
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [persistentvolumeclaims]}
  variables:
  - name: answer
    expression: http.get("http://192.168.10.133:9000/volsync-backups/x").statusCode
  mutations: []
`,
		"make.yaml": `apiVersion: policies.kyverno.io/v1
kind: GeneratingPolicy
metadata:
  name: p-make
spec:
  matchConstraints:
    objectSelector:
      matchLabels:
        backup: nightly
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [persistentvolumeclaims]}
  variables:
  - name: objects
    expression: >-
      [{"kind": dyn("ReplicationDestination"), "secret": dyn("volsync-rustfs-base"),
        "repository": dyn("s3:http://192.168.10.134:9000/volsync-backups/")},
       {"kind": dyn("ReplicationSource")}]
  generate:
  - expression: generator.apply(variables.objects)
`,
		"conformance.yaml": "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: p\ndescription: d\nadmissionSeconds: 6\n" + contract,
	})
}

// calls are the two, evaluated so often.
func calls(decide, make int) []play.Acceptance {
	return []play.Acceptance{{Kind: "MutatingPolicy", Name: "p-decide", Called: decide}, {Kind: "GeneratingPolicy", Name: "p-make", Called: make}}
}

// idle is a course in which each PVC is admitted, and nothing comes of it.
func idle(s play.Situation) play.Course {
	var c play.Course
	for i, step := range s.Steps {
		if step.Create["kind"] == "PersistentVolumeClaim" {
			c.Events = append(c.Events, play.Event{Step: i, What: play.Admitted, Object: step.Create})
		}
	}
	return c
}

// causes are the findings that follow from no other.
func causes(r *Report) (all []Trouble) {
	for _, t := range r.Findings {
		if t.Follows == 0 {
			all = append(all, t)
		}
	}
	return all
}

// Kyverno evaluated the rule that asks S3, and never the one that makes things: that one is to blame.
func TestARuleThatNeverAppliedIsToBlame(t *testing.T) {
	asked := func(s play.Situation) play.Course {
		c := idle(s)
		c.Applied = []string{"MutatingPolicy/p-decide"}
		c.Events = append(c.Events, play.Event{What: play.Asked, Text: "GET /x → 200"})
		return c
	}
	r := run(t, twoPolicies(t, ""), fake{acceptances: calls(5, 0), course: asked})
	all := causes(r)
	if len(all) != 1 || filepath.Base(all[0].File) != "make.yaml" || all[0].Line != 9 || all[0].Policy != "GeneratingPolicy/p-make" ||
		!strings.HasSuffix(all[0].Text, "GeneratingPolicy/p-make applied to nothing in any situation: its selectors name backup=nightly, the contract says backup=hourly") {
		t.Errorf("want one finding, at make.yaml:9, found %d: %+v", len(all), all)
	}
	// Where it does apply elsewhere, what the decision came to is to blame.
	r = run(t, twoPolicies(t, ""), fake{acceptances: calls(5, 3), course: asked})
	i := slices.IndexFunc(r.Findings, func(t Trouble) bool { return t.Requirement == "core/restore" })
	if i < 0 || r.Findings[i].Policy != "MutatingPolicy/p-decide" || !strings.Contains(r.Findings[i].Text, "is made; GeneratingPolicy/p-make did not apply (GET /x → 200)") {
		t.Errorf("%+v", r.Findings)
	}
	// So it is where its selectors are right, and its conditions never held.
	r = run(t, twoPolicies(t, "pvc: {label: backup, value: nightly}\n"), fake{acceptances: calls(5, 0), course: asked})
	i = slices.IndexFunc(r.Findings, func(t Trouble) bool { return t.Requirement == "core/restore" })
	if i < 0 || r.Findings[i].Policy != "MutatingPolicy/p-decide" {
		t.Errorf("%+v", r.Findings)
	}
}

// That nothing is wrong where nothing happened is not known to be right.
func TestWhatShowsNothingIsUnknown(t *testing.T) {
	r := run(t, loaded(t, "features: [gated-start]\n"), fake{acceptances: taken, course: idle})
	for _, requirement := range []string{"core/backup", "safety/backup-during-restore", "safety/no-app-before-restore"} {
		if got := row(t, r, requirement); got.Verdict != Unknown || !strings.Contains(got.Text, "so nothing of it is seen") {
			t.Errorf("%+v", got)
		}
	}
	if got := row(t, r, "core/fresh"); got.Verdict != Finding {
		t.Errorf("%+v", got)
	}
}

// A kustomization changes labels: what counts is what it makes, at the line that it changes.
func TestSelectorsAreThoseThatAreApplied(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{
		"policy.yaml":        "apiVersion: policies.kyverno.io/v1\nkind: GeneratingPolicy\nmetadata:\n  name: p\nspec:\n  matchConstraints:\n    objectSelector:\n      matchLabels:\n        backup: hourly\n    resourceRules:\n    - {resources: [persistentvolumeclaims]}\n  asks: http://192.168.10.133:9000\n",
		"kustomization.yaml": "resources: [policy.yaml]\nnamePrefix: their-\npatches:\n- target: {kind: GeneratingPolicy}\n  patch: |-\n    - {op: replace, path: /spec/matchConstraints/objectSelector/matchLabels/backup, value: daily}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := policy.Load(folder, planEndpoint(t))
	if err != nil {
		t.Fatal(err)
	}
	text, line := subjectsOf(p).otherLabel("GeneratingPolicy/their-p", p.Contract.PVC)
	if text != "its selectors name backup=daily, the contract says backup=hourly" || line != 9 {
		t.Errorf("%q at line %d", text, line)
	}
}

func TestSelectorsThatNameAnotherLabelThanTheContractAreOneFinding(t *testing.T) {
	r := run(t, twoPolicies(t, "pvc: {label: backup, value: huorly}\n"), fake{acceptances: calls(0, 0), course: idle})
	// The two rules name different labels, so there are two causes.
	var places []string
	for _, f := range causes(r) {
		places = append(places, fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line))
		if !strings.Contains(f.Text, "the contract says backup=huorly") && !strings.Contains(f.Text, "backup=huorly") {
			t.Errorf("%+v", f)
		}
	}
	slices.Sort(places)
	if want := []string{"decide.yaml:9", "make.yaml:9"}; !slices.Equal(places, want) {
		t.Errorf("want findings at %v, found %+v", want, causes(r))
	}
	for _, want := range []string{"its selectors name backup=hourly, the contract says backup=huorly", "its selectors name backup=nightly, the contract says backup=huorly"} {
		if !slices.ContainsFunc(r.Notes, func(n Note) bool { return n.Text == want && n.Line == 9 }) {
			t.Errorf("no note %q in %+v", want, r.Notes)
		}
	}
}

func TestOneErrorIsOneFinding(t *testing.T) {
	r := run(t, twoPolicies(t, ""), fake{acceptances: calls(5, 5), course: func(s play.Situation) play.Course {
		c := idle(s)
		c.Events = append(c.Events,
			play.Event{What: play.Failed, Policy: "MutatingPolicy/p-decide", Text: "connection refused"},
			play.Event{What: play.Failed, Policy: "GeneratingPolicy/p-make", Text: "no such key: acces, for data-3f5a7c91"})
		return c
	}})
	all := causes(r)
	if len(all) != 1 || all[0].Policy != "GeneratingPolicy/p-make" || !strings.Contains(all[0].Text, "no such key: acces") || strings.Contains(all[0].Text, "refused") {
		t.Errorf("%+v", all)
	}
	if len(r.Findings) < 20 || r.Findings[1].Follows != 1 || r.Findings[1].Situation == "" {
		t.Errorf("each situation has its own finding all the same: %+v", r.Findings)
	}
	var text strings.Builder
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if strings.Count(text.String(), "no such key") != 1 || !strings.Contains(text.String(), "situations follow from it: ") {
		t.Error(text.String())
	}
}

func TestKeysThatAreMissingAreOneFinding(t *testing.T) {
	r := run(t, loaded(t, ""), fake{acceptances: taken, course: func(s play.Situation) play.Course {
		c := good(s)
		for _, o := range c.Objects {
			if data, ok := o["data"].(map[string]any); ok && data["RESTIC_REPOSITORY"] != nil {
				delete(data, "RESTIC_PASSWORD")
				delete(data, "AWS_ACCESS_KEY_ID")
			}
		}
		return c
	}})
	all := causes(r)
	if len(all) != 1 || !strings.Contains(all[0].Text, "has no AWS_ACCESS_KEY_ID, RESTIC_PASSWORD: the base Secret has what belongs there as AWS_ACCESS_KEY_ID, RESTIC_PASSWORD") {
		t.Errorf("%+v", all)
	}
	r = run(t, loaded(t, ""), fake{acceptances: taken, course: func(s play.Situation) play.Course {
		c := good(s)
		for _, o := range c.Objects {
			if data, ok := o["data"].(map[string]any); ok && data["RESTIC_REPOSITORY"] != nil {
				data["RESTIC_PASSWORD"] = base64.StdEncoding.EncodeToString([]byte("mine"))
			}
		}
		return c
	}})
	if all := causes(r); len(all) != 1 || !strings.Contains(all[0].Text, `RESTIC_PASSWORD in Secret data of ReplicationSource data is not the value of the base Secret's key "RESTIC_PASSWORD"`) {
		t.Errorf("%+v", all)
	}
}

// What is made of one sort of answer is one mistake, what is made of another sort another.
func TestRestoresInOutagesAreFoldedByTheAnswer(t *testing.T) {
	r := run(t, twoPolicies(t, ""), fake{acceptances: calls(5, 5), course: func(s play.Situation) play.Course {
		c := good(s)
		if status, found := strings.CutPrefix(s.Name, "S3 down: "); found && len(status) == 3 {
			c.Events = append(c.Events, play.Event{What: play.Asked, Text: "GET /x → " + status},
				made(1, destination, map[string]any{"name": claimName, "namespace": namespace}, map[string]any{"restic": map[string]any{"destinationPVC": claimName}}))
		}
		return c
	}})
	var ids []string
	for _, f := range causes(r) {
		ids = append(ids, f.Requirement)
	}
	// 400, 401, 429 are one sort, 500, 502, 503 another; "tls" is not answered.
	if want := []string{"core/s3-down/tls", "core/s3-down/400", "core/s3-down/500"}; !slices.Equal(ids, want) {
		t.Errorf("want %v, found %v", want, ids)
	}
}

func TestAnExpectedFailureHidesNoOther(t *testing.T) {
	r := run(t, loaded(t, "expectedFailures: [{requirement: core/fresh, reason: so it is}]\n"), fake{acceptances: taken, course: nothing})
	all := causes(r)
	if len(all) < 2 || all[0].Verdict != Expected || all[1].Verdict != Finding || r.OK() {
		t.Errorf("%+v", all)
	}
}

// No finding without a file and a line, whatever is wrong.
func TestEveryFindingHasAFileAndALine(t *testing.T) {
	refused := func(s play.Situation) play.Course {
		c := nothing(s)
		c.Events = []play.Event{{What: play.Refusal, Object: plan.claim(claimName), Text: "no"}}
		return c
	}
	slow := func(s play.Situation) play.Course {
		c := good(s)
		for i := range c.Events {
			c.Events[i].TookMillis = 24_000
		}
		return c
	}
	openGate := func(s play.Situation) play.Course {
		c := good(s)
		for i := range c.Events {
			c.Events[i].What = strings.ReplaceAll(c.Events[i].What, play.Refusal, play.Admitted)
		}
		return c
	}
	written := func(s play.Situation) play.Course {
		c := nothing(s)
		c.Events[0].Object = plan.claim(claimName)
		c.Events[0].Object["metadata"].(map[string]any)["annotations"] = map[string]any{"p/x": "y"}
		return c
	}
	for name, course := range map[string]func(play.Situation) play.Course{"nothing": nothing, "refused": refused, "slow": slow, "open gate": openGate, "written": written} {
		r := run(t, twoPolicies(t, "features: [visible-decision, gated-start, relabel]\n"), fake{acceptances: calls(5, 5), course: course})
		if len(r.Findings) == 0 {
			t.Errorf("%s: nothing is found", name)
		}
		for _, f := range r.Findings {
			if f.File == "" || f.Line == 0 || f.Policy == "" && !policy.IsFinding(f.Requirement) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

func TestErrorsOfAPolicyThatIsNotTakenAreOneFinding(t *testing.T) {
	r := run(t, loaded(t, ""), fake{course: good, acceptances: []play.Acceptance{{Kind: "GeneratingPolicy", Name: "p-restore", Problems: []play.Problem{
		{Field: "spec.variables[1].expression", Text: "undefined field 'pcv'"}, {Field: "spec.generate[0].expression", Text: "undefined field 'b'"},
	}}}})
	var text strings.Builder
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if got := text.String(); len(causes(r)) != 1 || strings.Contains(got, "situation  ") || !strings.Contains(got, "perhaps only because of that: ") ||
		!strings.Contains(got, "situations: nothing was tried: ") || !strings.Contains(got, "; 1 found wrong beyond the situations") {
		t.Error(got)
	}
}

func TestNotes(t *testing.T) {
	r := run(t, twoPolicies(t, "baseSecret: {name: mine}\npvc: {label: example.com/tier, value: gold}\n"), fake{acceptances: calls(5, 5), course: good})
	for want, line := range map[string]int{
		"it names the address 192.168.10.134:9000, the contract's endpoint is 192.168.10.133:9000": 16,
		`it names "volsync-rustfs-base", the contract's base Secret is "mine"`:                     15,
		"its selectors name backup=nightly, the contract says example.com/tier=gold":               9,
	} {
		if !slices.ContainsFunc(r.Notes, func(n Note) bool { return n.Text == want && n.Line == line && filepath.Base(n.File) == "make.yaml" }) {
			t.Errorf("want at line %d: %s, found %+v", line, want, r.Notes)
		}
	}
	if r := run(t, loaded(t, ""), fake{acceptances: taken, course: good}); len(r.Notes) > 0 {
		t.Errorf("a policy that is as its contract says has notes: %+v", r.Notes)
	}
}

func TestExpectedFailuresThatAreNotSeen(t *testing.T) {
	contract := "expectedFailures:\n- {requirement: core/restore, reason: a}\n- {requirement: resilience/volsync-down, reason: b}\n- {requirement: core/fresh, reason: c}\n"
	r := run(t, loaded(t, contract), fake{acceptances: taken, course: func(s play.Situation) play.Course {
		if s.Name == "no backup" {
			return nothing(s)
		}
		return good(s)
	}})
	want := []NotSeen{{"core/restore", "in the situations that were played, nothing of it is wrong"}, {"resilience/volsync-down", "only a cluster can show it"}}
	if !slices.Equal(r.NotSeen, want) || !r.OK() {
		t.Errorf("want %+v, found %+v", want, r.NotSeen)
	}
	var text strings.Builder
	if err := r.Text(&text); err != nil || !strings.Contains(text.String(), "expected to fail, not seen here: core/restore: ") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

func TestTheSimulatorsStackIsOneThatThePolicyIsMadeFor(t *testing.T) {
	for stacks, made := range map[string]bool{"[kyverno-1.18*, kyverno-1.19*]": true, "[kyverno-1.18*]": false} {
		r := run(t, loaded(t, "stacks: "+stacks+"\n"), fake{acceptances: taken, course: good})
		if (len(r.MadeFor) == 0) != made {
			t.Errorf("stacks %s: %v", stacks, r.MadeFor)
		}
	}
}

// What the External Secrets Operator would make of an ExternalSecret that a policy makes is looked at like a Secret of the policy's.
func TestAnExternalSecretIsReadAsTheSecretThatIsMadeOfIt(t *testing.T) {
	const contract = `secretStore:
  name: s
  entries:
  - key: k
    properties: {REPO: "s3:{endpoint}/{bucket}", A: "{accessKey}", S: "{secretKey}", P: "{resticPassword}"}
stacks: ["*-eso"]
`
	for name, c := range map[string]struct{ repository, password, want string }{
		"right":                      {"{{ .REPO }}/shop/data", "{{ .P }}", ""},
		"another repository":         {"{{ .REPO }}", "{{ .P }}", `has the repository "s3:http://192.168.10.133:9000/volsync-backups", wanted`},
		"another password":           {"{{ .REPO }}/shop/data", "{{ .A }}", "RESTIC_PASSWORD in Secret data of ReplicationSource data is not the value"},
		"a field that is not there":  {"{{ .REPO }}/shop/data", "{{ .NOPE }}", "the template of RESTIC_PASSWORD cannot be filled in"},
		"what only the operator can": {"{{ .REPO }}/shop/data", "{{ .P | b64dec }}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Run(t.Context(), loaded(t, contract), "kyverno-1.19-csi-eso", fake{acceptances: taken, course: func(s play.Situation) play.Course {
				course := good(s)
				course.Objects = slices.Clone(course.Objects)
				for i, o := range course.Objects {
					data, ok := o["data"].(map[string]any)
					if !ok || data["RESTIC_REPOSITORY"] == nil {
						continue
					}
					metadata, _ := o["metadata"].(map[string]any)
					repository := strings.ReplaceAll(c.repository, "shop", fmt.Sprint(metadata["namespace"]))
					course.Objects[i] = map[string]any{
						"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata,
						"spec": map[string]any{
							"dataFrom": []any{map[string]any{"extract": map[string]any{"key": "k"}}},
							"target": map[string]any{"template": map[string]any{"data": map[string]any{
								"RESTIC_REPOSITORY": repository, "RESTIC_PASSWORD": c.password, "AWS_ACCESS_KEY_ID": "{{ .A }}", "AWS_SECRET_ACCESS_KEY": "{{ .S }}",
							}}},
						},
					}
				}
				return course
			}})
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(r.Rows, func(row Row) bool { return strings.HasPrefix(row.Requirement, "resilience/base-secret") }) {
				t.Error("the base Secret is looked at, which nothing is taken from")
			}
			all := causes(r)
			if c.want == "" && len(all) > 0 || c.want != "" && (len(all) != 1 || !strings.Contains(all[0].Text, c.want)) {
				t.Errorf("%+v, wanted %q", all, c.want)
			}
		})
	}
}
