package check

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
)

// found reads what happened in a situation, and takes down what is wrong with it.
type found struct {
	course   play.Course
	contract policy.Contract
	subjects subjects
	applied  applied
	problems []problem
	unknown  string // why what is wrong may yet be right
	blind    string // why that nothing is wrong shows nothing
}

// applied says how often each policy, kind/name, was evaluated for something that happened, in all situations.
type applied map[string]int

// problem is one thing that is wrong, and whose doing it probably is.
type problem struct {
	text   string
	policy string // kind/name; empty: the policy's as a whole
	field  string // of it, like spec.variables[2].expression
	line   int    // of its file, where that is closer than its field; 0: it is not
	// cause is the same of all problems that come of one mistake. Empty: the policy and the text are.
	cause     string
	situation string
}

func (f *found) wrong(policy, format string, args ...any) {
	f.problems = append(f.problems, problem{text: fmt.Sprintf(format, args...), policy: policy})
}

// wrongBy is wrong, of a cause that other problems may have, too.
func (f *found) wrongBy(cause, policy, format string, args ...any) {
	f.problems = append(f.problems, problem{text: fmt.Sprintf(format, args...), policy: policy, cause: cause + " " + policy})
}

// missing takes down that something is not there which a policy is to make. That it never applied, or ended in an error, says
// more than what others came to: so that is then the cause. decider is the policy to look at where nothing of the kind
// happened to the maker.
func (f *found) missing(maker, decider, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p, never := f.neverApplied(maker); never && f.isItsOwnDoing(maker, decider) {
		p.text = text + ": " + p.text
		f.problems = append(f.problems, p)
		return
	}
	if e, failed := f.failure(maker); failed {
		f.problems = append(f.problems, problem{text: text + "; " + maker + ": " + e.Text, policy: maker, cause: "error " + maker + " " + withoutNames(e.Text)})
		return
	}
	if decider != maker && maker != "" && len(f.course.Applied) > 0 && !slices.Contains(f.course.Applied, maker) {
		text += "; " + maker + " did not apply"
	}
	if decider == f.subjects.asks() {
		text += f.because()
	}
	if e, failed := f.failure(decider); failed {
		text += "; " + decider + ": " + e.Text
	}
	f.problems = append(f.problems, problem{text: text, policy: decider})
}

// isItsOwnDoing says of a policy that never applied whether that comes of its selectors, or else of what the decider wrote, which
// its conditions ask for.
func (f *found) isItsOwnDoing(maker, decider string) bool {
	if selects, _ := f.subjects.otherLabel(maker, f.contract.PVC); selects != "" || decider == "" || decider == maker {
		return true
	}
	_, never := f.neverApplied(decider)
	return never
}

// neverApplied says that a policy was evaluated in no situation, and what its selectors have to do with that.
func (f *found) neverApplied(name string) (p problem, never bool) {
	if calls, counted := f.applied[name]; name == "" || !counted || calls > 0 {
		return problem{}, false
	}
	p = problem{text: name + " applied to nothing in any situation", policy: name, cause: "never " + name}
	if selects, line := f.subjects.otherLabel(name, f.contract.PVC); selects != "" {
		p.text += ": " + selects
		p.line, p.cause = line, "selectors "+selects
	}
	return p, true
}

// failure is the error that a policy ended in, if it did.
func (f *found) failure(policy string) (play.Event, bool) {
	i := slices.IndexFunc(f.course.Events, func(e play.Event) bool { return e.What == play.Failed && isOf(e, policy) })
	if i < 0 {
		return play.Event{}, false
	}
	return f.course.Events[i], true
}

// isOf says whether an event is a policy's, kind/name. A webhook may be of several of a kind: kind/name,name.
func isOf(e play.Event, policy string) bool {
	kind, all, _ := strings.Cut(e.Policy, "/")
	_, name, named := strings.Cut(policy, "/")
	return named && strings.HasPrefix(policy, kind+"/") && slices.Contains(strings.Split(all, ","), name)
}

// refusedRight finds in an error what the API server says of a request that RBAC does not allow: who may not do what.
var refusedRight = regexp.MustCompile(`User "[^"]+" cannot [a-z]+ resource "[^"]*" in API group "[^"]*"`)

