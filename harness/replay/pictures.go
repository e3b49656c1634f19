package replay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/claim"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/explore/picture"
	"github.com/smart-restore/conformance/harness/volsync"
)

// How long it is waited before a picture is taken.
const (
	// patient is how long nothing moves where something is held that nobody keeps from running any more: Kubernetes tries to make the pod of a
	// Job again after a minute at most.
	patient = 65 * time.Second
	// unsettled is after how long a picture is taken of what still moves.
	unsettled = 150 * time.Second
	// nudge is how often a Deployment whose pod is refused is touched. Its ReplicaSet tries again at once then, and after a time that doubles else.
	nudge = 5 * time.Second
)

// Pictures plays a history in places, and has a picture taken after each event, when nothing moves any more.
func Pictures(ctx context.Context, places map[string]Place, events []history.Event, taken func(picture.Picture)) {
	p := newPlayer(places)
	p.pictured = true
	for i, e := range events {
		p.event = i + 1
		p.env.Step("event %d: %s", i+1, e.Words())
		if e.Do == "killed" {
			p.moverAtWork(ctx, p.subjects[e.PVC])
		}
		if e.Do != "wait" && e.Do != "scan" { // that it does in any case
			p.do(ctx, e)
		}
		settles := history.Settles(events, i)
		if settles {
			p.settle(ctx, unsettled)
		} else {
			p.look(ctx)
		}
		now := p.picture(ctx, e)
		if !settles {
			now = now.Still()
		}
		taken(now)
	}
	p.event = 0
	p.env.Step("all is well again")
	p.mend(ctx)
	p.readable(ctx)
	p.env.Evidence("seen", "no invariant about data was broken", nil)
}

// moverAtWork waits for a mover of a PVC that runs, for as long as one would take to come.
func (p *player) moverAtWork(ctx context.Context, s *subject) {
	began := time.Now()
	p.env.Arrange(ctx, "a mover of "+s.key+" at work, or none", soon+p.env.Times.Look, func(ctx context.Context) (await.State, error) {
		at := slices.ContainsFunc(p.movers(ctx, s), func(pod corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning })
		return await.ReachedIf(at || time.Since(began) >= soon, "none is"), nil
	})
}

// picture is what there is after an event.
func (p *player) picture(ctx context.Context, e history.Event) picture.Picture {
	all := picture.Picture{}
	for _, s := range p.all() {
		sources := p.sources(ctx, s)
		of := picture.PVC{
			Claim: picture.None, App: picture.Off, Latest: picture.None,
			Source: p.becomes(ctx, s, sources), Destination: p.becomes(ctx, s, p.destinations(ctx, s)),
		}
		if pvc := s.get(ctx); pvc != nil {
			of.Claim, of.Decision = picture.There, s.decided(pvc)
		}
		if s.wanted {
			of.App, of.Volume = p.runs(ctx, s)
		}
		if len(s.snapshots) > 0 {
			of.Latest = p.holds(s.latest)
		}
		if scheduled := s.scheduled(sources, e); scheduled || p.blind {
			of.Latest = ""
		}
		all[s.key] = of
	}
	return all
}

// decided is what a PVC says was decided.
func (s *subject) decided(pvc *corev1.PersistentVolumeClaim) string {
	return s.terms().Decided(untyped(pvc.Annotations))
}

// runs is whether the app runs, and what it has on its volume. Empty: that could not be seen.
func (p *player) runs(ctx context.Context, s *subject) (app, volume string) {
	pod, content, err := s.app.Content(ctx)
	switch {
	case err != nil:
		return "", ""
	case pod == nil:
		return picture.Held, ""
	}
	return picture.Runs, p.holds(content)
}

// holds is the name of content.
func (p *player) holds(content string) string {
	if content == "" {
		return picture.Nothing
	}
	if name := p.names[content]; name != "" {
		return name
	}
	return fmt.Sprintf("what nobody wrote: %q", content)
}

