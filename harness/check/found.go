package check

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
)

// found reads what happened in a situation, and takes down what is wrong with it.
type found struct {
	course   play.Course
	contract policy.Contract
	subjects subjects
	problems []problem
	unknown  string // why what is wrong may yet be right
}

// problem is one thing that is wrong, and whose doing it probably is.
type problem struct {
	text   string
	policy string // kind/name; empty: nobody's in particular
}

func (f *found) wrong(policy, format string, args ...any) {
	f.problems = append(f.problems, problem{text: fmt.Sprintf(format, args...), policy: policy})
}

func object(e play.Event) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: e.Object}
}

func text(o *unstructured.Unstructured, fields ...string) string {
	value, _, _ := unstructured.NestedString(o.Object, fields...)
	return value
}

// sent are the events in which objects of a kind were admitted or refused, in order.
func (f *found) sent(kind string) []play.Event {
	var all []play.Event
	for _, e := range f.course.Events {
		if (e.What == play.Admitted || e.What == play.Refusal) && object(e).GetKind() == kind {
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

// intoClaim says whether a ReplicationDestination restores into the PVC itself.
func intoClaim(e play.Event) bool {
	return text(object(e), "spec", "restic", "destinationPVC") == claimName
}

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
		f.wrong(f.subjects.namedIn(e.Text), "the PVC is refused: %s", e.Text)
		return
	}
	if took, bound := time.Duration(e.TookMillis)*time.Millisecond, f.contract.AdmissionBound(); took > bound {
		f.wrong(f.slowest(), "the PVC is admitted after %s, wanted within %s", seconds(took), bound)
	}
}

// slowest is a policy that a webhook gave up on.
func (f *found) slowest() string {
	for _, e := range f.course.Events {
		if e.What == play.Failed && strings.Contains(e.Text, "webhook") {
			return e.Policy
		}
	}
	return ""
}

// neverRestored is about all that could restore, at any time of the situation.
func (f *found) neverRestored() {
	for _, e := range f.made(destination) {
		late := ""
		if f.since(e) >= outageMillis*time.Millisecond {
			late = fmt.Sprintf(", %s after the PVC was admitted: over what an app has written", seconds(f.since(e)))
		}
		f.wrong(e.Policy, "ReplicationDestination %s is made%s%s", object(e).GetName(), late, f.because())
	}
	for _, e := range f.course.Events {
		if e.What == play.Waiting && strings.HasPrefix(e.Policy, "GeneratingPolicy/") {
			f.wrong(e.Policy, "it is still waiting for an answer at the end: nothing bounds its question, and nobody knows what it will do")
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

// hasSource wants a ReplicationSource of the PVC's within some time of its admission.
func (f *found) hasSource(within int64) {
	if _, admitted := f.claim(); !admitted {
		return
	}
	for _, e := range f.made(source) {
		if text(object(e), "spec", "sourcePVC") != claimName {
			continue
		}
		if late := f.since(e); late > time.Duration(within)*time.Millisecond {
			f.wrong(e.Policy, "ReplicationSource %s comes %s after the PVC", object(e).GetName(), seconds(late))
		}
		return
	}
	f.wrong(f.subjects.makes(source), "no ReplicationSource is made for the PVC%s", f.failures())
}

// hasDestination wants a ReplicationDestination into the PVC itself.
func (f *found) hasDestination(within int64) {
	if _, admitted := f.claim(); !admitted {
		return
	}
	aside := ""
	for _, e := range f.made(destination) {
		if !intoClaim(e) {
			aside = e.Policy
			f.wrong(e.Policy, "ReplicationDestination %s does not restore into PVC %s: its destinationPVC is %q", object(e).GetName(), claimName, text(object(e), "spec", "restic", "destinationPVC"))
			continue
		}
		if late := f.since(e); late > time.Duration(within)*time.Millisecond {
			f.wrong(e.Policy, "ReplicationDestination %s comes %s after the PVC", object(e).GetName(), seconds(late))
		}
		return
	}
	if aside == "" {
		f.wrong(f.subjects.asks(), "there is a backup, and no ReplicationDestination is made%s%s", f.because(), f.failures())
	}
}

// failures says what ended in an error.
func (f *found) failures() string {
	for _, e := range f.course.Events {
		if e.What == play.Failed {
			return fmt.Sprintf("; %s: %s", e.Policy, e.Text)
		}
	}
	return ""
}

// backsUpAsPromised is about schedule and retention.
func (f *found) backsUpAsPromised() {
	for _, e := range f.made(source) {
		o := object(e)
		if schedule := text(o, "spec", "trigger", "schedule"); !f.contract.Schedules(schedule) {
			f.wrong(e.Policy, "ReplicationSource %s has the schedule %q, wanted %s", o.GetName(), schedule, f.contract.Schedule)
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
func (f *found) repositoryIs(endpoint string) {
	for _, kind := range []string{source, destination} {
		for _, e := range f.made(kind) {
			o := object(e)
			name := text(o, "spec", "restic", "repository")
			secret := f.secret(o.GetNamespace(), name)
			if secret == nil {
				f.wrong(e.Policy, "%s %s names the Secret %q, which nothing makes%s", kind, o.GetName(), name, f.failures())
				continue
			}
			if got, want := decoded(secret, "RESTIC_REPOSITORY"), repository(f.contract, endpoint, o.GetNamespace(), claimName); got != want {
				f.wrong(f.makerOf(secret, e.Policy), "Secret %s of %s %s has the repository %q, wanted %q", name, kind, o.GetName(), got, want)
			}
			keys := f.contract.BaseSecret.Keys
			for key, of := range map[string]string{"AWS_ACCESS_KEY_ID": keys.AccessKey, "AWS_SECRET_ACCESS_KEY": keys.SecretKey, "RESTIC_PASSWORD": keys.ResticPassword} {
				if got := decoded(secret, key); got != sourceOf(of) {
					f.wrong(f.makerOf(secret, e.Policy), "%s in Secret %s of %s %s is not the base Secret's %s", key, name, kind, o.GetName(), of)
				}
			}
		}
	}
}

func decoded(secret *unstructured.Unstructured, key string) string {
	value, err := base64.StdEncoding.DecodeString(text(secret, "data", key))
	if err != nil {
		return text(secret, "data", key)
	}
	return string(value)
}

func (f *found) secret(namespace, name string) *unstructured.Unstructured {
	for _, content := range f.course.Objects {
		o := &unstructured.Unstructured{Object: content}
		if o.GetKind() == "Secret" && o.GetNamespace() == namespace && o.GetName() == name {
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
		f.wrong(f.subjects.namedIn(e.Text), "a PVC without the label is refused: %s", e.Text)
		return
	}
	if written := decision(object(e)); written != "" {
		f.wrong("", "a PVC without the label is written on: %s", written)
	}
	for _, made := range f.course.Events {
		if made.What == play.Made {
			f.wrong(made.Policy, "a PVC without the label gets %s %s", object(made).GetKind(), object(made).GetName())
		}
	}
}

// decision is what a policy wrote on a PVC: it was sent with no annotation.
func decision(o *unstructured.Unstructured) string {
	var all []string
	for key, value := range o.GetAnnotations() {
		if domain, _, _ := strings.Cut(key, "/"); domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") {
			all = append(all, key+": "+value)
		}
	}
	return strings.Join(all, ", ")
}

// decisionVisible is about a feature.
func (f *found) decisionVisible() {
	if e, admitted := f.claim(); admitted && f.contract.Promises("visible-decision") && decision(object(e)) == "" {
		f.wrong("", "the PVC does not say what was decided about it, which visible-decision promises")
	}
}

// noBackupWhileRestoring wants no backup mover to run while a ReplicationDestination is not done.
func (f *found) noBackupWhileRestoring() {
	if len(f.made(destination)) == 0 {
		return // core/restore says so
	}
	for _, e := range f.sent("Job") {
		if e.What == play.Admitted {
			f.wrong(f.subjects.makes(source), "VolSync may begin a backup (Job %s) while the restore is running: half of the data becomes the latest snapshot", object(e).GetName())
		}
	}
}

// appWaits wants a pod to be refused before the restore is done, and taken after.
func (f *found) appWaits() {
	if len(f.made(destination)) == 0 {
		return // core/restore says so
	}
	for _, e := range f.sent("Pod") {
		switch early := object(e).GetName() == "early"; {
		case early && e.What == play.Admitted:
			f.wrong("", "a pod that uses the PVC is taken before the restore is done")
		case !early && e.What == play.Refusal:
			f.wrong(f.subjects.namedIn(e.Text), "a pod that uses the PVC is refused when the restore is done: %s", e.Text)
		}
	}
}

// hasDestinationOfItsOwn is about the second PVC of a name.
func (f *found) hasDestinationOfItsOwn() {
	claims := f.sent("PersistentVolumeClaim")
	if len(claims) != 2 || claims[1].What != play.Admitted {
		f.wrong("", "the PVC that comes after another one of its name is not admitted")
		return
	}
	uid := object(claims[1]).GetUID()
	for _, e := range f.made(destination) {
		if e.Step < claims[1].Step || !intoClaim(e) {
			continue
		}
		for _, owner := range object(e).GetOwnerReferences() {
			if owner.UID != uid {
				f.wrong(e.Policy, "ReplicationDestination %s of the new PVC belongs to the old one: it goes with that", object(e).GetName())
			}
		}
		return
	}
	f.wrong(f.subjects.makes(destination), "the new PVC gets no ReplicationDestination: what the old one left is in its place%s", f.failures())
}

// triedAgain leaves open what comes of a generate rule that failed: Kyverno tries those again, which is not played. A
// GeneratingPolicy that failed has been seen to be tried at once only.
func (f *found) triedAgain() {
	for _, e := range f.course.Events {
		if e.What == play.Failed && strings.HasPrefix(e.Policy, "ClusterPolicy/") && len(f.problems) > 0 {
			f.unknown = "cannot be judged without a cluster: Kyverno tries again what failed, " + e.Policy + ": " + e.Text
		}
	}
}

// repositoriesDiffer wants no two PVCs to have one repository.
func (f *found) repositoriesDiffer() {
	users := map[string]string{}
	for _, e := range f.made(source) {
		o := object(e)
		secret := f.secret(o.GetNamespace(), text(o, "spec", "restic", "repository"))
		if secret == nil {
			continue // core/backup says so
		}
		user := o.GetNamespace() + "/" + text(o, "spec", "sourcePVC")
		repository := decoded(secret, "RESTIC_REPOSITORY")
		if other, taken := users[repository]; taken && other != user {
			f.wrong(f.makerOf(secret, e.Policy), "PVCs %s and %s have one repository, %s", other, user, repository)
		}
		users[repository] = user
	}
	if claims, sources := len(f.sent("PersistentVolumeClaim")), len(f.made(source)); sources < claims {
		f.wrong(f.subjects.makes(source), "%d PVCs get %d ReplicationSources%s", claims, sources, f.failures())
	}
}

// worksOrRefused is about a name at the limits.
func (f *found) worksOrRefused() {
	if _, admitted := f.claim(); admitted && len(f.made(source)) == 0 {
		f.wrong(f.subjects.makes(source), "the PVC is admitted, and no ReplicationSource is made for it: it is never backed up, and nobody says so%s", f.failures())
	}
}

// noToken wants no question to carry Kyverno's own token.
func (f *found) noToken() {
	for _, e := range f.course.Events {
		if e.What == play.Asked && strings.Contains(e.Text, "(bearer)") {
			f.wrong(f.subjects.asks(), "a token goes to S3: %s", e.Text)
			return
		}
	}
}
