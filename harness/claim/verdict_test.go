package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/s3down"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
	"github.com/smart-restore/conformance/harness/volsync"
)

// claims are those of a namespace ns on an API server with these objects, each of whose requests goes through funcs.
func claims(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) (*Claims, *recorded.Reporter) {
	t.Helper()
	api := interceptor.NewClient(fake.NewClientBuilder().WithObjects(objects...).Build(), funcs)
	return claimsOf(t, env.Parts{API: api})
}

func claimsOf(t *testing.T, parts env.Parts) (*Claims, *recorded.Reporter) {
	t.Helper()
	parts.Times = timing.Default()
	parts.Testbed = &testbed.Testbed{Contract: policy.Default(), Store: &objectstore.Handle{Bucket: "bucket"}}
	return claimsIn(env.Offline(t.TempDir(), parts))
}

func claimsIn(suite *env.Suite) (*Claims, *recorded.Reporter) {
	r := &recorded.Reporter{}
	e := suite.In("ns", "core/x", r)
	repos := repository.Of(e)
	return Of(e, repos, s3down.Of(e, repos)), r
}

var (
	errTransport = errors.New("read tcp: connection reset by peer")
	pvcs         = schema.GroupResource{Resource: "persistentvolumeclaims"}
)

func denial(webhook string) error {
	return apierrors.NewForbidden(pvcs, "data", fmt.Errorf("admission webhook %q denied the request: no", webhook))
}

func unasked(webhook string) error {
	return apierrors.NewInternalError(fmt.Errorf("failed calling webhook %q: context deadline exceeded", webhook))
}

// inBubble runs a test of a part of a spec in a bubble of its own time, and says how the part ended.
func inBubble(t *testing.T, name, want, says string, part func(t *testing.T) func()) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			do := part(t)
			if got := recorded.Outcome(do); got.How != want || !strings.Contains(got.Reason, says) {
				t.Errorf("%s, wanted %s with %q: %s", got.How, want, says, got.Reason)
			}
		})
	})
}

func TestCreate(t *testing.T) {
	const kyverno, another = "mutate.kyverno.svc-fail", "pvc.example.com"
	for name, c := range map[string]struct {
		answers    []error // of one request after the other, the last one for all that follow; nil: it is made
		stored     bool    // though the first answer is an error, the PVC is made
		takes      time.Duration
		want, says string
	}{
		"admitted":                           {[]error{nil}, false, 0, "pass", ""},
		"admitted too late":                  {[]error{nil}, false, time.Minute, "fail", "a start-up is stalled"},
		"denied by the policy":               {[]error{denial(kyverno)}, false, 0, "fail", "denied the request"},
		"Kyverno cannot be asked":            {[]error{unasked(kyverno)}, false, 0, "fail", "failed calling webhook"},
		"invalid, as the policy changed it":  {[]error{apierrors.NewInvalid(schema.GroupKind{}, "data", nil)}, false, 0, "fail", "not admitted"},
		"the request timed out":              {[]error{apierrors.NewTimeoutError("request did not complete", 1)}, false, 0, "fail", "not admitted"},
		"denied by another":                  {[]error{denial(another)}, false, 0, "unknown", another},
		"another cannot be asked":            {[]error{unasked(another)}, false, 0, "unknown", another},
		"over a quota":                       {[]error{apierrors.NewForbidden(pvcs, "data", errors.New("exceeded quota"))}, false, 0, "unknown", "quota"},
		"429":                                {[]error{apierrors.NewTooManyRequests("later", 1)}, false, 0, "unknown", "later"},
		"500":                                {[]error{apierrors.NewInternalError(errors.New("etcdserver: leader changed"))}, false, 0, "unknown", "leader changed"},
		"transport":                          {[]error{errTransport}, false, 0, "unknown", "connection reset"},
		"transport, and then not":            {[]error{errTransport, nil}, false, 0, "pass", ""},
		"transport, and then denied":         {[]error{errTransport, denial(kyverno)}, false, 0, "fail", "denied"},
		"the answer was lost":                {[]error{errTransport, nil}, true, time.Second, "pass", ""},
		"the answer was lost, and came late": {[]error{errTransport, nil}, true, time.Minute, "unknown", "was not seen"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			asked := 0
			claims, _ := claims(t, interceptor.Funcs{Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				answer := c.answers[min(asked, len(c.answers)-1)]
				asked++
				time.Sleep(c.takes)
				if answer != nil && (!c.stored || asked != 1) {
					return answer
				}
				if err := api.Create(ctx, o.DeepCopyObject().(client.Object), opts...); err != nil {
					return err
				}
				return answer
			}})
			return func() {
				claim := claims.Claim(t.Context(), "data")
				claim.AdmittedInTime()
			}
		})
	}
}

