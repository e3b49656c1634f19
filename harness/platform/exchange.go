package platform

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/policy"
)

// Exchange is a policy that is applied beside another, to take its place.
type Exchange struct {
	platform *Platform
	name     string
	leaves   []*unstructured.Unstructured // what only the other has: both may have some of one name, such as roles
	remove   func(context.Context)
	again    func(context.Context) *Exchange
}

// EarlierPolicy applies the policy that this one replaces, beside this one, and waits until it acts. When the spec has ended, this one is
// alone again.
func (p *Platform) EarlierPolicy(ctx context.Context) *Exchange {
	p.needsKyverno()
	e := p.env
	if e.Testbed.Earlier == nil {
		e.Unknownf("the contract names no policy that this one replaces (upgradesFrom)")
	}
	this, earlier := e.Testbed.PolicyObjects(), e.Testbed.EarlierObjects()
	onlyEarlier, onlyThis := policy.Without(earlier, this), policy.Without(this, earlier)
	alone := e.Undo("the policy "+e.Testbed.Contract.Name+", alone", p.inPlaceOf(onlyEarlier, this, p.policyActs))
	beside := func(name, other string) {
		e.Step("the policy %s is applied beside %s", name, other)
	}
	back := func(ctx context.Context) *Exchange {
		e.Must(p.reapply(ctx))
		beside(e.Testbed.Contract.Name, e.Testbed.Earlier.Name)
		return &Exchange{platform: p, name: e.Testbed.Contract.Name, leaves: onlyEarlier, remove: alone}
	}
	e.Do(ctx, func(ctx context.Context) error { return p.apply(ctx, earlier) })
	e.Must(p.earlierActs(ctx))
	beside(e.Testbed.Earlier.Name, e.Testbed.Contract.Name)
	return &Exchange{platform: p, name: e.Testbed.Earlier.Name, leaves: onlyThis, again: back, remove: func(ctx context.Context) {
		e.Do(ctx, func(ctx context.Context) error { return p.remove(ctx, onlyThis) })
		e.Must(p.earlierActs(ctx))
	}}
}

// inPlaceOf applies objects, takes away what is left of those in whose place they are, and waits for that to have its effect.
func (p *Platform) inPlaceOf(left, objects []*unstructured.Unstructured, effect func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := p.apply(ctx, objects); err != nil {
			return err
		}
		if err := p.remove(ctx, left); err != nil {
			return err
		}
		return effect(ctx)
	}
}

// Alone takes away what only the other policy has, and waits until that is gone, and this one acts.
func (x *Exchange) Alone(ctx context.Context) {
	e := x.platform.env
	x.remove(ctx)
	for _, object := range x.leaves {
		e.Arrange(ctx, object.GetKind()+" "+object.GetName()+" gone", e.Times.Gone, e.Gone(object.DeepCopy()))
	}
	e.Step("the policy %s is alone: %d objects that only the other has are gone", x.name, len(x.leaves))
}

// ThisPolicy applies this policy again, beside the earlier one, and waits until it acts.
func (x *Exchange) ThisPolicy(ctx context.Context) *Exchange { return x.again(ctx) }
