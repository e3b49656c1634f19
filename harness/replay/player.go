package replay

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/claim"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/explore/picture"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/platform"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/volsync"
)

// subject is a PVC of the history, its app, and what is known of their data.
type subject struct {
	Place
	key, name    string
	app          *app.Resting
	wanted       bool              // the app is to run
	uid          types.UID         // the PVC's, as it was seen last; empty: there is none
	wrote        string            // what its app has on the volume, by its own knowledge; empty: nothing yet
	good, goodID string            // what the newest good backup holds, and which it is; empty: there is none
	exported     claim.Annotations // of its last life
	snapshots    []string          // those of its repository that were looked at
	backedUp     bool              // in this life, since all is well again
	lives        int
	pods         map[types.UID]bool // those of its app that have read the volume
	earlyPod     bool
	acceptedAll  bool  // somebody has accepted the volume as it is
	missed       bool  // it was created or labelled when the contract does not promise that anything comes of it
	unguarded    bool  // the policy was removed before its restore was done, and the gates with it
	unread       error // why the last look at its app's volume saw nothing; nil: it saw what is there

	// These are about pictures: what its snapshots hold, and the latest of them; when its ReplicationSources were synced last, by their UIDs;
	// and whether one was that nobody had asked for.
	held    map[string]string
	latest  string
	synced  map[string]string
	unasked bool
}

// player plays one history.
type player struct {
	env      *env.Env
	platform *platform.Platform
	subjects map[string]*subject
	parents  map[string]string // of each content: the one that it was made of
	healS3   []func(context.Context)
	blind    bool // S3 is down
	back     map[string]func(context.Context)
	event    int
	healing  bool

	pictured bool              // pictures are taken
	names    map[string]string // of each content, in them
	nudged   time.Time         // when ReplicaSets were last told to try again
}

func newPlayer(places map[string]Place) *player {
	p := &player{subjects: map[string]*subject{}, parents: map[string]string{}, back: map[string]func(context.Context){}, names: map[string]string{}}
	for _, key := range history.PVCs {
		namespace, name, _ := strings.Cut(key, "/")
		place, there := places[namespace]
		if !there {
			continue
		}
		if p.env == nil {
			p.env, p.platform = place.Env, place.Platform
		}
		p.subjects[key] = &subject{Place: place, key: key, name: place.Env.PVC(name), app: app.RestingOf(place.Env, place.Env.PVC(name)), pods: map[types.UID]bool{}}
	}
	return p
}