func TestNow(t *testing.T) {
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data"}}
	for name, c := range map[string]struct {
		answers    []error
		there      bool
		want, says string
	}{
		"there":                {nil, true, "pass", ""},
		"gone":                 {nil, false, "fail", "is gone"},
		"blind":                {[]error{errTransport}, true, "unknown", "connection reset"},
		"blind, and then gone": {[]error{errTransport, nil}, false, "fail", "is gone"},
		"429, and then there":  {[]error{apierrors.NewTooManyRequests("later", 1), nil}, true, "pass", ""},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			var objects []client.Object
			if c.there {
				objects = append(objects, pvc.DeepCopy())
			}
			claims, _ := claims(t, failingGets(c.answers), objects...)
			return func() { claims.claim("data").now(t.Context()) }
		})
	}
}

// failingGets answers one Get after the other with these errors, the last one for all that follow; nil: as it is.
func failingGets(answers []error) interceptor.Funcs {
	asked := 0
	return interceptor.Funcs{Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
		if len(answers) > 0 {
			answer := answers[min(asked, len(answers)-1)]
			asked++
			if answer != nil {
				return answer
			}
		}
		return api.Get(ctx, key, into, opts...)
	}}
}

func TestBound(t *testing.T) {
	for name, c := range map[string]struct {
		phase      corev1.PersistentVolumeClaimPhase
		answers    []error
		want, says string
	}{
		"bound":                 {corev1.ClaimBound, nil, "pass", ""},
		"never":                 {corev1.ClaimPending, nil, "fail", "phase Pending"},
		"lost":                  {corev1.ClaimLost, nil, "fail", "Lost"},
		"blind":                 {corev1.ClaimBound, []error{errTransport}, "unknown", "connection reset"},
		"blind, and then bound": {corev1.ClaimBound, []error{errTransport, errTransport, nil}, "pass", ""},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data"}, Status: corev1.PersistentVolumeClaimStatus{Phase: c.phase}}
			claims, _ := claims(t, failingGets(c.answers), pvc)
			return func() { claims.claim("data").Bound(t.Context()) }
		})
	}
}

// source is a ReplicationSource of the PVC data.
func source(change ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"sourcePVC": "data", "restic": map[string]any{"copyMethod": "Direct"}}}}
	o.SetGroupVersionKind(volsync.Source)
	o.SetNamespace("ns")
	o.SetName("data-backup")
	for _, c := range change {
		c(o)
	}
	return o
}

func ownedBy(uid string) func(*unstructured.Unstructured) {
	return func(o *unstructured.Unstructured) {
		o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "PersistentVolumeClaim", Name: "data", UID: types.UID(uid)}})
	}
}

func TestHas(t *testing.T) {
	for name, c := range map[string]struct {
		objects    []client.Object
		blind      int // lists that fail at first
		want, says string
	}{
		"there":                 {[]client.Object{source(ownedBy("mine"))}, 0, "pass", ""},
		"never":                 {nil, 0, "fail", "no ReplicationSource in the namespace"},
		"an earlier one's":      {[]client.Object{source(ownedBy("another"))}, 0, "fail", "belongs to an earlier PVC"},
		"blind":                 {[]client.Object{source()}, 1 << 30, "unknown", "connection reset"},
		"blind, and then there": {[]client.Object{source()}, 5, "pass", ""},
		"blind, and then never": {nil, 5, "fail", "no ReplicationSource"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			claims, _ := claims(t, failingLists(c.blind), c.objects...)
			return func() {
				claim := claims.claim("data")
				claim.UID = "mine"
				claim.HasReplicationSource(t.Context())
			}
		})
	}
}

