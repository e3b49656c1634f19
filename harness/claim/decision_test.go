package claim

import (
	"errors"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/verdict"
)

func TestDecide(t *testing.T) {
	start := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	made := func(after float64) []creations.CreatedObject {
		return []creations.CreatedObject{{Name: "data-x", Time: start.Add(time.Duration(after * float64(time.Second)))}}
	}
	for name, c := range map[string]struct {
		err                   error
		healed                time.Time
		destinations, sources []creations.CreatedObject
		blind                 bool
		watched               time.Duration
		want                  verdict.Outcome
	}{
		"restored":                   {destinations: made(0.5), want: verdict.Restore},
		"restored while S3 was down": {destinations: made(0.5), healed: start.Add(20 * time.Second), want: verdict.Restore},
		"restored when S3 was back":  {destinations: made(27), sources: made(1), healed: start.Add(20 * time.Second), want: verdict.LateRestore},
		"backed up only":             {sources: made(1), want: verdict.None},
		"refused":                    {err: errors.New("denied"), want: verdict.Blocked},
		"nothing made":               {watched: time.Minute, want: verdict.Failed},
		"nothing made so far":        {watched: time.Second, want: verdict.Unseen},
		"nothing known":              {blind: true, sources: made(1), watched: time.Minute, want: verdict.Unseen},
	} {
		t.Run(name, func(t *testing.T) {
			s := &situation{name: "fresh", claim: &Claim{Name: "data", CreatedAt: start}, err: c.err, healed: c.healed}
			got := s.decide(c.destinations, c.sources, !c.blind, c.watched, 5*time.Second)
			if got.Outcome != c.want {
				t.Errorf("got %+v, wanted %s", got, c.want)
			}
			back, ok := verdict.Evidence{Kind: verdict.KindOutcome, Data: got.Data()}.Decision()
			if !ok || back != got {
				t.Errorf("as evidence it is %+v, %v", back, ok)
			}
		})
	}
}

func TestSituationIsOfTheNextPVC(t *testing.T) {
	c, _ := claims(t, interceptor.Funcs{})
	s, now := c.situations, time.Now()
	s.decidedOn(&Claim{Name: "data"}, nil) // nobody asked
	c.Situation("fresh", verdict.None, "data")
	s.decidedOn(&Claim{Name: "twin"}, nil)
	s.outageEnded(now) // no outage of this PVC's
	first, second := &Claim{Name: "data", UID: "1"}, &Claim{Name: "data", UID: "2"}
	s.decidedOn(first, nil)
	s.decidedOn(second, nil)
	if row := s.rows[0]; row.claim != first || !row.healed.IsZero() {
		t.Errorf("%+v", row)
	}
	s.outageEnded(now)
	if s.rows[0].healed != now {
		t.Error("the outage does not end")
	}
}

func TestDecisionText(t *testing.T) {
	for name, c := range map[string]struct {
		annotations, labels map[string]string
		want                string
	}{
		"nothing":               {nil, map[string]string{"backup": "hourly"}, ""},
		"Kubernetes'":           {map[string]string{"pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/selected-node": "n"}, nil, ""},
		"a decision":            {map[string]string{"smart-restore/decision": "unknown: HTTP 403"}, nil, "smart-restore/decision: unknown: HTTP 403"},
		"a label":               {nil, map[string]string{"backup": "hourly", "restore": "no"}, "label restore: no"},
		"label changed":         {nil, map[string]string{"backup": "never"}, "label backup: never"},
		"not quite Kubernetes'": {map[string]string{"notkubernetes.io/x": "1"}, nil, "notkubernetes.io/x: 1"},
	} {
		if got := decisionText(c.annotations, c.labels, map[string]string{"backup": "hourly"}); got != c.want {
			t.Errorf("%s: %q, wanted %q", name, got, c.want)
		}
	}
}