// becomes is what becomes of objects that are for a PVC.
func (p *player) becomes(ctx context.Context, s *subject, objects []unstructured.Unstructured) string {
	var states []string
	for i := range objects {
		states = append(states, p.mover(ctx, s, &objects[i]))
	}
	return picture.Several(states)
}

func (p *player) mover(ctx context.Context, s *subject, o *unstructured.Unstructured) (state string) {
	s.Env.Do(ctx, func(ctx context.Context) error {
		job, err := claim.MoverJob(ctx, s.Claims, o)
		if err != nil {
			return err
		}
		pods, err := claim.MoversOf(ctx, s.Claims, o)
		state = becomes(o, job, pods)
		return err
	})
	return state
}

// becomes is what becomes of an object of VolSync's. A Job whose pods have failed, and which has none now, is waiting to make another, or was
// refused one: empty, for nobody can tell which.
func becomes(o *unstructured.Unstructured, job *batchv1.Job, pods []corev1.Pod) string {
	switch {
	case volsync.Paused(o):
		return picture.Paused
	case volsync.Nested(o, "spec", "trigger", "manual")+volsync.Nested(o, "spec", "trigger", "schedule") == "": // again and again
		return ""
	case volsync.Synced(o):
		return picture.Done
	case slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return !volsync.Over(&pod) }):
		return picture.Works
	case job != nil && job.Status.Failed+job.Status.Succeeded > 0:
		return ""
	}
	return picture.Held
}

// scheduled says whether the schedule of a ReplicationSource has come by itself since an hour was last played: the cluster's clock is not the
// history's.
func (s *subject) scheduled(sources []unstructured.Unstructured, e history.Event) bool {
	now := map[string]string{}
	for _, o := range sources {
		id, last := string(o.GetUID()), volsync.Nested(&o, "status", "lastSyncTime")
		if was := s.synced[id]; was != "" && was != last && volsync.Nested(&o, "spec", "trigger", "manual") == "" {
			s.unasked = true
		}
		now[id] = last
	}
	s.synced = now
	s.unasked = s.unasked && e.Do != "hour" && e.Do != "day"
	return s.unasked
}

// calm is for how long nothing has to move until it is settled. working: something is sure to go on.
func (p *player) calm(ctx context.Context) (calm time.Duration, working bool) {
	calm = quiet
	if !p.pictured || p.blind || len(p.back) > 0 {
		return calm, false
	}
	for _, s := range p.all() {
		for _, o := range slices.Concat(p.sources(ctx, s), p.destinations(ctx, s)) {
			switch p.mover(ctx, s, &o) {
			case picture.Held:
				calm = patient
			case picture.Works, "":
				working = true
			}
		}
		working = working || s.wanted && p.starting(ctx, s)
	}
	return calm, working
}

// starting says whether a pod of the app has a node, and does not run yet.
func (p *player) starting(ctx context.Context, s *subject) (is bool) {
	s.Env.Do(ctx, func(ctx context.Context) error {
		pods, err := s.app.Pods(ctx)
		is = slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodPending })
		return err
	})
	return is
}

// tryAgain has the ReplicaSets of apps whose pods are refused try again.
func (p *player) tryAgain(ctx context.Context) {
	if !p.pictured || time.Since(p.nudged) < nudge {
		return
	}
	p.nudged = time.Now()
	for _, s := range p.all() {
		if !s.wanted {
			continue
		}
		s.Env.Do(ctx, func(ctx context.Context) error {
			pods, err := s.app.Pods(ctx)
			if err != nil || len(pods) > 0 {
				return err
			}
			return s.app.Touch(ctx, fmt.Sprint(p.nudged.UnixNano()))
		})
	}
}

// newest takes down what the newest snapshot of a PVC holds.
func (s *subject) newest(ids []string, held map[string]string) {
	if s.held == nil {
		s.held = map[string]string{}
	}
	maps.Copy(s.held, held)
	if len(ids) > 0 {
		s.latest = s.held[ids[len(ids)-1]]
	}
}
