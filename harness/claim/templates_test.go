package claim

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/s3down"
	"github.com/smart-restore/conformance/harness/subject"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/volsync"
)

func template(kind, name string, spec map[string]any) map[string]any {
	version := volsync.Source.GroupVersion().String()
	if kind == "PersistentVolumeClaim" || kind == "Secret" {
		version = "v1"
	}
	object := map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]any{"name": name}}
	if kind == "Secret" {
		object["stringData"] = spec
	} else {
		object["spec"] = spec
	}
	return object
}

// templates are those of a setup, whose ReplicationDestination restores into the PVC.
func templates() *subject.Set {
	pvc := template("PersistentVolumeClaim", "{pvc}", map[string]any{
		"accessModes": []any{"ReadWriteOnce"}, "storageClassName": "fast", "resources": map[string]any{"requests": map[string]any{"storage": "2Gi"}},
	})
	pvc["metadata"].(map[string]any)["labels"] = map[string]any{"app": "{pvc}"}
	pvc["metadata"].(map[string]any)["annotations"] = map[string]any{"example.com/of": "the template"}
	return &subject.Set{Objects: []map[string]any{
		template("Secret", "{pvc}-volsync", map[string]any{"RESTIC_PASSWORD": "${RESTIC_PASSWORD}"}),
		pvc,
		template("ReplicationSource", "{pvc}", map[string]any{"sourcePVC": "{pvc}", "restic": map[string]any{"repository": "{pvc}-volsync"}}),
		template("ReplicationDestination", "{pvc}-dst", map[string]any{"trigger": map[string]any{"manual": "once"}, "restic": map[string]any{"destinationPVC": "{pvc}"}}),
	}}
}

func populated() *subject.Set {
	set := templates()
	set.Objects[1]["spec"].(map[string]any)["dataSourceRef"] = map[string]any{"apiGroup": subject.Group, "kind": subject.Destination, "name": "{pvc}-dst"}
	delete(set.Objects[3]["spec"].(map[string]any)["restic"].(map[string]any), "destinationPVC")
	return set
}

// templated are claims of a subject that is templates, and what was asked for there, in order.
func templated(t *testing.T, set *subject.Set, funcs interceptor.Funcs, objects ...client.Object) (*Claims, *[]string) {
	t.Helper()
	asked := &[]string{}
	create, patch := funcs.Create, funcs.Patch
	if create == nil {
		create = func(ctx context.Context, api client.WithWatch, o client.Object, options ...client.CreateOption) error {
			return api.Create(ctx, o, options...)
		}
	}
	if patch == nil {
		patch = func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, options ...client.PatchOption) error {
			return api.Patch(ctx, o, p, options...)
		}
	}
	funcs.Create = func(ctx context.Context, api client.WithWatch, o client.Object, options ...client.CreateOption) error {
		*asked = append(*asked, "create "+o.GetName())
		return create(ctx, api, o, options...)
	}
	funcs.Patch = func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, options ...client.PatchOption) error {
		*asked = append(*asked, "apply "+o.GetObjectKind().GroupVersionKind().Kind+" "+o.GetName())
		return patch(ctx, api, o, p, options...)
	}
	contract := policy.Default()
	contract.PVC = policy.PVC{}
	base := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: contract.BaseSecret.Name}, Data: map[string][]byte{"RESTIC_PASSWORD": []byte("now")}}
	c, _ := claims(t, funcs, append(objects, base)...)
	contract.Templates = []string{"."}
	if set.Has(subject.Destination) {
		contract.Restores = policy.Always
	}
	c.env.Testbed.Contract, c.env.Testbed.Templates = contract, set
	return c, asked
}

func (c *Claim) there(t *testing.T, object client.Object, name string) bool {
	t.Helper()
	err := c.env().API.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, object)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

func of(kind string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(volsync.Source.GroupVersion().WithKind(kind))
	return o
}

