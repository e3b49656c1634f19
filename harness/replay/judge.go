package replay

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/policy"
)

// broken fails the spec: an invariant does not hold.
func (p *player) broken(invariant, format string, args ...any) {
	when := fmt.Sprintf("in event %d", p.event)
	if p.event == 0 {
		when = "after all events"
	}
	p.env.Failf("invariant %s is broken %s: %s", invariant, when, fmt.Sprintf(format, args...))
}

// apps are the apps that run: each looks at its volume, and initialises it if it is empty. It is about the invariants a, c and d. A volume that
// cannot be read now is read at the next look: read waits for that.
func (p *player) apps(ctx context.Context) {
	for _, s := range p.all() {
		pod, content, err := s.app.Content(ctx)
		s.unread = err
		if err != nil || pod == nil {
			continue
		}
		pvc := s.get(ctx)
		if pvc == nil || pvc.UID != s.uid {
			continue
		}
		first := !s.pods[pod.UID]
		s.pods[pod.UID] = true
		switch {
		case !s.unguarded && s.wrote != "" && !p.descends(content, s.wrote):
			p.broken("a", "PVC %s held what its app had (%s), and now it holds %q", s.key, s.wrote, content)
		case content != "" && !strings.HasPrefix(content, s.key+","):
			p.broken("c", "PVC %s holds another's data: %s", s.key, content)
		}
		heldBack := !s.earlyPod || !s.Env.Testbed.Contract.Promises("gated-start") // nobody can hold back a pod that was there before its PVC
		if first && s.wrote == "" && heldBack && p.mistaken(s, pvc, content) {
			p.broken("d", "the app of %s starts as if its volume were restored, and it holds %q, not the newest backup (%s)", s.key, content, s.good)
		}
		if content == "" {
			content = p.content("initialised by its app", s, "")
			if s.unread = s.app.Put(ctx, pod, content); s.unread != nil {
				continue
			}
			p.env.Evidence("volume", "the app of "+s.key+" found an empty volume, and initialised it", nil)
		} else if s.wrote == "" {
			p.env.Evidence("volume", fmt.Sprintf("the app of %s found on its volume: %s", s.key, content), nil)
		}
		s.wrote = content
	}
}

// read has each app that runs look at its volume. The spec is unknown where one of the volumes cannot be read.
func (p *player) read(ctx context.Context) {
	p.env.Arrange(ctx, "the volumes of all apps read", p.env.Times.Pod, func(ctx context.Context) (await.State, error) {
		p.apps(ctx)
		for _, s := range p.all() {
			if s.unread != nil {
				return await.State{}, fmt.Errorf("the volume of PVC %s: %w", s.key, s.unread)
			}
		}
		return await.Reached(), nil
	})
}

// mistaken says whether a PVC is to have been restored, by its decision, and does not hold what there is to restore.
func (p *player) mistaken(s *subject, pvc *corev1.PersistentVolumeClaim, content string) bool {
	decisions := s.Env.Testbed.Contract.Decisions
	if decisions.Annotation == "" || decisions.NotDecided(policy.DecisionRestore, pvc.Annotations) != "" || s.acceptedAll || s.unguarded || s.good == "" {
		return false
	}
	for _, value := range pvc.Annotations {
		if strings.Contains(value, "nothing") {
			return false
		}
	}
	return !p.descends(content, s.good)
}

// look sees what apps read, and which snapshots there are. It is about invariant b, too. While S3 is down, nobody can see it.
func (p *player) look(ctx context.Context) {
	p.apps(ctx)
	if p.blind {
		return
	}
	for _, s := range p.all() {
		keys := s.Repositories.SnapshotKeys(ctx, s.name)
		if slices.Equal(keys, s.snapshots) {
			continue
		}
		if len(keys) > 0 {
			var ids []string
			held := map[string]string{}
			for _, snapshot := range s.Repositories.Snapshots(ctx, s.name) {
				ids = append(ids, snapshot.ID)
				if !slices.Contains(s.snapshots, snapshot.ID) {
					held[snapshot.ID] = p.judge(ctx, s, snapshot.ID)
				}
			}
			s.newest(ids, held)
		}
		s.snapshots = keys
		if s.goodID != "" && !slices.Contains(keys, s.goodID) {
			p.broken("b/removed", "the last good snapshot of PVC %s (%s) was removed: one took its place that is not of the newest data", s.key, s.good)
		}
	}
}