// all are the subjects, in the order of history.PVCs.
func (p *player) all() (all []*subject) {
	for _, key := range history.PVCs {
		if s := p.subjects[key]; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// The lengths of what passes, at most: it is over when nothing moves any more.
const (
	soon  = 30 * time.Second
	hour  = 90 * time.Second
	quiet = 8 * time.Second
)

// do does one event. What cannot happen, as a PVC that is not there cannot be deleted, does not.
func (p *player) do(ctx context.Context, e history.Event) {
	s := p.subjects[e.PVC]
	var pvc *corev1.PersistentVolumeClaim
	if s != nil {
		if pvc = s.get(ctx); pvc != nil {
			s.uid = pvc.UID
		}
	}
	switch e.Do {
	case "create":
		if pvc == nil {
			p.create(ctx, s, e.How)
		}
	case "backup":
		if pvc == nil {
			p.earlierBackup(ctx, s)
		}
	case "start", "stop":
		p.scale(ctx, s, e.Do == "start")
	case "write":
		p.write(ctx, s)
	case "wait", "scan":
		p.settle(ctx, soon)
	case "hour", "day":
		p.schedule(ctx)
	case "delete":
		if pvc != nil {
			p.delete(ctx, s, e.How, pvc)
		}
	case "s3-down":
		p.s3Down(ctx, e.How)
	case "s3-up":
		p.s3Up(ctx)
	case "killed":
		p.kill(ctx, s)
	case "again":
		if pvc != nil {
			p.again(ctx, s, e.How, pvc)
		}
	case "label", "unlabel", "annotate", "accept", "resize":
		if pvc != nil {
			p.change(ctx, s, e.Do, claim.Found(s.Claims, pvc))
		}
	case "source":
		p.takeAway(ctx, s, volsync.Source, volsync.SourceOf, e.How == "brought-back")
	case "destination":
		p.takeAway(ctx, s, volsync.Destination, volsync.DestinationOf, e.How == "brought-back")
	case "admission", "background":
		p.controller(ctx, e.Do, e.How)
	case "policy":
		p.policy(ctx, e.How == "is-applied-again")
	case "secret":
		p.secret(ctx, e.How)
	}
}

// get is the subject's PVC. Nil: there is none.
func (s *subject) get(ctx context.Context) *corev1.PersistentVolumeClaim {
	pvc := &corev1.PersistentVolumeClaim{}
	there := true
	s.Env.Do(ctx, func(ctx context.Context) error {
		err := s.Env.API.Get(ctx, client.ObjectKey{Namespace: s.Env.Namespace, Name: s.name}, pvc)
		there = !apierrors.IsNotFound(err)
		return client.IgnoreNotFound(err)
	})
	if !there {
		return nil
	}
	return pvc
}

// try does what may be refused, as people do it. It says whether it was done.
func (p *player) try(ctx context.Context, what string, do func(context.Context) error) (done bool) {
	p.env.Arrange(ctx, what+", or refused", p.env.Times.Gone, func(context.Context) (await.State, error) {
		err := do(ctx) // without the time of a look: a webhook may be waited for
		if env.NotAllowed(err) || env.Refused(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			p.env.Evidence("seen", fmt.Sprintf("%s: %v", what, err), nil)
			return await.Reached(), nil
		}
		done = err == nil
		return await.Reached(), err
	})
	return done
}

func (p *player) create(ctx context.Context, s *subject, how string) {
	decisions := s.Env.Testbed.Contract.Decisions
	o := claim.Manifest(s.Claims, s.name)
	var options []client.CreateOption
	var annotations claim.Annotations
	switch how {
	case "unlabelled":
		o = claim.Unselected(s.Claims, s.name)
	case "annotated":
		annotations = s.exported
	case "annotated-fresh":
		annotations = claim.Annotations{decisions.Annotation: decisions.Fresh}
	case "annotated-restore":
		annotations = claim.Annotations{decisions.Annotation: decisions.Restore}
	case "dry-run":
		options = append(options, client.DryRunAll)
	}
	annotate(o, annotations)
	if p.try(ctx, "PVC "+s.key+" created", func(ctx context.Context) error { return s.Env.API.Create(ctx, o, options...) }) && how != "dry-run" {
		s.uid, s.wrote, s.acceptedAll, s.unguarded = o.UID, "", false, false
		s.missed = p.back["policy"] != nil || !s.Env.Testbed.Contract.Promises("catches-up") && (p.back["admission"] != nil || p.back["background"] != nil)
		s.lives++
	}
}

func annotate(o *corev1.PersistentVolumeClaim, annotations claim.Annotations) {
	for k, v := range annotations {
		if k == "" {
			continue
		}
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		o.Annotations[k] = v
	}
}

// earlierBackup is one of a cluster that is gone.
func (p *player) earlierBackup(ctx context.Context, s *subject) {
	content := p.content("backed up by the cluster of before", s, s.good)
	s.Repositories.AddSnapshot(ctx, s.name, content, time.Now())
	s.good = content
	s.goodID, s.snapshots = s.Repositories.LatestSnapshot(ctx, s.name), s.Repositories.SnapshotKeys(ctx, s.name)
	s.newest([]string{s.goodID}, map[string]string{s.goodID: content})
}

// content is new content, made of what was there.
func (p *player) content(what string, s *subject, was string) string {
	content := fmt.Sprintf("%s, %s in event %d, life %d, %s", s.key, what, p.event, s.lives, env.RandomSuffix())
	p.parents[content], p.names[content] = was, picture.Content(s.key, p.event)
	return content
}

// descends says whether content was made of other content, or is it.
func (p *player) descends(content, of string) bool {
	for content != "" && content != of {
		content = p.parents[content]
	}
	return content == of
}

func (p *player) scale(ctx context.Context, s *subject, up bool) {
	s.wanted = up
	replicas := int32(0)
	if up {
		replicas = 1
		s.earlyPod = s.get(ctx) == nil
	}
	s.Env.Do(ctx, func(ctx context.Context) error { return s.app.Scale(ctx, replicas) })
	if !up {
		p.podsGone(ctx, s)
	}
}

func (p *player) podsGone(ctx context.Context, s *subject) {
	s.Env.Arrange(ctx, "the app of "+s.key+" stopped", s.Env.Times.Gone, func(ctx context.Context) (await.State, error) {
		pods, err := s.app.Pods(ctx)
		return await.ReachedIf(len(pods) == 0, "%d pods are there", len(pods)), err
	})
}

// write is the app's, where it runs.
func (p *player) write(ctx context.Context, s *subject) {
	p.look(ctx)
	s.Env.Do(ctx, func(ctx context.Context) error {
		pod, _, err := s.app.Content(ctx)
		if err != nil || pod == nil {
			return err
		}
		content := p.content("written by its app", s, s.wrote)
		if err = s.app.Put(ctx, pod, content); err == nil {
			s.wrote = content
		}
		return err
	})
}

// schedule lets what was begun come to its end, and then the time of all schedules come: each ReplicationSource is asked for a backup.
func (p *player) schedule(ctx context.Context) {
	p.settle(ctx, soon)
	for _, s := range p.all() {
		for _, o := range p.sources(ctx, s) {
			patch := fmt.Appendf(nil, `{"spec":{"trigger":{"manual":%q}}}`, "replay-"+env.RandomSuffix())
			p.try(ctx, "a backup of "+s.key+" asked for", func(ctx context.Context) error {
				return s.Env.API.Patch(ctx, &o, client.RawPatch(types.MergePatchType, patch))
			})
		}
	}
	p.settle(ctx, hour)
}

func (p *player) sources(ctx context.Context, s *subject) []unstructured.Unstructured {
	return p.list(ctx, s, volsync.Source, volsync.SourceOf)
}

func (p *player) destinations(ctx context.Context, s *subject) []unstructured.Unstructured {
	return p.list(ctx, s, volsync.Destination, volsync.DestinationOf)
}

func (p *player) list(ctx context.Context, s *subject, kind schema.GroupVersionKind, is func(*unstructured.Unstructured, string) bool) (found []unstructured.Unstructured) {
	s.Env.Do(ctx, func(ctx context.Context) error {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		err := s.Env.API.List(ctx, list, client.InNamespace(s.Env.Namespace))
		found = slices.DeleteFunc(list.Items, func(o unstructured.Unstructured) bool { return !is(&o, s.name) })
		return err
	})
	return found
}

// delete takes a PVC away. A Deployment makes its pod anew at once, unless it was scaled to 0.
func (p *player) delete(ctx context.Context, s *subject, how string, pvc *corev1.PersistentVolumeClaim) {
	if how == "app-first" {
		p.scale(ctx, s, false)
	}
	if !p.try(ctx, "PVC "+s.key+" deleted", func(ctx context.Context) error { return s.Env.API.Delete(ctx, pvc) }) {
		return
	}
	gone := false
	s.Env.Arrange(ctx, "PVC "+s.key+" gone, or kept", s.Env.Times.Gone+soon, func(ctx context.Context) (await.State, error) {
		pods, err := s.app.Pods(ctx)
		for i := range pods {
			err = client.IgnoreNotFound(s.Env.API.Delete(ctx, &pods[i], client.GracePeriodSeconds(0)))
		}
		now := &corev1.PersistentVolumeClaim{}
		get := s.Env.API.Get(ctx, client.ObjectKeyFromObject(pvc), now)
		gone = apierrors.IsNotFound(get) || get == nil && now.UID != pvc.UID
		return await.ReachedIf(gone, "finalizers %v", now.Finalizers), cmp.Or(err, client.IgnoreNotFound(get))
	})
	s.exported = claim.Policys(pvc.Annotations)
	s.uid, s.wrote, s.acceptedAll = "", "", false
	s.earlyPod = s.wanted
}

func (p *player) s3Down(ctx context.Context, name string) {
	if p.blind {
		return
	}
	faults := outage.All()
	i := slices.IndexFunc(faults, func(f outage.Fault) bool { return f.Short() == name })
	if i < 0 {
		p.env.Unknownf("there is no fault %s", name)
	}
	f := faults[i]
	p.blind = true
	begun := map[string]bool{}
	for _, s := range p.all() {
		whole := f.Key == "" || f.ByClient()
		if whole && begun[s.Env.Namespace] || f.ByClient() && len(begun) > 0 {
			continue
		}
		begun[s.Env.Namespace] = true
		p.healS3 = append(p.healS3, s.S3.Begin(ctx, f, s.name))
	}
}

func (p *player) s3Up(ctx context.Context) {
	for _, heal := range p.healS3 {
		heal(ctx)
	}
	p.healS3, p.blind = nil, false
}

// kill kills the movers of a PVC that are at work.
func (p *player) kill(ctx context.Context, s *subject) {
	for _, pod := range p.movers(ctx, s) {
		p.try(ctx, "mover "+pod.Name+" killed", func(ctx context.Context) error {
			return s.Env.API.Delete(ctx, &pod, client.GracePeriodSeconds(0))
		})
	}
}

func (p *player) movers(ctx context.Context, s *subject) (movers []corev1.Pod) {
	for _, o := range slices.Concat(p.sources(ctx, s), p.destinations(ctx, s)) {
		s.Env.Do(ctx, func(ctx context.Context) error {
			pods, err := claim.MoversOf(ctx, s.Claims, &o)
			movers = append(movers, slices.DeleteFunc(pods, func(pod corev1.Pod) bool {
				return volsync.Over(&pod)
			})...)
			return err
		})
	}
	return movers
}

// again is a manifest that is applied to a PVC that is there.
func (p *player) again(ctx context.Context, s *subject, how string, pvc *corev1.PersistentVolumeClaim) {
	decisions := s.Env.Testbed.Contract.Decisions
	o := claim.Manifest(s.Claims, s.name)
	switch how {
	case "create":
		p.try(ctx, "PVC "+s.key+" created again", func(ctx context.Context) error { return s.Env.API.Create(ctx, o) })
		return
	case "replace-annotated-fresh":
		annotate(o, claim.Annotations{decisions.Annotation: decisions.Fresh})
	case "replace-annotated-restore":
		annotate(o, claim.Annotations{decisions.Annotation: decisions.Restore})
	}
	o.Spec, o.ResourceVersion = pvc.Spec, pvc.ResourceVersion
	p.try(ctx, "PVC "+s.key+" replaced", func(ctx context.Context) error { return s.Env.API.Update(ctx, o) })
}

func (p *player) change(ctx context.Context, s *subject, do string, c *claim.Claim) {
	contract := s.Env.Testbed.Contract
	metadata := func(m map[string]any) string {
		raw, err := json.Marshal(map[string]any{"metadata": m})
		s.Env.Must(err)
		return string(raw)
	}
	switch do {
	case "label":
		c.Patch(ctx, "labelled", metadata(contract.PVC.Metadata(true)))
		s.missed = s.missed || p.back["policy"] != nil || !contract.Promises("relabel")
	case "unlabel":
		c.Patch(ctx, "unlabelled", metadata(contract.PVC.Metadata(false)))
	case "annotate":
		c.Patch(ctx, "annotated", metadata(map[string]any{"annotations": map[string]any{"example.com/touched": fmt.Sprint(p.event)}}))
	case "accept":
		if contract.Override.Annotation != "" {
			value := contract.Override.Value.Expand(s.Env.Namespace, s.name, c.UID)
			s.acceptedAll = c.Patch(ctx, "accepted as it is", metadata(map[string]any{"annotations": map[string]any{contract.Override.Annotation: value}}))
		}
	case "resize":
		c.Patch(ctx, "resized", `{"spec":{"resources":{"requests":{"storage":"300Mi"}}}}`)
	}
}

// takeAway deletes what VolSync works on, or brings it back as backup tools do.
func (p *player) takeAway(ctx context.Context, s *subject, kind schema.GroupVersionKind, is func(*unstructured.Unstructured, string) bool, back bool) {
	for _, o := range p.list(ctx, s, kind, is) {
		what := o.GetKind() + " of " + s.key
		p.try(ctx, what+" deleted", func(ctx context.Context) error {
			return s.Env.API.Delete(ctx, &o, client.PropagationPolicy(metav1.DeletePropagationBackground))
		})
		again := claim.Bare(&o)
		s.Env.Arrange(ctx, what+" gone", s.Env.Times.Gone, s.Env.Gone(o.DeepCopy()))
		if back {
			p.try(ctx, what+" brought back", func(ctx context.Context) error { return s.Env.API.Create(ctx, again) })
		}
	}
}

// controller takes one of Kyverno's controllers away, or brings it back.
func (p *player) controller(ctx context.Context, which, how string) {
	back := p.back[which]
	switch {
	case how == "is-back":
		if back != nil {
			back(ctx)
			p.platform.KyvernoBack(ctx)
		}
		delete(p.back, which)
	case back != nil: // it is away
	case how == "dies":
		kills := p.platform.KillAgainAndAgain(ctx, "kyverno")
		p.back[which] = func(context.Context) { kills.Stop() }
	case which == "admission":
		p.back[which] = p.platform.Off(ctx, platform.KyvernoAdmission)
		p.platform.NoKyvernoWebhooks(ctx)
	default:
		p.back[which] = p.platform.Off(ctx, platform.KyvernoBackground)
	}
}

// policy takes the policy away, or applies it again.
func (p *player) policy(ctx context.Context, applied bool) {
	back := p.back["policy"]
	switch {
	case applied && back != nil:
		back(ctx)
		delete(p.back, "policy")
	case !applied && back == nil:
		decisions := p.env.Testbed.Contract.Decisions
		for _, s := range p.all() {
			if pvc := s.get(ctx); pvc != nil && s.wrote == "" && (decisions.Annotation == "" || decisions.NotDecided(policy.DecisionRestore, pvc.Annotations) == "") {
				s.missed, s.unguarded = true, true
			}
		}
		p.back["policy"] = p.platform.RemovePolicy(ctx)
	}
}

// secret takes the base Secrets away, or brings them back.
func (p *player) secret(ctx context.Context, how string) {
	if how == "goes" && p.back["secret"] == nil {
		var all []func(context.Context)
		seen := map[string]bool{}
		for _, s := range p.all() {
			if !seen[s.Env.Namespace] {
				seen[s.Env.Namespace] = true
				all = append(all, s.Platform.WithoutBaseSecret(ctx))
			}
		}
		p.back["secret"] = func(ctx context.Context) {
			for _, back := range all {
				back(ctx)
			}
		}
	}
	if how == "is-there" && p.back["secret"] != nil {
		p.back["secret"](ctx)
		delete(p.back, "secret")
	}
}

// settle lets those act whom somebody waits for, until nothing moves any more, or this time is over.
func (p *player) settle(ctx context.Context, most time.Duration) {
	began, since, was := time.Now(), time.Now(), ""
	p.env.Arrange(ctx, "nothing moves any more", most+p.env.Times.Look, func(ctx context.Context) (await.State, error) {
		p.apps(ctx)
		p.tryAgain(ctx)
		now, working := p.signs(ctx)
		calm, goesOn := p.calm(ctx)
		if now != was || working && !p.pictured || goesOn {
			was, since = now, time.Now()
		}
		return await.ReachedIf(time.Since(since) >= calm || time.Since(began) >= most, "it still does"), nil
	})
	p.look(ctx)
}

// signs are what changes while something moves, and whether a mover is at work.
func (p *player) signs(ctx context.Context) (signs string, working bool) {
	var all []string
	for _, s := range p.all() {
		if pvc := s.get(ctx); pvc != nil {
			all = append(all, s.key, string(pvc.UID), string(pvc.Status.Phase), fmt.Sprint(len(pvc.Annotations)))
			for _, k := range slices.Sorted(maps.Keys(pvc.Annotations)) {
				all = append(all, pvc.Annotations[k])
			}
		}
		for _, o := range slices.Concat(p.sources(ctx, s), p.destinations(ctx, s)) {
			all = append(all, o.GetName(), volsync.Nested(&o, "status", "lastSyncTime"), volsync.Nested(&o, "status", "lastManualSync"))
		}
		for _, pod := range p.movers(ctx, s) {
			working = working || pod.Status.Phase == corev1.PodRunning
			all = append(all, pod.Name, string(pod.Status.Phase))
		}
		all = append(all, s.wrote)
	}
	return strings.Join(all, " "), working
}