func TestTemplatesAreAppliedAndGoWithThePVC(t *testing.T) {
	c, asked := templated(t, templates(), interceptor.Funcs{})
	claim := c.create(t.Context(), "data", c.labels(), annotated(Annotations{"example.com/by": "the spec"}))
	if want := "apply Secret data-volsync, create data, apply ReplicationDestination data-dst, apply ReplicationSource data"; strings.Join(*asked, ", ") != want {
		t.Errorf("asked for %v, wanted %s", *asked, want)
	}
	pvc, secret := &corev1.PersistentVolumeClaim{}, &corev1.Secret{}
	if !claim.there(t, pvc, "data") || *pvc.Spec.StorageClassName != "fast" || pvc.Spec.Resources.Requests.Storage().String() != "2Gi" || pvc.Annotations["example.com/by"] == "" {
		t.Errorf("the PVC is %+v", pvc)
	}
	if !claim.there(t, secret, "data-volsync") || secret.StringData["RESTIC_PASSWORD"] != "now" {
		t.Errorf("the Secret is %v", secret.StringData)
	}
	if claim.said != "example.com/by=the spec" && !strings.Contains(claim.said, "the spec") || strings.Contains(claim.said, "template") || strings.Contains(claim.said, "app") {
		t.Errorf("what the templates bring is no policy's word: %q", claim.said)
	}
	if claim.HasReplicationSource(t.Context()).GetName() != "data" || claim.HasReplicationDestination(t.Context()).GetName() != "data-dst" {
		t.Error("its own objects are not found")
	}

	claim.Delete(t.Context())
	for kind, name := range map[string]string{"ReplicationSource": "data", "ReplicationDestination": "data-dst"} {
		if claim.there(t, of(kind), name) {
			t.Errorf("%s is still there: what was applied with a PVC goes with it", kind)
		}
	}
	if claim.there(t, pvc, "data") || claim.there(t, secret, "data-volsync") {
		t.Error("the PVC or its Secret is still there")
	}
}

func TestAPVCThatIsNotBackedUpHasNothingOfTheTemplatesButItsShape(t *testing.T) {
	c, asked := templated(t, populated(), interceptor.Funcs{})
	claim := c.UnlabelledClaim(t.Context(), "data")
	pvc := &corev1.PersistentVolumeClaim{}
	if !claim.there(t, pvc, "data") || *pvc.Spec.StorageClassName != "fast" || pvc.Spec.DataSourceRef != nil || len(pvc.Labels)+len(pvc.Annotations) > 0 {
		t.Errorf("the PVC is %+v", pvc)
	}
	if !slices.Equal(*asked, []string{"create data"}) {
		t.Errorf("asked for %v", *asked)
	}
	claim.HasNoAnnotations(t.Context())

	if !claim.Relabel(t.Context()) || !claim.there(t, of("ReplicationSource"), "data") {
		t.Error("backed up later is: the templates are applied then")
	}
	claim.Delete(t.Context())
	if claim.there(t, of("ReplicationSource"), "data") {
		t.Error("what was applied later does not go with it")
	}
}

// Every look at a PVC asks what its templates bring. They are filled in once, and whoever creates a PVC from them changes nothing of that.
func TestTemplatesAreFilledInOnce(t *testing.T) {
	c, _ := templated(t, populated(), interceptor.Funcs{})
	first := c.template("data")
	before := first.Claim.DeepCopy()
	c.create(t.Context(), "data", c.labels(), func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Annotations = map[string]string{"a": "b"}
		pvc.Spec.AccessModes[0], pvc.Spec.DataSourceRef.Name = corev1.ReadWriteMany, "another"
	})
	if second := c.template("data"); second != first || !reflect.DeepEqual(second.Claim, before) {
		t.Errorf("filled in again, or changed: %+v, was %+v", second.Claim, before)
	}
	if c.template("other") == first {
		t.Error("another PVC's templates are taken for its own")
	}
}

func TestTheDestinationThatAPVCIsFilledFromIsItsOwn(t *testing.T) {
	c, _ := templated(t, populated(), interceptor.Funcs{})
	claim := c.create(t.Context(), "data", c.labels())
	if claim.populatedBy != "data-dst" || claim.HasReplicationDestination(t.Context()).GetName() != "data-dst" {
		t.Errorf("populated by %q", claim.populatedBy)
	}
	other := of("ReplicationDestination")
	other.SetName("another")
	source := of("ReplicationSource")
	source.SetName("data-dst")
	if claim.isDestination(other) || claim.isDestination(source) {
		t.Error("another object is taken for it")
	}
}