// readable is about invariant b, too: restic reads the last good snapshot of each PVC, and fails the spec where it cannot. A repository that was
// made anew over another leaves all that was there in its place, and unreadable.
func (p *player) readable(ctx context.Context) {
	for _, s := range p.all() {
		if s.goodID == "" {
			continue
		}
		if content, _ := s.Repositories.SentinelIn(ctx, s.name, s.goodID); content != s.good {
			p.broken("b/overwritten", "the last good snapshot of PVC %s held %q, and now holds %q", s.key, s.good, content)
		}
	}
}

// judge says whether a new snapshot is of the newest data. It returns what it holds.
func (p *player) judge(ctx context.Context, s *subject, id string) (content string) {
	content, has := s.Repositories.SentinelIn(ctx, s.name, id)
	s.backedUp = s.backedUp || p.healing && has && content == s.wrote
	switch {
	case has && !strings.HasPrefix(content, s.key+","):
		p.broken("c", "the repository of PVC %s holds another's data: %s", s.key, content)
	case has && (s.good == "" || p.descends(content, s.good) || s.acceptedAll):
		s.good, s.goodID = content, id
	}
	p.env.Evidence("restic", fmt.Sprintf("a new snapshot of PVC %s holds %q", s.key, content), nil)
	return content
}

// healing is how many hours pass at most when all is well again.
const healing = 3

// heal is the end of a history: everything is well again, every app is to run, and hours pass. It is about invariant e.
func (p *player) heal(ctx context.Context) {
	p.mend(ctx)
	p.healing = true
	p.readable(ctx)
	for range healing {
		for _, s := range p.all() {
			if pvc := s.get(ctx); pvc != nil && s.selects(pvc) && !s.wanted {
				p.scale(ctx, s, true)
			}
		}
		p.schedule(ctx)
		if !slices.ContainsFunc(p.all(), func(s *subject) bool { return p.silent(ctx, s) != "" }) {
			break
		}
	}
	p.read(ctx)
	p.readable(ctx)
	for _, s := range p.all() {
		switch p.silent(ctx, s) {
		case "d":
			p.broken("d", "the app of PVC %s runs, and the PVC still says that it is restored, which it is not: it holds %q", s.key, s.wrote)
		case "e/start":
			p.broken("e/start", "the app of PVC %s does not start, and the PVC does not say why", s.key)
		case "e/backup":
			p.broken("e/backup", "PVC %s is not backed up, and does not say why", s.key)
		}
	}
	p.env.Evidence("seen", "no invariant about data was broken", nil)
}

// mend brings back what is away.
func (p *player) mend(ctx context.Context) {
	p.s3Up(ctx)
	for _, which := range []string{"admission", "background"} {
		p.controller(ctx, which, "is-back")
	}
	p.policy(ctx, true)
	p.secret(ctx, "is-there")
}

// silent is what is the matter with a PVC that does not say so. Empty: nothing.
func (p *player) silent(ctx context.Context, s *subject) string {
	pvc := s.get(ctx)
	if pvc == nil || !s.selects(pvc) || s.missed {
		return ""
	}
	switch {
	case s.terms().Tells(lookedAt(pvc)):
		return ""
	case s.wrote == "":
		return "e/start"
	case p.mistaken(s, pvc, s.wrote):
		return "d"
	case !s.backedUp:
		return "e/backup"
	}
	return ""
}

// selects says whether a PVC is one that the policy is for.
func (s *subject) selects(pvc *corev1.PersistentVolumeClaim) bool {
	return s.terms().Selects(lookedAt(pvc))
}

// terms are those of the contract's that a PVC is looked at by.
func (s *subject) terms() history.Terms {
	contract := s.Env.Testbed.Contract
	d := contract.Decisions
	return history.Terms{Selected: contract.PVC.Metadata(true), Annotation: d.Annotation, Restore: d.Restore, Fresh: d.Fresh, Unknown: d.Unknown}
}

// lookedAt is a PVC as histories look at it: its labels and its annotations.
func lookedAt(pvc *corev1.PersistentVolumeClaim) map[string]any {
	return map[string]any{"metadata": map[string]any{"labels": untyped(pvc.Labels), "annotations": untyped(pvc.Annotations)}}
}

func untyped(values map[string]string) map[string]any {
	all := map[string]any{}
	for k, v := range values {
		all[k] = v
	}
	return all
}