// failingLists lets the first n lists fail.
func failingLists(n int) interceptor.Funcs {
	return interceptor.Funcs{List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		if n--; n >= 0 {
			return errTransport
		}
		return api.List(ctx, list, opts...)
	}}
}

func TestDeleteAndRecreate(t *testing.T) {
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", UID: "mine"}}
	stuck := pvc.DeepCopy()
	stuck.Finalizers = []string{"kubernetes.io/pvc-protection"}
	for name, c := range map[string]struct {
		objects    []client.Object
		funcs      interceptor.Funcs
		want, says string
	}{
		"gone":  {[]client.Object{pvc}, interceptor.Funcs{}, "pass", ""},
		"stuck": {[]client.Object{stuck}, interceptor.Funcs{}, "unknown", "pvc-protection"},
		"cannot be asked for": {[]client.Object{pvc}, interceptor.Funcs{Delete: func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error {
			return errTransport
		}}, "unknown", "connection reset"},
		"blind": {[]client.Object{pvc}, failingGets([]error{errTransport}), "unknown", "connection reset"},
	} {
		for verb, do := range map[string]func(*Claim, context.Context){
			"delete":   func(claim *Claim, ctx context.Context) { claim.Delete(ctx) },
			"recreate": func(claim *Claim, ctx context.Context) { claim.Recreate(ctx) },
		} {
			inBubble(t, name+"/"+verb, c.want, c.says, func(t *testing.T) func() {
				var objects []client.Object
				for _, o := range c.objects {
					objects = append(objects, o.DeepCopyObject().(client.Object))
				}
				claims, _ := claims(t, c.funcs, objects...)
				return func() {
					claim := claims.claim("data")
					claim.UID = "mine"
					do(claim, t.Context())
				}
			})
		}
	}
	inBubble(t, "its objects stay", "unknown", "data-backup is there", func(t *testing.T) func() {
		claims, _ := claims(t, interceptor.Funcs{}, pvc.DeepCopy(), source(ownedBy("mine")))
		return func() {
			claim := claims.claim("data")
			claim.UID = "mine"
			claim.Delete(t.Context())
		}
	})
}

func TestPatch(t *testing.T) {
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data"}}
	for name, c := range map[string]struct {
		answer  error
		want    string
		allowed bool
	}{
		"changed":                 {nil, "pass", true},
		"forbidden":               {apierrors.NewForbidden(pvcs, "data", errors.New("only dynamically provisioned")), "pass", false},
		"denied":                  {denial("validate.kyverno.svc-fail"), "pass", false},
		"a webhook was not asked": {unasked("validate.kyverno.svc-fail"), "unknown", false},
		"transport":               {errTransport, "unknown", false},
	} {
		inBubble(t, name, c.want, "", func(t *testing.T) func() {
			claims, _ := claims(t, interceptor.Funcs{Patch: func(ctx context.Context, api client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
				if c.answer != nil {
					return c.answer
				}
				return api.Patch(ctx, o, patch, opts...)
			}}, pvc.DeepCopy())
			return func() {
				if got := claims.claim("data").Patch(t.Context(), "annotated", `{"metadata":{"annotations":{"a":"b"}}}`); got != c.allowed {
					t.Errorf("allowed: %v", got)
				}
			}
		})
	}
}