func TestTemplatesThatAreNotTaken(t *testing.T) {
	refusing := func(kind string, err error) interceptor.Funcs {
		return interceptor.Funcs{Patch: func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, options ...client.PatchOption) error {
			if o.GetObjectKind().GroupVersionKind().Kind == kind {
				return err
			}
			return api.Patch(ctx, o, p, options...)
		}}
	}
	for name, c := range map[string]struct {
		funcs     interceptor.Funcs
		noSecret  bool
		how, says string
	}{
		"a webhook refuses one": {refusing("ReplicationSource", denial("validate.kyverno.svc-fail")), false, "fail", "ReplicationSource data, which is applied with PVC data, is not taken"},
		"nobody answers":        {refusing("ReplicationSource", errTransport), false, "unknown", "ReplicationSource data of PVC data applied"},
		"no variables":          {interceptor.Funcs{}, true, "unknown", "nothing can be applied"},
	} {
		inBubble(t, name, c.how, c.says, func(t *testing.T) func() {
			of, _ := templated(t, templates(), c.funcs)
			if c.noSecret {
				secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: policy.Default().BaseSecret.Name}}
				if err := of.env.API.Delete(t.Context(), secret); err != nil {
					t.Fatal(err)
				}
			}
			return func() { of.create(t.Context(), "data", of.labels()) }
		})
	}
}

// done is a ReplicationDestination that VolSync calls done, with this log.
func done(name, logs string) *unstructured.Unstructured {
	o := of("ReplicationDestination")
	o.SetNamespace("ns")
	o.SetName(name)
	o.Object["spec"] = map[string]any{"trigger": map[string]any{"manual": "once"}, "restic": map[string]any{"destinationPVC": "data"}}
	o.Object["status"] = map[string]any{
		"lastManualSync": "once", "lastSyncTime": "2026-11-22T12:00:00Z",
		"latestMoverStatus": map[string]any{"result": "Successful", "logs": logs},
	}
	return o
}

const (
	restoredNothing = "created restic repository 5 at s3:http\nNo eligible snapshots found\n=== No data will be restored ===\nRestic completed in 3s"
	restoredOne     = "repository 5 opened (version 2)\nrestoring <Snapshot 1 of [/data]> to .\nRestic completed in 3s"
)

// A ReplicationDestination that is there in any case is no restore: one that has restored a snapshot is.
func TestARestoreIsASnapshotThatWasRestored(t *testing.T) {
	for name, c := range map[string]struct {
		part func(*Claim, context.Context)
		logs string
		how  string
		says string
		into string // its destinationPVC; empty: a volume of its own
	}{
		"nothing was":                    {func(c *Claim, ctx context.Context) { c.neverRestored(ctx) }, restoredNothing, "pass", "", "data"},
		"one was":                        {func(c *Claim, ctx context.Context) { c.neverRestored(ctx) }, restoredOne, "fail", "ReplicationDestination data-dst has restored a snapshot into PVC data", "data"},
		"nothing was later":              {func(c *Claim, ctx context.Context) { c.StaysUnrestored(ctx, "S3 came back") }, restoredNothing, "pass", "", "data"},
		"one was later":                  {func(c *Claim, ctx context.Context) { c.StaysUnrestored(ctx, "S3 came back") }, restoredOne, "fail", "after S3 came back, a volume in use is restored over", "data"},
		"control: one was":               {func(c *Claim, ctx context.Context) { c.restoresAnyway(ctx) }, restoredOne, "pass", "", "data"},
		"control: only that it is there": {func(c *Claim, ctx context.Context) { c.restoresAnyway(ctx) }, restoredNothing, "fail", "a snapshot restored into PVC data", "data"},
		"into another volume":            {func(c *Claim, ctx context.Context) { c.neverRestored(ctx) }, restoredOne, "pass", "", ""},
		"into another volume, later":     {func(c *Claim, ctx context.Context) { c.StaysUnrestored(ctx, "S3 came back") }, restoredOne, "pass", "", ""},
	} {
		inBubble(t, name, c.how, c.says, func(t *testing.T) func() {
			rd := done("data-dst", c.logs)
			rd.Object["spec"].(map[string]any)["restic"] = map[string]any{"destinationPVC": c.into}
			of, _ := templated(t, templates(), interceptor.Funcs{}, rd)
			of.env.Testbed.Contract.Names.ReplicationDestination = "{pvc}-dst"
			claim := of.claim("data")
			return func() { c.part(claim, t.Context()) }
		})
	}
}