// forbidden takes down that a policy ended in an error because Kyverno may not do what it asks for. Whatever else is wrong in the
// situation comes of that.
func (f *found) forbidden() {
	i := slices.IndexFunc(f.course.Events, func(e play.Event) bool { return e.What == play.Failed && refusedRight.MatchString(e.Text) })
	if i < 0 {
		return
	}
	e := f.course.Events[i]
	policy, _, _ := strings.Cut(e.Policy, ",") // a webhook may be of several
	right := refusedRight.FindString(e.Text)
	if len(f.problems) == 0 {
		f.wrong(policy, "it ends in an error: %s", e.Text)
	}
	for i := range f.problems {
		p := &f.problems[i]
		if !strings.Contains(p.text, right) {
			p.text += "; " + policy + ": " + e.Text
		}
		p.policy, p.line, p.cause = policy, 0, "forbidden "+right
	}
}

// withoutNames leaves of an error what is the same of all objects: their names have their PVC's UID in them.
func withoutNames(text string) string { return names.ReplaceAllString(text, "…") }

var names = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?`)

func object(e play.Event) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: e.Object}
}

func stringAt(o *unstructured.Unstructured, fields ...string) string {
	value, _, _ := unstructured.NestedString(o.Object, fields...)
	return value
}

// sent are the events in which objects of a kind were admitted or refused, in order, but for PVCs that were bound.
func (f *found) sent(kind string) []play.Event {
	var all []play.Event
	for _, e := range f.course.Events {
		if (e.What == play.Admitted || e.What == play.Refusal) && object(e).GetKind() == kind && e.By != play.PVController {
			all = append(all, e)
		}
	}
	return all
}

// claim is the event in which the situation's first PVC was admitted or refused.
func (f *found) claim() (e play.Event, admitted bool) {
	all := f.sent("PersistentVolumeClaim")
	if len(all) == 0 {
		return play.Event{What: play.Refusal, Text: "no PVC was sent"}, false
	}
	return all[0], all[0].What == play.Admitted
}

// made are the events in which objects of a kind were made, in order.
func (f *found) made(kind string) []play.Event {
	var all []play.Event
	for _, e := range f.course.Events {
		if e.What == play.Made && object(e).GetKind() == kind {
			all = append(all, e)
		}
	}
	return all
}

// The kinds that a policy makes.
const (
	source      = "ReplicationSource"
	destination = "ReplicationDestination"
)

// since is how long after the PVC's admission something was.
func (f *found) since(e play.Event) time.Duration {
	claim, _ := f.claim()
	return time.Duration(e.Millis-claim.Millis) * time.Millisecond
}

func seconds(d time.Duration) string { return d.Round(time.Millisecond * 100).String() }

// admittedInTime is about the PVC, and about what the API server waited for.
func (f *found) admittedInTime() {
	e, admitted := f.claim()
	if !admitted {
		f.wrongBy("refused", f.refusing(e, "persistentvolumeclaims", "PersistentVolumeClaim"), "the PVC is refused: %s", e.Text)
		return
	}
	if took, bound := time.Duration(e.TookMillis)*time.Millisecond, f.contract.AdmissionBound(); took > bound {
		f.wrongBy("slow", f.slowest(), "the PVC is admitted after %s, wanted within %s%s", seconds(took), bound, f.because())
	}
}

// refusing is the policy that an object is refused by: the one that the refusal names, or else the first that is called for
// such objects.
func (f *found) refusing(e play.Event, plural, kind string) string {
	return cmp.Or(f.subjects.namedIn(e.Text), f.subjects.admits(plural, kind))
}

// slowest is a policy that a webhook gave up on, or else the one that asks S3 when a PVC is admitted.
func (f *found) slowest() string {
	for _, e := range f.course.Events {
		if e.What == play.Failed && strings.Contains(e.Text, "webhook") {
			name, _, _ := strings.Cut(e.Policy, ",") // a webhook may be of several
			return name
		}
	}
	return cmp.Or(f.subjects.asks(), f.subjects.admits("persistentvolumeclaims", "PersistentVolumeClaim"))
}

// neverRestored is about all that could restore, at any time of the situation. A ReplicationDestination that no PVC is filled from, and that
// names none, is no restore.
func (f *found) neverRestored() {
	f.notForNobody()
	for _, e := range f.made(destination) {
		if f.claimOf(e) == "" {
			continue
		}
		if f.contract.Restores == policy.Always {
			if !f.fills(e) { // into a volume that an app may use by then
				f.blind = "a ReplicationDestination comes with each PVC: what VolSync restores by it, and when, only a cluster shows"
			}
			continue
		}
		late, cause := "", "restored "+f.answerKinds()
		if f.since(e) >= outageMillis*time.Millisecond {
			cause = "restored late"
			late = fmt.Sprintf(", %s after the PVC was admitted: over what an app has written", seconds(f.since(e)))
		}
		f.wrongBy(cause, e.Policy, "ReplicationDestination %s is made%s%s", object(e).GetName(), late, f.because())
	}
	for _, e := range f.course.Events {
		if e.What == play.Waiting && strings.HasPrefix(e.Policy, "GeneratingPolicy/") {
			f.wrongBy("waiting", e.Policy, "it is still waiting for an answer at the end: nothing bounds its question, and nobody knows what it will do")
		}
	}
}

// because says what the policy was answered.
func (f *found) because() string {
	answers := f.answers()
	if answers == "" {
		return ""
	}
	return " (" + answers + ")"
}

// answers are the requests to S3 and what came of them, each once.
func (f *found) answers() string {
	var all []string
	seen := map[string]bool{}
	for _, e := range f.course.Events {
		if (e.What == play.Asked || e.What == play.Strayed) && !seen[e.Text] {
			seen[e.Text] = true
			if e.What == play.Strayed {
				e.Text = "a question to " + e.Text + ", which is not S3's address"
			}
			if e.TookMillis >= 1000 {
				e.Text += fmt.Sprintf(" after %s", seconds(time.Duration(e.TookMillis)*time.Millisecond))
			}
			all = append(all, e.Text)
		}
	}
	const most = 3
	if len(all) > most {
		all = append(all[:most], "…")
	}
	return strings.Join(all, "; ")
}

// answerKinds are the sorts of answers that the policy got: what it made of one it makes of others of that sort.
func (f *found) answerKinds() string {
	var kinds []string
	for _, e := range f.course.Events {
		kind := "elsewhere"
		switch {
		case e.What == play.Asked:
			kind = "no answer"
			if status := answered.FindStringSubmatch(e.Text); status != nil {
				kind = status[1] + "xx"
			}
		case e.What != play.Strayed:
			continue
		}
		if e.TookMillis >= 1000 {
			kind += " late"
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return strings.Join(kinds, ", ")
}

var answered = regexp.MustCompile(`→ ([1-5])[0-9]{2}(,|$)`)

// hasSource wants a ReplicationSource of the PVC's within some time of its admission.
func (f *found) hasSource(within int64) {
	if _, admitted := f.claim(); !admitted {
		return
	}
	for _, e := range f.made(source) {
		if stringAt(object(e), "spec", "sourcePVC") != claimName {
			continue
		}
		if late := f.since(e) - f.contract.BackupSource.Delay(); late > time.Duration(within)*time.Millisecond {
			f.wrongBy("late", e.Policy, "ReplicationSource %s comes %s after the PVC", object(e).GetName(), seconds(late))
		}
		return
	}
	f.noSource("no ReplicationSource is made for the PVC")
}

// noSource takes down that a ReplicationSource is not there, unless it is to come later than the PVC.
func (f *found) noSource(format string, args ...any) {
	if f.contract.BackupSource.Late() {
		f.unknown = "the ReplicationSource comes later than the PVC, as the contract says, and no situation waits for that"
		return
	}
	maker := f.subjects.makes(source)
	f.missing(maker, maker, format, args...)
}

// hasDestination wants a ReplicationDestination into the PVC itself.
func (f *found) hasDestination(within int64) {
	if _, admitted := f.claim(); !admitted {
		return
	}
	aside := ""
	for _, e := range f.made(destination) {
		if !f.intoClaim(e) {
			aside = e.Policy
			f.wrongBy("aside", e.Policy, "ReplicationDestination %s does not restore into PVC %s: its destinationPVC is %q, and it is not the PVC's dataSourceRef", object(e).GetName(), claimName, stringAt(object(e), "spec", "restic", "destinationPVC"))
			continue
		}
		if late := f.since(e); late > time.Duration(within)*time.Millisecond {
			f.wrongBy("late", e.Policy, "ReplicationDestination %s comes %s after the PVC", object(e).GetName(), seconds(late))
		}
		return
	}
	if aside == "" {
		f.missing(f.subjects.makes(destination), f.subjects.asks(), "there is a backup, and no ReplicationDestination is made")
	}
}

// restoresOnce wants every ReplicationDestination to restore the latest snapshot, once, and to be done then: without a manual trigger, VolSync restores
// again and again, and with another copyMethod than Direct it is not done before there is a VolumeSnapshot of the volume, which is what
// the populator fills a volume from.
func (f *found) restoresOnce() {
	for _, e := range f.made(destination) {
		switch method := stringAt(object(e), "spec", "restic", "copyMethod"); {
		case f.fills(e) && method != "Snapshot":
			f.wrongBy("copyMethod", e.Policy, "ReplicationDestination %s has the copyMethod %q, wanted Snapshot: VolSync's populator fills a volume from a snapshot only, and PVC %s waits for ever", object(e).GetName(), method, claimName)
		case !f.fills(e) && method != "Direct" && method != f.contract.CopyMethod:
			f.wrongBy("copyMethod", e.Policy, "ReplicationDestination %s has the copyMethod %q, wanted Direct: VolSync restores into PVC %s itself then", object(e).GetName(), method, claimName)
		}
		if why := restoresAgain(object(e)); why != "" {
			f.wrongBy("again and again", e.Policy, "ReplicationDestination %s %s", object(e).GetName(), why)
		}
		if field, why := restoresAnother(object(e)); field != "" {
			f.wrongBy(field, e.Policy, "ReplicationDestination %s %s", object(e).GetName(), why)
		}
		if why := f.tooSmall(e); why != "" {
			f.wrongBy("capacity", e.Policy, "ReplicationDestination %s %s", object(e).GetName(), why)
		}
	}
}

// restoresAgain says why VolSync restores by a ReplicationDestination more than once. Empty: it does not. A manual trigger goes before a schedule.
func restoresAgain(o *unstructured.Unstructured) string {
	if stringAt(o, "spec", "trigger", "manual") != "" {
		return ""
	}
	return fmt.Sprintf("has no manual trigger (schedule %q): VolSync restores over the volume again and again", stringAt(o, "spec", "trigger", "schedule"))
}

// restoresAnother is the field of a ReplicationDestination by which VolSync restores another snapshot than the latest, and what is said of
// that. Empty: there is none.
func restoresAnother(o *unstructured.Unstructured) (field, why string) {
	for _, field := range []string{"previous", "restoreAsOf"} {
		if value, set, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "restic", field); set && fmt.Sprint(value) != "0" {
			return field, fmt.Sprintf("has %s: %v, so it does not restore the latest snapshot", field, value)
		}
	}
	return "", ""
}

// backsUpOnce says why VolSync does not back up by the schedule of a ReplicationSource. Empty: it does.
func backsUpOnce(o *unstructured.Unstructured) string {
	if manual := stringAt(o, "spec", "trigger", "manual"); manual != "" {
		return fmt.Sprintf("has the manual trigger %q, which goes before a schedule: VolSync backs up once, and then never again", manual)
	}
	return ""
}

// smaller says of a ReplicationDestination why what is backed up of a PVC, which requests so much, may not fit into its volume. Empty: it does.
func smaller(o *unstructured.Unstructured, pvc string, needs resource.Quantity) string {
	has, err := resource.ParseQuantity(stringAt(o, "spec", "restic", "capacity"))
	if err != nil || has.Cmp(needs) >= 0 {
		return ""
	}
	return fmt.Sprintf("restores into a volume of %s, and PVC %s requests %s: what it holds may not fit", has.String(), pvc, needs.String())
}

// tooSmall is smaller, of the PVC that is filled from it.
func (f *found) tooSmall(e play.Event) string {
	if !f.fills(e) {
		return ""
	}
	for _, sent := range f.sent("PersistentVolumeClaim") {
		pvc := object(sent)
		if pvc.GetNamespace() != object(e).GetNamespace() || pvc.GetName() != f.claimOf(e) {
			continue
		}
		if needs, err := resource.ParseQuantity(stringAt(pvc, "spec", "resources", "requests", "storage")); err == nil {
			return smaller(object(e), pvc.GetName(), needs)
		}
	}
	return ""
}

// isKept wants the garbage collector to leave all that was made. It goes by the name of an owner, its kind and its UID: where one is
// wrong, it takes the object away within minutes, and nobody is told.
func (f *found) isKept() {
	for _, kind := range []string{source, destination, "Secret"} {
		for _, e := range f.made(kind) {
			if f.there(object(e)) {
				continue
			}
			owner := "?"
			for _, o := range object(e).GetOwnerReferences() {
				owner = o.Kind + " " + o.Name
			}
			f.wrongBy("collected", e.Policy, "%s %s is taken away by the garbage collector: its owner reference is to %s, and there is none with that UID", kind, object(e).GetName(), owner)
			return
		}
	}
}

// noSource is why nothing of a ReplicationSource is seen.
const noSource = "no ReplicationSource is made, so nothing of it is seen: core/fresh says why"

// backsUpAsPromised is about schedule, copy method and retention.
func (f *found) backsUpAsPromised() {
	if len(f.made(source)) == 0 {
		f.blind = noSource
	}
	for _, e := range f.made(source) {
		o := object(e)
		if schedule := stringAt(o, "spec", "trigger", "schedule"); !f.contract.Schedules(schedule) {
			f.wrong(e.Policy, "ReplicationSource %s has the schedule %q, wanted %s", o.GetName(), schedule, f.contract.Schedule)
		}
		if why := backsUpOnce(o); why != "" {
			f.wrong(e.Policy, "ReplicationSource %s %s", o.GetName(), why)
		}
		if method := stringAt(o, "spec", "restic", "copyMethod"); method != f.contract.CopyMethod {
			f.wrong(e.Policy, "ReplicationSource %s has the copyMethod %q, wanted %s", o.GetName(), method, f.contract.CopyMethod)
		}
		if retain, _, _ := unstructured.NestedMap(o.Object, "spec", "restic", "retain"); f.contract.Retain.None && len(retain) > 0 {
			f.wrong(e.Policy, "ReplicationSource %s %s", o.GetName(), f.contract.Retain.Broken(retain))
		}
		for _, kept := range f.contract.Retain.Named() {
			value, _, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "restic", "retain", kept.Name)
			if fmt.Sprint(value) != kept.Value {
				f.wrong(e.Policy, "ReplicationSource %s keeps %v %s snapshots, wanted %s", o.GetName(), value, kept.Name, kept.Value)
			}
		}
	}
}

// repositoryIs wants every ReplicationSource and ReplicationDestination to name a Secret that is there at the end, with the
// base Secret's keys and the repository of its PVC.
func (f *found) repositoryIs(url string) {
	for _, kind := range []string{source, destination} {
		for _, e := range f.made(kind) {
			o := object(e)
			name := stringAt(o, "spec", "restic", "repository")
			secret := f.secret(o.GetNamespace(), name)
			made := secret // what the policy made of it
			if secret == nil {
				var err error
				if made, secret, err = f.fromStore(o.GetNamespace(), name, url); errors.Is(err, policy.ErrNotRead) {
					f.unknown = fmt.Sprintf("only a cluster can tell what Secret %s holds: ExternalSecret %s: %v", name, made.GetName(), err)
					continue
				} else if err != nil {
					f.wrongBy("template", f.makerOf(made, e.Policy), "ExternalSecret %s: %v", made.GetName(), err)
					continue
				}
			}
			if secret == nil {
				maker := cmp.Or(f.subjects.makes("Secret"), e.Policy)
				f.missing(maker, maker, "%s %s names the Secret %q, which nothing makes", kind, o.GetName(), name)
				continue
			}
			maker := f.makerOf(made, e.Policy)
			of := fmt.Sprintf("Secret %s of %s %s", name, kind, o.GetName())
			if got, want := decoded(secret, "RESTIC_REPOSITORY"), repository(f.contract, url, o.GetNamespace(), claimName); got != want {
				f.wrongBy("repository", maker, "%s has the repository %q, wanted %q", of, got, want)
			}
			f.credentialsAreTheBaseSecrets(secret, maker, of)
		}
	}
}

// credentialsAreTheBaseSecrets is about the keys that VolSync's movers read.
func (f *found) credentialsAreTheBaseSecrets(secret *unstructured.Unstructured, maker, of string) {
	keys := f.contract.BaseSecret.Keys
	var missing, from []string
	for _, k := range []struct{ key, from string }{
		{"AWS_ACCESS_KEY_ID", keys.AccessKey}, {"AWS_SECRET_ACCESS_KEY", keys.SecretKey}, {"RESTIC_PASSWORD", keys.ResticPassword},
	} {
		switch got, there := decoded(secret, k.key), has(secret, k.key); {
		case !there:
			missing, from = append(missing, k.key), append(from, k.from)
		case got != sourceOf(k.from):
			f.wrongBy("value of "+k.key, maker, "%s in %s is not the value of the base Secret's key %q", k.key, of, k.from)
		}
	}
	if len(missing) > 0 {
		f.wrongBy("keys "+strings.Join(missing, " "), maker, "%s has no %s: the base Secret has what belongs there as %s", of, strings.Join(missing, ", "), strings.Join(from, ", "))
	}
}

func has(secret *unstructured.Unstructured, key string) bool {
	_, there, _ := unstructured.NestedFieldNoCopy(secret.Object, "data", key)
	return there
}

func decoded(secret *unstructured.Unstructured, key string) string {
	value, err := base64.StdEncoding.DecodeString(stringAt(secret, "data", key))
	if err != nil {
		return stringAt(secret, "data", key)
	}
	return string(value)
}

// fromStore is the Secret that the External Secrets Operator makes, and the ExternalSecret that it makes it of; nil: there is none.
func (f *found) fromStore(namespace, name, url string) (of, secret *unstructured.Unstructured, err error) {
	keys := f.contract.BaseSecret.Keys
	for _, content := range f.course.Objects {
		o := &unstructured.Unstructured{Object: content}
		if o.GetKind() != externalSecret || o.GetNamespace() != namespace {
			continue
		}
		made, data, err := f.contract.SecretStore.Secret(o, policy.StoreValues{
			AccessKey: sourceOf(keys.AccessKey), SecretKey: sourceOf(keys.SecretKey), ResticPassword: sourceOf(keys.ResticPassword),
			Endpoint: endpoint.Endpoint{URL: url}, CA: theCA, Bucket: f.contract.S3.Bucket,
		})
		if made != name {
			continue
		}
		encoded := map[string]any{}
		for key, value := range data {
			encoded[key] = base64.StdEncoding.EncodeToString([]byte(value))
		}
		return o, &unstructured.Unstructured{Object: map[string]any{"data": encoded}}, err
	}
	return nil, nil, nil
}

func (f *found) secret(namespace, name string) *unstructured.Unstructured {
	return f.atTheEnd("Secret", namespace, name)
}

// atTheEnd is the object of a kind and name that is there at the end; nil: there is none.
func (f *found) atTheEnd(kind, namespace, name string) *unstructured.Unstructured {
	for _, content := range f.course.Objects {
		o := &unstructured.Unstructured{Object: content}
		if o.GetKind() == kind && o.GetNamespace() == namespace && o.GetName() == name {
			return o
		}
	}
	return nil
}

func (f *found) makerOf(o *unstructured.Unstructured, otherwise string) string {
	for _, e := range f.made(o.GetKind()) {
		if object(e).GetName() == o.GetName() && object(e).GetNamespace() == o.GetNamespace() {
			return e.Policy
		}
	}
	return otherwise
}

// untouched wants a PVC without the label to get nothing.
func (f *found) untouched() {
	e, admitted := f.claim()
	if !admitted {
		f.wrong(f.refusing(e, "persistentvolumeclaims", "PersistentVolumeClaim"), "a PVC without the label is refused: %s", e.Text)
		return
	}
	if written := f.decision(object(e)); written != "" {
		f.wrong(f.subjects.admits("persistentvolumeclaims", "PersistentVolumeClaim"), "a PVC without the label is written on: %s", written)
	}
	for _, made := range f.course.Events {
		if made.What == play.Made || made.What == play.Changed {
			f.wrongBy("unlabelled", made.Policy, "a PVC without the label gets %s %s", object(made).GetKind(), object(made).GetName())
		}
	}
}

// decision is what a policy wrote on a PVC: it was sent with no annotation but those that select it, or keep it from being selected.
func (f *found) decision(o *unstructured.Unstructured) string {
	var all []string
	annotations := o.GetAnnotations()
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		sent := f.contract.PVC.Annotations[key] == annotations[key] || f.contract.PVC.OptOut[key] == annotations[key]
		if domain, _, _ := strings.Cut(key, "/"); !sent && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") {
			all = append(all, key+": "+annotations[key])
		}
	}
	return strings.Join(all, ", ")
}

// decisionVisible is about a feature: the PVC says what was decided, and by the contract's words what this outcome asks for.
func (f *found) decisionVisible(outcome outage.Outcome) {
	e, admitted := f.claim()
	if !admitted || !f.contract.Promises("visible-decision") {
		return
	}
	decider := f.subjects.admits("persistentvolumeclaims", "PersistentVolumeClaim")
	f.saysDecision(object(e), outcome, decider, cmp.Or(f.subjects.asks(), decider), f.because())
}

// saysDecision wants a PVC to say what was decided, and that to be what this outcome asks for. That it says nothing is the writer's, and
// that it is wrong the asker's.
func (f *found) saysDecision(pvc *unstructured.Unstructured, outcome outage.Outcome, writer, asker, because string) {
	if f.decision(pvc) == "" {
		f.missing(writer, writer, "the PVC does not say what was decided about it, which visible-decision promises")
	} else if wrong := f.contract.Decisions.NotDecided(outcome.Decision(), pvc.GetAnnotations()); wrong != "" {
		f.wrong(asker, "what the PVC says was decided about it is wrong: %s%s", wrong, because)
	}
}

// noBackupLetIn wants no backup to begin, at any time of the situation: it is not known whether the volume lacks what an older
// one has.
func (f *found) noBackupLetIn() {
	all := f.backups()
	if len(all) == 0 {
		return
	}
	gate := cmp.Or(f.subjects.admits("jobs", "Job"), f.subjects.admits("pods", "Pod"), f.subjects.makes(source))
	when := "during the outage"
	if f.since(all[0]) > outageMillis*time.Millisecond {
		when = "after the outage"
	}
	f.wrongBy("backup let in "+when, gate, "VolSync may begin a backup (%s %s) %s, and nobody knows whether there is an older one: a volume that is empty pushes it out%s",
		object(all[0]).GetKind(), object(all[0]).GetName(), when, f.because())
}

// noBackupOfAnOlderSnapshot wants no backup to begin of a volume into which an older snapshot than the newest was restored.
func (f *found) noBackupOfAnOlderSnapshot() {
	if all := f.backups(); len(all) > 0 {
		f.wrongBy("backup of an older snapshot", f.moverGate(source), "VolSync may begin a backup (pod %s) of a volume into which it restored an older snapshot, as S3 did not list the newest: "+
			"retention removes the newest, and nobody knows", object(all[0]).GetName())
	}
}

// blindToChanges says that no backup was let in only as far as was played: when a restore is done, the policy changes what exists.
func (f *found) blindToChanges() {
	if changes := f.subjects.changes(); changes != "" {
		f.blind = "only a cluster can tell: " + changes + onlyOnACluster
	}
}

// pushesNothingOut wants no backup to begin of a volume that is empty because somebody said, as if it were so, that there is no backup. What
// retention makes of two of an hour, a cluster shows.
func (f *found) pushesNothingOut() {
	all := f.backups()
	if len(all) == 0 || len(f.filled()) > 0 || f.contract.Restores != policy.Always && len(f.made(destination)) > 0 {
		return
	}
	if f.contract.Retain.Within != "" || f.contract.Retain.Last != "" {
		f.blind = "the policy keeps more than one snapshot of an hour: whether the last good one is among them, only a cluster shows"
		return
	}
	gate := f.moverGate(source)
	f.wrongBy("pushed out", gate, "VolSync may begin a backup (pod %s) of a volume that is empty, and S3 holds an older one, which retention removes within the hour%s", object(all[0]).GetName(), f.because())
}

// isBackup says of a pod whether it is one that VolSync backs up with.
func isBackup(e play.Event) bool { return moves(e, "backup") }

// isMover says of a pod whether it is VolSync's.
func isMover(e play.Event) bool { return isBackup(e) || isRestore(e) }

// moves says of a pod whether it is a mover's that does this.
func moves(e play.Event, action string) bool {
	containers, _, _ := unstructured.NestedSlice(e.Object, "spec", "containers")
	for _, container := range containers {
		content, _ := container.(map[string]any)
		if args, _, _ := unstructured.NestedStringSlice(content, "args"); e.By == play.JobController && slices.Contains(args, action) {
			return true
		}
	}
	return false
}

// isDone says of a ReplicationDestination whether VolSync reports it done.
func isDone(o *unstructured.Unstructured) bool {
	done := stringAt(o, "status", "lastManualSync")
	return o.GetKind() == destination && done != "" && done == stringAt(o, "spec", "trigger", "manual")
}

// noBackupWhileRestoring wants no backup mover's pod to be taken while a ReplicationDestination is not done. A Job without a pod
// moves nothing.
func (f *found) noBackupWhileRestoring() {
	if len(f.made(destination)) == 0 {
		f.blind = "nothing is restored in it, so nothing of it is seen: core/restore says why"
		return
	}
	for _, e := range f.course.Events {
		if e.What == play.Admitted && isDone(object(e)) {
			return
		}
		if e.What == play.Admitted && isBackup(e) {
			gate := cmp.Or(f.subjects.admits("jobs", "Job"), f.subjects.makes(source))
			f.missing(gate, gate, "VolSync may begin a backup (pod %s) while the restore is running: half of the data becomes the latest snapshot", object(e).GetName())
		}
	}
}

// appWaits wants a pod to be refused before the restore is done, unless it waits for its volume, and to be taken after.
func (f *found) appWaits() {
	if len(f.made(destination)) == 0 {
		f.blind = "nothing is restored in it, so nothing of it is seen: core/restore says why"
		return
	}
	for _, e := range f.sent("Pod") {
		if isMover(e) {
			continue
		}
		switch early := object(e).GetName() == "early"; {
		case early && e.What == play.Admitted && !f.waitsForVolume(e):
			gate := cmp.Or(f.subjects.admits("pods", "Pod"), f.subjects.makes(destination))
			f.missing(gate, gate, "a pod that uses the PVC is taken before the restore is done")
		case !early && e.What == play.Refusal:
			f.wrong(f.refusing(e, "pods", "Pod"), "a pod that uses the PVC is refused when the restore is done: %s", e.Text)
		}
	}
}

// hasDestinationOfItsOwn is about the second PVC of a name.
func (f *found) hasDestinationOfItsOwn() {
	claims := f.sent("PersistentVolumeClaim")
	if len(claims) != 2 || claims[1].What != play.Admitted {
		refused := play.Event{}
		if len(claims) == 2 {
			refused = claims[1]
		}
		f.wrongBy("refused", f.refusing(refused, "persistentvolumeclaims", "PersistentVolumeClaim"), "the PVC that comes after another one of its name is not admitted: %s", cmp.Or(refused.Text, "it was not sent"))
		return
	}
	uid := object(claims[1]).GetUID()
	for _, e := range f.made(destination) {
		if e.Step < claims[1].Step || !f.intoClaim(e) {
			continue
		}
		f.notFilledFromBefore(claims[1].Step)
		for _, owner := range object(e).GetOwnerReferences() {
			if owner.UID != uid {
				f.wrong(e.Policy, "ReplicationDestination %s of the new PVC belongs to the old one: it goes with that", object(e).GetName())
			}
		}
		return
	}
	maker := f.subjects.makes(destination)
	if len(f.made(destination)) == 0 {
		f.missing(maker, f.subjects.asks(), "there is a backup, and no ReplicationDestination is made")
		return
	}
	if f.notFilledFromBefore(claims[1].Step); len(f.problems) > 0 {
		return
	}
	f.missing(maker, maker, "the new PVC gets no ReplicationDestination: what the old one left is in its place")
}

// triedAgain leaves open what comes of a generate rule that failed: Kyverno tries those again, which is not played. A
// GeneratingPolicy that failed has been seen to be tried at once only.
func (f *found) triedAgain() {
	for _, e := range f.course.Events {
		if e.What == play.Failed && strings.HasPrefix(e.Policy, "ClusterPolicy/") && len(f.problems) > 0 {
			f.unknown = "only a cluster can tell: Kyverno tries again what failed, " + e.Policy + ": " + e.Text
		}
	}
}

// repositoriesDiffer wants no two PVCs to have one repository.
func (f *found) repositoriesDiffer() {
	users := map[string]string{}
	for _, e := range f.made(source) {
		o := object(e)
		secret := f.secret(o.GetNamespace(), stringAt(o, "spec", "restic", "repository"))
		if secret == nil {
			continue // core/backup says so
		}
		user := o.GetNamespace() + "/" + stringAt(o, "spec", "sourcePVC")
		repository := decoded(secret, "RESTIC_REPOSITORY")
		if other, taken := users[repository]; taken && other != user {
			f.wrongBy("one repository", f.makerOf(secret, e.Policy), "PVCs %s and %s have one repository, %s", other, user, repository)
		}
		users[repository] = user
	}
	if len(users) == 0 {
		f.blind = "no ReplicationSource with a Secret is made, so nothing of it is seen: core/backup says why"
	}
	if claims, sources := len(f.sent("PersistentVolumeClaim")), len(f.made(source)); sources < claims {
		f.noSource("%d PVCs get %d ReplicationSources", claims, sources)
	}
}

// worksOrRefused is about a name at the limits.
func (f *found) worksOrRefused() {
	if _, admitted := f.claim(); admitted && len(f.made(source)) == 0 {
		f.noSource("the PVC is admitted, and no ReplicationSource is made for it: it is never backed up, and nobody says so")
	}
	f.isKept()
}

// longNameWorks is about a name that fits into a label: it is one as others.
func (f *found) longNameWorks() {
	if e, admitted := f.claim(); !admitted {
		f.wrong(f.refusing(e, "persistentvolumeclaims", "PersistentVolumeClaim"), "a PVC with a name of %d characters is refused: %s", len(longName)-1, e.Text)
		return
	}
	f.worksOrRefused()
}

// noToken wants no question to carry Kyverno's own token.
func (f *found) noToken() {
	for _, e := range f.course.Events {
		if e.What == play.Asked && strings.Contains(e.Text, "(bearer)") && !strings.HasPrefix(e.Text, "the oracle: ") {
			f.wrong(f.subjects.asks(), "a token goes to S3: %s", e.Text)
			return
		}
	}
}