func TestClaimOrRefusal(t *testing.T) {
	for name, c := range map[string]struct {
		answer     error
		want, says string
	}{
		"admitted":           {nil, "pass", ""},
		"denied":             {denial("validate.kyverno.svc-fail"), "pass", ""},
		"denied by another":  {denial("pvc.example.com"), "unknown", "neither admitted nor refused"},
		"cannot be asked":    {unasked("validate.kyverno.svc-fail"), "unknown", "neither admitted nor refused"},
		"transport":          {errTransport, "unknown", "connection reset"},
		"refused for itself": {apierrors.NewInvalid(schema.GroupKind{}, "data", nil), "unknown", "neither admitted nor refused"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			claims, _ := claims(t, interceptor.Funcs{Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if c.answer != nil {
					return c.answer
				}
				return api.Create(ctx, o, opts...)
			}})
			return func() {
				if claim := claims.ClaimOrRefusal(t.Context(), "data"); (claim == nil) != (c.answer != nil) {
					t.Errorf("claim: %v", claim)
				}
			}
		})
	}
}

func TestStormFailsForWhatWasSeen(t *testing.T) {
	inBubble(t, "one lost, one denied", "fail", "storm-01 was not admitted", func(t *testing.T) func() {
		claims, _ := claims(t, interceptor.Funcs{Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			if o.GetName() == "storm-01" {
				return denial("validate.kyverno.svc-fail")
			}
			return errTransport
		}})
		return func() { claims.Storm(t.Context(), "storm", 2) }
	})
}

func TestASourceWithoutASecretFails(t *testing.T) {
	inBubble(t, "no repository", "fail", "names no Secret", func(t *testing.T) func() {
		claims, _ := claims(t, interceptor.Funcs{}, source())
		return func() { claims.claim("data").secret(t.Context()) }
	})
}

func TestPlaceholders(t *testing.T) {
	given := []string{"my<secret>null", ""}
	for value, want := range map[string]bool{
		"{{ x }}": true, "s3:http://x/$(BUCKET)": true, "<password>": true, "a-null-b": true, "changeme123": true,
		"my<secret>null": false, "of-my<secret>null": false, "nullable": false, "s3:http://10.1.2.3:9000/b/ns/data": false,
	} {
		if got := hasPlaceholder(value, given); got != want {
			t.Errorf("%s: %v", value, got)
		}
	}
}

func TestDecisionsAreRecordedOnce(t *testing.T) {
	claims, r := claims(t, interceptor.Funcs{})
	claims.situations.rows = []*situation{{name: "fresh", pvc: "data", claim: claims.claim("data"), err: errTransport}}
	claims.env.Created = nothingMade{}
	claims.RecordDecisions(t.Context())
	claims.RecordDecisions(t.Context()) // the clean-up is tried again
	if len(r.Evidences) != 1 {
		t.Errorf("%q", r.Evidences)
	}
}

func TestNoTokenSent(t *testing.T) {
	about := gateway.Record{Method: "GET", Path: "/bucket/ns/data/config", Auth: gateway.AuthNone}
	with := func(auth string) gateway.Record {
		r := about
		r.Auth = auth
		return r
	}
	for name, c := range map[string]struct {
		records    []gateway.Record
		dropped    int64
		status     int
		want, says string
	}{
		"none":                      {[]gateway.Record{about, with(gateway.AuthAWS4)}, 0, 200, "pass", ""},
		"to the oracle":             {[]gateway.Record{about, {To: gateway.ToOracle, Path: "/exists/ns/data", Auth: gateway.AuthBearer}}, 0, 200, "pass", ""},
		"what the oracle asks":      {[]gateway.Record{{Path: about.Path, Auth: gateway.AuthNone, UserAgent: gateway.OracleAgent}}, 0, 200, "unknown", "no request of Kyverno's"},
		"a bearer":                  {[]gateway.Record{about, with(gateway.AuthBearer)}, 0, 200, "fail", "bearer"},
		"basic":                     {[]gateway.Record{about, with(gateway.AuthBasic)}, 0, 200, "fail", "basic"},
		"a bearer, others are lost": {[]gateway.Record{with(gateway.AuthBearer)}, 7, 200, "fail", "bearer"},
		"forgotten":                 {[]gateway.Record{about}, 7, 200, "unknown", "forgotten 7"},
		"not asked":                 {[]gateway.Record{with(gateway.AuthAWS4)}, 0, 200, "unknown", "no request of Kyverno's"},
		"the gateway is dead":       {nil, 0, 500, "unknown", "fault gateway"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_ = json.NewEncoder(w).Encode(gateway.RecordsPage{Records: c.records, Dropped: c.dropped})
			}))
			defer server.Close()
			claims, _ := claimsOf(t, env.Parts{Gateway: fault.New(server.URL, "")})
			if got := recorded.Outcome(func() { claims.NoTokenSent(t.Context(), 0, "data") }); got.How != c.want || !strings.Contains(got.Reason, c.says) {
				t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
			}
		})
	}
}