// A ReplicationSource that comes when the PVC is bound is waited for with a pod that binds it, and one that comes late is waited for so long.
func TestASourceThatComesLate(t *testing.T) {
	source := of("ReplicationSource")
	source.SetNamespace("ns")
	source.SetName("data")
	source.Object["spec"] = map[string]any{"sourcePVC": "data"}
	for name, c := range map[string]struct {
		when      policy.BackupSource
		comes     time.Duration // after the PVC is bound or, where that is of no matter, after the PVC; 0: never
		ofBound   bool
		how, says string
	}{
		"when bound":                  {policy.BackupSource{When: policy.WhenBound}, time.Second, true, "pass", ""},
		"when bound, of another kind": {policy.BackupSource{When: policy.WhenCreated}, time.Second, true, "fail", "wanted: ReplicationSource for PVC data"},
		"in time":                     {policy.BackupSource{When: policy.WhenCreated, After: "2m"}, 150 * time.Second, false, "pass", ""},
		"too late":                    {policy.BackupSource{When: policy.WhenCreated, After: "1m"}, 150 * time.Second, false, "fail", "wanted: ReplicationSource for PVC data"},
	} {
		inBubble(t, name, c.how, c.says, func(t *testing.T) func() {
			pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data"}}
			begun := time.Now()
			var bound time.Time
			of, _ := claims(t, interceptor.Funcs{
				Create: func(ctx context.Context, api client.WithWatch, o client.Object, options ...client.CreateOption) error {
					if pod, ok := o.(*corev1.Pod); ok && bound.IsZero() {
						if pod.Name != "binds-data" || pod.Spec.Volumes[len(pod.Spec.Volumes)-1].PersistentVolumeClaim.ClaimName != "data" {
							t.Errorf("bound by %+v", pod)
						}
						bound = time.Now()
					}
					return api.Create(ctx, o, options...)
				},
				Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
					err := api.Get(ctx, key, o, options...)
					if pvc, ok := o.(*corev1.PersistentVolumeClaim); ok && !bound.IsZero() {
						pvc.Status.Phase = corev1.ClaimBound
					}
					return err
				},
				List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
					since := begun
					if c.ofBound {
						since = bound
					}
					if sources, ok := list.(*unstructured.UnstructuredList); ok && !since.IsZero() && time.Since(since) >= c.comes {
						sources.Items = []unstructured.Unstructured{*source}
						return nil
					}
					return api.List(ctx, list, options...)
				},
			}, pvc)
			of.env.Testbed.Contract.BackupSource = c.when
			claim := of.claim("data")
			return func() {
				claim.HasReplicationSource(t.Context())
				if claim.there(t, &corev1.Pod{}, "binds-data") {
					t.Error("the pod that bound it is still there")
				}
			}
		})
	}
}

