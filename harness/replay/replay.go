// Package replay plays a history of make explore's on the cluster. Its events happen to PVCs, apps, movers and S3 as they are. What apps
// read, and what restic restores, says whether an invariant is broken there, too.
package replay

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/harness/claim"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/platform"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/s3down"
)

// Place is a namespace in which a history is played.
type Place struct {
	Env          *env.Env
	Claims       *claim.Claims
	Repositories *repository.Repositories
	S3           *s3down.S3
	Platform     *platform.Platform
}

// unplayable are the events that no cluster can be asked for in a moment, and why, by what they do and in which way.
var unplayable = map[string]string{
	"create volume":               "a volume of before would have to be kept for it",
	"create data-source":          "it needs a PVC to be cloned from",
	"create kept-volume":          "a volume of before would have to be kept for it",
	"create labelled-later":       "it needs another mutating webhook, which is called after Kyverno's",
	"create refused":              "it needs a quota",
	"strip ":                      "a policy puts back one annotation while the next is taken off",
	"background loses-requests":   "no request can be lost on purpose: a controller that is away finds those that were made meanwhile",
	"killed in-forget":            "no moment in which VolSync forgets snapshots can be chosen",
	"secret has-another-password": "it is never put right again",
	"secret is-empty":             "it is never put right again",
}

// Check says which events cannot be played on a cluster.
func Check(events []history.Event) error {
	for i, e := range events {
		if why := unplayable[e.Do+" "+e.How]; why != "" {
			return fmt.Errorf("event %d, %s, is not played on a cluster: %s", i+1, e.Words(), why)
		}
	}
	return nil
}

// Read reads the events of a history's file, which was checked before.
func Read(file string) ([]history.Event, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var f struct{ Events []history.Event }
	if err := yaml.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return f.Events, Check(f.Events)
}

// Namespaces are those in which the events happen, the first of history.PVCs first.
func Namespaces(events []history.Event) (names []string) {
	for _, key := range history.PVCs {
		namespace, _, _ := strings.Cut(key, "/")
		happens := slices.ContainsFunc(events, func(e history.Event) bool { return strings.HasPrefix(e.PVC, namespace+"/") })
		if !slices.Contains(names, namespace) && (happens || len(names) == 0) {
			names = append(names, namespace)
		}
	}
	return names
}

// Play plays a history in places, by the names that its namespaces have in it, and fails the spec where an invariant is broken.
func Play(ctx context.Context, places map[string]Place, events []history.Event) {
	p := newPlayer(places)
	for i, e := range events {
		p.event = i + 1
		p.env.Step("event %d: %s", i+1, e.Words())
		p.do(ctx, e)
		p.look(ctx)
	}
	p.event = 0
	p.env.Step("all is well again, and every app is to run")
	p.heal(ctx)
}
