package platform

import (
	"context"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/policy"
)

// EarlierKyverno applies the other version of Kyverno that the stack has over the one that was installed, and waits until it acts on the
// policy. What it returns applies that which was installed.
func (p *Platform) EarlierKyverno(ctx context.Context) Back {
	p.needsKyverno()
	e := p.env
	if e.Testbed.EarlierKyverno == "" {
		e.Unknownf("the stack %s has one version of Kyverno", e.Testbed.Stack)
	}
	earlier, err := e.Testbed.EarlierKyvernoObjects()
	e.Must(err)
	installed, err := e.Testbed.KyvernoObjects()
	e.Must(err)
	onlyEarlier := policy.Without(earlier, installed)
	back := e.Undo("the version of Kyverno that was installed", p.inPlaceOf(onlyEarlier, installed, func(ctx context.Context) error {
		if err := p.ready(ctx, env.KyvernoNamespace); err != nil {
			return err
		}
		return p.policyActs(ctx)
	}))
	e.Do(ctx, func(ctx context.Context) error { return p.apply(ctx, earlier) })
	p.KyvernoBack(ctx)
	e.Step("the earlier version of Kyverno is in its place: %d objects were applied", len(earlier))
	return back
}