// What selects a PVC is set on those that are backed up, kept through changes of the manifest, and is no policy's word.
func TestPVCsThatAreSelectedByAnnotations(t *testing.T) {
	c, _ := claims(t, interceptor.Funcs{})
	c.env.Testbed.Contract.PVC = policy.PVC{Annotations: map[string]string{"example.com/backup": "please"}, OptOut: map[string]string{"example.com/never": "true"}}
	annotations := func(claim *Claim) map[string]string {
		pvc := &corev1.PersistentVolumeClaim{}
		claim.there(t, pvc, claim.Name)
		if len(pvc.Labels) > 0 {
			t.Errorf("labels %v", pvc.Labels)
		}
		return pvc.Annotations
	}
	backedUp := c.create(t.Context(), "data", c.labels(), annotated(Annotations{"example.com/by": "the spec"}))
	if got := annotations(backedUp); got["example.com/backup"] != "please" || got["example.com/by"] == "" || len(got) != 2 || strings.Contains(backedUp.said, "please") {
		t.Errorf("annotated %v, said %q", got, backedUp.said)
	}
	backedUp.WithoutAnnotations(t.Context())
	if got := annotations(backedUp); len(got) != 1 || got["example.com/backup"] != "please" {
		t.Errorf("put as it is in Git: %v", got)
	}
	alone := c.UnlabelledClaim(t.Context(), "alone")
	alone.HasNoAnnotations(t.Context())
	if got := annotations(alone); got["example.com/never"] != "true" || len(got) != 1 {
		t.Errorf("left alone: %v", got)
	}
	if alone.Relabel(t.Context()); annotations(alone)["example.com/backup"] != "please" || annotations(alone)["example.com/never"] != "" {
		t.Errorf("selected later: %v", annotations(alone))
	}
	if alone.RelabelAs(t.Context(), "never"); annotations(alone)["example.com/backup"] != "never" {
		t.Errorf("another value: %v", annotations(alone))
	}
	if alone.Unlabel(t.Context()); len(annotations(alone)) != 1 {
		t.Errorf("not selected any more: %v", annotations(alone))
	}
}

// Without a namespace in the path, specs side by side must not share repositories, and PVCs of one name in a spec's namespaces must.
func TestNamesWhereThePathHasNoNamespace(t *testing.T) {
	c, _ := templated(t, templates(), interceptor.Funcs{})
	c.env.Testbed.Contract.S3.Path = "volsync/{pvc}"
	e := c.env.In("ns", "core/x", &recorded.Reporter{})
	other := c.env.In("ns", "core/y", &recorded.Reporter{})
	name := e.PVC("data")
	if name == "data" || name == other.PVC("data") || !strings.HasSuffix(name, "-data") || e.PVC(name) != name {
		t.Errorf("%s and %s", name, other.PVC("data"))
	}
	if !strings.HasPrefix("volsync/"+name+"/config", e.KeyPrefix()) || strings.HasPrefix("volsync/"+other.PVC("data")+"/config", e.KeyPrefix()) {
		t.Errorf("%s is not the prefix of the spec's keys, and of its only", e.KeyPrefix())
	}
	for _, letters := range []int{41, 63, 253} {
		if long := strings.Repeat("long-name-", 26)[:letters-1] + "x"; len(e.PVC(long)) != letters || e.PVC(long)[len(long)-9:] != long[len(long)-9:] {
			t.Errorf("%s of %s", e.PVC(long), long)
		}
	}
	repos := repository.Of(e)
	s3 := s3down.Of(e, repos)
	claims := Of(e, repos, s3)
	claim := claims.create(t.Context(), "data", claims.labels())
	if claim.Name != name || !claim.there(t, of("ReplicationSource"), name) || repos.Prefix("data") != "volsync/"+name+"/" || repos.Prefix(name) != repos.Prefix("data") {
		t.Errorf("PVC %s, backed up to %s", claim.Name, repos.Prefix("data"))
	}
}

func TestWhatIsWantedWhereNothingIsKnown(t *testing.T) {
	for unknown, want := range map[string]verdict.Outcome{policy.StartsEmpty: verdict.None, policy.Waits: verdict.LateRestore, policy.IsRefused: verdict.Blocked} {
		if got := wantedOf(outage.OutcomeUnknown, unknown); got != want {
			t.Errorf("%s: %s, wanted %s", unknown, got, want)
		}
		if wantedOf(outage.OutcomeBackup, unknown) != verdict.Restore || wantedOf(outage.OutcomeAbsent, unknown) != verdict.None {
			t.Errorf("%s changes what is wanted where S3 did answer", unknown)
		}
	}
}