// nothingMade knows that nothing was made.
type nothingMade struct{}

func (nothingMade) Created(context.Context, string, string, time.Time) ([]creations.CreatedObject, error) {
	return nil, nil
}
func (nothingMade) Covers(context.Context, time.Time) (bool, error) { return true, nil }
func (nothingMade) Close() error                                    { return nil }

func TestRestoreUnderWay(t *testing.T) {
	now := time.Now()
	read := func(after time.Duration) gateway.Record {
		return gateway.Record{Method: "GET", Path: "/bucket/ns/data/data/00/00", Auth: gateway.AuthAWS4, Time: now.Add(after)}
	}
	other := func(after time.Duration) gateway.Record {
		return gateway.Record{Method: "GET", Path: "/", Time: now.Add(after)}
	}
	for name, c := range map[string]struct {
		about, all []gateway.Record
		dropped    int64
		status     int
		done, gone bool
		want, says string
	}{
		"under way":               {[]gateway.Record{read(time.Second)}, nil, 0, 200, false, false, "pass", ""},
		"not yet":                 {nil, nil, 0, 200, false, false, "fail", "no data was read"},
		"an earlier one's":        {[]gateway.Record{read(-time.Minute)}, nil, 0, 200, false, false, "fail", "no data was read"},
		"earlier ones forgotten":  {nil, []gateway.Record{other(-time.Minute)}, 5, 200, false, false, "fail", "no data was read"},
		"perhaps it is forgotten": {nil, []gateway.Record{other(time.Minute)}, 5, 200, false, false, "unknown", "forgotten 5"},
		"the gateway is dead":     {nil, nil, 0, 500, false, false, "unknown", "fault gateway"},
		"done already":            {[]gateway.Record{read(time.Second)}, nil, 0, 200, true, false, "unknown", "done before"},
		"gone already":            {[]gateway.Record{read(time.Second)}, nil, 0, 200, false, true, "unknown", "done before"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(c.status)
				page := gateway.RecordsPage{Records: c.all, Dropped: c.dropped}
				if r.URL.Query().Get("pathPrefix") != "" {
					page.Records = c.about
				}
				_ = json.NewEncoder(w).Encode(page)
			}))
			defer server.Close()
			var objects []client.Object
			if !c.gone {
				objects = append(objects, destinationDone(c.done))
			}
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(objects...).Build(), Gateway: fault.New(server.URL, "")})
			claims.env.Times.Mover, claims.env.Times.Poll = 20*time.Millisecond, time.Millisecond
			claim := claims.claim("data")
			claim.CreatedAt = now
			if got := recorded.Outcome(func() { claim.RestoreUnderWay(t.Context(), destinationDone(false)) }); got.How != c.want || !strings.Contains(got.Reason, c.says) {
				t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
			}
		})
	}
}

// slowAtFirst is an audit log that takes long to be read the first time.
type slowAtFirst struct {
	nothingMade
	read *bool
}

func (s slowAtFirst) Created(ctx context.Context, _, _ string, since time.Time) ([]creations.CreatedObject, error) {
	_, err := s.Covers(ctx, since)
	return nil, err
}

func (s slowAtFirst) Covers(ctx context.Context, _ time.Time) (bool, error) {
	if !*s.read {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(8 * time.Second):
		}
	}
	*s.read = true
	return true, nil
}

func TestALogThatTakesLongToReadIsNoGap(t *testing.T) {
	inBubble(t, "slow at first", "pass", "", func(t *testing.T) func() {
		claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().Build(), Created: slowAtFirst{read: new(bool)}})
		return func() { claims.claim("data").StaysUnrestored(t.Context(), "a change") }
	})
}