func TestRefusedInOutage(t *testing.T) {
	for name, c := range map[string]struct {
		err       error
		how, says string
	}{
		"with a reason":    {denial("validate.kyverno.svc-fail"), "pass", ""},
		"without a word":   {unasked("validate.kyverno.svc-fail"), "fail", "without a word that a person can act on"},
		"admitted":         {nil, "fail", "was admitted while S3 is"},
		"it was not heard": {errTransport, "unknown", "PVC data asked for"},
	} {
		inBubble(t, name, c.how, c.says, func(t *testing.T) func() {
			of, _ := claims(t, interceptor.Funcs{Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return c.err }})
			of.env.Testbed.Contract.Unknown = policy.IsRefused
			fault := outage.Named("refused") // it holds for all, so that there is no other spec's to be waited for
			return func() { of.RefusedInOutage(t.Context(), fault, "data") }
		})
	}
}

func TestIsPending(t *testing.T) {
	pvc := func(phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", UID: types.UID("uid")}, Status: corev1.PersistentVolumeClaimStatus{Phase: phase}}
	}
	event := func(reason, uid string) *corev1.Event {
		return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "e"}, Reason: reason, Message: "waiting",
			InvolvedObject: corev1.ObjectReference{Kind: "PersistentVolumeClaim", Name: "data", UID: types.UID(uid)}}
	}
	const reason = "VolSyncPopulatorReplicationDestinationNoLatestImage"
	restored := restores("")
	_ = unstructured.SetNestedField(restored.Object, "volsync-data", "status", "latestImage", "name")
	for name, c := range map[string]struct {
		objects   []client.Object
		how, says string
	}{
		"it waits, and says so":  {[]client.Object{pvc(corev1.ClaimPending), restores(""), event(reason, "uid")}, "pass", ""},
		"it is bound":            {[]client.Object{pvc(corev1.ClaimBound), restores(""), event(reason, "uid")}, "fail", "it is bound, while nobody can know"},
		"nobody is told":         {[]client.Object{pvc(corev1.ClaimPending), restores(""), event("WaitForFirstConsumer", "uid")}, "fail", "for a person to see"},
		"told of an earlier PVC": {[]client.Object{pvc(corev1.ClaimPending), restores(""), event(reason, "another")}, "fail", "for a person to see"},
		"told what is no more":   {[]client.Object{pvc(corev1.ClaimPending), restored, event(reason, "uid")}, "fail", "for a person to see"},
	} {
		inBubble(t, name, c.how, c.says, func(t *testing.T) func() {
			of, _ := templated(t, populated(), interceptor.Funcs{}, c.objects...)
			claim := of.claim("data")
			claim.UID, claim.populatedBy = "uid", "restore"
			return func() { claim.IsPending(t.Context()) }
		})
	}
}

// A ReplicationDestination that stands there in any case is a PVC's by the name that the contract promises, where nothing is filled from it.
func TestWhoseDestinationStandsThereInAnyCase(t *testing.T) {
	claims, _ := claimsOf(t, env.Parts{})
	for name, c := range map[string]struct {
		restores, populatedBy, named string
		spec                         map[string]any
		want                         bool
	}{
		"by its name":             {policy.Always, "", "data-backup", map[string]any{}, true},
		"another's":               {policy.Always, "", "other-backup", map[string]any{}, false},
		"that it is filled from":  {policy.Always, "data-1", "data-1", map[string]any{}, true},
		"of another life":         {policy.Always, "data-2", "data-backup", map[string]any{}, false},
		"where it is no restore":  {"", "", "data-backup", map[string]any{}, false},
		"that restores into it":   {"", "", "anything", map[string]any{"destinationPVC": "data"}, true},
		"that restores elsewhere": {policy.Always, "", "anything", map[string]any{"destinationPVC": "other"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			contract := &claims.env.Testbed.Contract
			contract.Restores, contract.Names.ReplicationDestination = c.restores, "{pvc}-backup"
			claim := claims.claim("data")
			claim.populatedBy = c.populatedBy
			o := &unstructured.Unstructured{Object: template(volsync.Destination.Kind, c.named, map[string]any{"restic": c.spec})}
			if got := claim.isDestination(o); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