// aBackup knows of one pod that backs up the PVC data.
type aBackup struct{ nothingMade }

func (aBackup) Created(_ context.Context, resource, _ string, since time.Time) ([]creations.CreatedObject, error) {
	if resource != absence.Backups {
		return nil, nil
	}
	return []creations.CreatedObject{{Name: "volsync-src-data-…", User: "job-controller", Time: since.Add(time.Second), Raw: map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"job-name": "volsync-src-data"}},
		"spec":     map[string]any{"volumes": []any{map[string]any{"persistentVolumeClaim": map[string]any{"claimName": "data"}}}},
	}}}, nil
}

// ofACopy knows of a pod that backs up a copy of the PVC data, which takes its time to be made.
type ofACopy struct {
	nothingMade
	from  time.Time
	takes time.Duration
}

func (c ofACopy) Created(_ context.Context, resource, _ string, _ time.Time) ([]creations.CreatedObject, error) {
	switch {
	case resource == absence.ReplicationSources:
		return []creations.CreatedObject{{Name: "of-data", Raw: map[string]any{"spec": map[string]any{"sourcePVC": "data"}}}}, nil
	case resource == "persistentvolumeclaims":
		return []creations.CreatedObject{{Name: "volsync-of-data-src", Raw: map[string]any{"metadata": map[string]any{
			"ownerReferences": []any{map[string]any{"kind": "ReplicationSource", "name": "of-data"}},
		}}}}, nil
	case time.Since(c.from) < c.takes:
		return nil, nil
	}
	return []creations.CreatedObject{{Name: "volsync-src-of-data-…", User: "job-controller", Time: time.Now(), Raw: map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"job-name": "volsync-src-of-data"}},
		"spec":     map[string]any{"volumes": []any{map[string]any{"persistentVolumeClaim": map[string]any{"claimName": "volsync-of-data-src"}}}},
	}}}, nil
}

// A mover that reads a copy is waited for as long as copies take, unless none can come.
func TestABackupOfACopyThatIsLetIn(t *testing.T) {
	for name, c := range map[string]struct {
		volume, want string
		paused       bool
		takes        time.Duration
	}{
		"it comes late":               {"pv", "fail", false, 10 * time.Second},
		"it is paused":                {"pv", "pass", true, 10 * time.Second},
		"it was paused":               {"pv", "fail", true, 2 * time.Second},
		"there is nothing to back up": {"", "pass", false, 10 * time.Second},
	} {
		inBubble(t, name, c.want, map[string]string{"fail": "volsync-src-of-data"}[c.want], func(t *testing.T) func() {
			source := backsUp("of-data", false)
			if err := unstructured.SetNestedField(source.Object, c.paused, "spec", "paused"); err != nil {
				t.Fatal(err)
			}
			pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: c.volume}}
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(pvc, source).Build(), Created: ofACopy{from: time.Now(), takes: c.takes}})
			claims.env.Testbed.Contract.CopyMethod = policy.CopySnapshot
			return func() { claims.claim("data").NoBackupLetIn(t.Context()) }
		})
	}
}

func TestABackupThatIsLetIn(t *testing.T) {
	for name, verb := range map[string]func(context.Context, *Claim){
		"so far": func(ctx context.Context, c *Claim) { c.NoBackupSoFar(ctx, "the restore found nothing") },
		"at all": func(ctx context.Context, c *Claim) { c.NoBackupLetIn(ctx) },
	} {
		inBubble(t, name+", none", "pass", "", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().Build(), Created: nothingMade{}})
			return func() { verb(t.Context(), claims.claim("data")) }
		})
		inBubble(t, name+", another's", "pass", "", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().Build(), Created: aBackup{}})
			return func() { verb(t.Context(), claims.claim("twin")) }
		})
		inBubble(t, name+", one", "fail", "volsync-src-data", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().Build(), Created: aBackup{}})
			return func() { verb(t.Context(), claims.claim("data")) }
		})
	}
}
