package testbed

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/timing"
)

// Damage is one thing of the platform that is not as it was recorded.
type Damage struct {
	What   string `json:"what"`
	Wanted string `json:"wanted"`
	Found  string `json:"found"`

	kind   damageKind
	object Object // where the kind is about one
}

func (d Damage) String() string {
	return fmt.Sprintf("%s: wanted %s, found %s", d.What, d.Wanted, d.Found)
}

type damageKind int

const (
	other         damageKind = iota // only time can mend it
	network                         // the node's way to S3, and to nowhere else
	faultLeft                       // a rule of the gateway or the firewall
	deployment                      // object is what is to be run
	installed                       // object was installed
	foreign                         // object was not there
	policyApplied                   // the policy's objects, or their webhooks
)

// newGroup is an error group with a limit that spares the API server.
func newGroup(ctx context.Context) (*errgroup.Group, context.Context) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(12)
	return group, ctx
}

// Examine compares the testbed with what was recorded of it: the controllers and what was installed, the policy with its
// rights and webhooks where it was seen to act, the node, and that no fault is in force. It returns what is not as it was. An
// error says that this could not be seen. Of an external testbed nothing is ours to examine.
func (s *Testbed) Examine(ctx context.Context) ([]Damage, error) {
	return s.examine(ctx, s.PolicyState == PolicyActing)
}

func (s *Testbed) examine(ctx context.Context, withPolicy bool) ([]Damage, error) {
	if s.External != nil {
		return nil, nil
	}
	if !s.Ready || s.Platform == nil {
		return []Damage{{What: "installation", Wanted: "one that came to its end", Found: "one that did not"}}, nil
	}
	api, err := s.api()
	if err != nil {
		return nil, err
	}
	return untilSeen(ctx, "the platform", func(ctx context.Context) ([]Damage, error) { return s.examineOnce(ctx, api, withPolicy) })
}

// untilSeen looks until a look is answered, for as long as what is looked at may be out of sight.
func untilSeen[T any](ctx context.Context, what string, look func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeout(ctx, timing.Setup.Examine)
	defer cancel()
	for {
		seen, err := look(limited)
		if err == nil {
			return seen, nil
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return seen, ctx.Err()
			}
			return seen, fmt.Errorf("wanted to see %s within %s: %w: %w", what, timing.Setup.Examine, install.ErrUnseen, err)
		case <-time.After(timing.Setup.ExaminePoll):
		}
	}
}

func (s *Testbed) examineOnce(ctx context.Context, api client.Client, withPolicy bool) ([]Damage, error) {
	rules, firewall := s.faults()
	looks := []func(context.Context) ([]Damage, error){
		func(ctx context.Context) ([]Damage, error) {
			left, err := rules.Rules(ctx)
			if err != nil || len(left) == 0 {
				return nil, err
			}
			var ids []string
			for _, rule := range left {
				ids = append(ids, rule.ID)
			}
			return []Damage{{What: "fault gateway", Wanted: "no rule in force", Found: strings.Join(ids, ", "), kind: faultLeft}}, nil
		},
		func(ctx context.Context) ([]Damage, error) {
			left, err := firewall.InForce(ctx)
			if err != nil || len(left) == 0 {
				return nil, err
			}
			return []Damage{{What: "node's firewall", Wanted: "no fault in force", Found: strings.Join(left, ", "), kind: faultLeft}}, nil
		},
		func(ctx context.Context) ([]Damage, error) {
			return s.eachNetwork(func(node cluster.Exec, routes []cluster.PodRoute) ([]Damage, error) {
				wrong, err := cluster.CheckNetwork(ctx, node, s.Endpoint.Addr.Addr().String(), s.Store.GatewayIP, routes...)
				if err != nil || len(wrong) == 0 {
					return nil, err
				}
				return []Damage{{What: "node's network", Wanted: strings.Join(wrong, ", "), Found: "not so", kind: network}}, nil
			})
		},
		func(ctx context.Context) ([]Damage, error) { return s.examineNodes(ctx, api) },
		func(ctx context.Context) ([]Damage, error) { return s.Platform.examineDeployments(ctx, api) },
		func(ctx context.Context) ([]Damage, error) {
			return examineObjects(ctx, api, s.Platform.Objects, installed)
		},
		func(ctx context.Context) ([]Damage, error) { return s.Platform.examineWebhooks(ctx, api) },
	}
	if withPolicy {
		looks = append(looks,
			func(ctx context.Context) ([]Damage, error) {
				return examineObjects(ctx, api, s.Platform.PolicyObjects, policyApplied)
			},
			func(ctx context.Context) ([]Damage, error) { return s.Platform.examinePolicyWebhooks(ctx, api) })
	}
	damage := make([][]Damage, len(looks))
	group, ctx := errgroup.WithContext(ctx)
	for i, look := range looks {
		group.Go(func() (err error) {
			damage[i], err = look(ctx)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(damage...)
	slices.SortStableFunc(all, byWhat)
	return all, nil
}

func (s *Testbed) examineNodes(ctx context.Context, api client.Client) ([]Damage, error) {
	nodes := &corev1.NodeList{}
	if err := api.List(ctx, nodes); err != nil {
		return nil, err
	}
	var damage []Damage
	if found := len(nodes.Items); found != len(s.Nodes) {
		damage = append(damage, Damage{What: "cluster", Wanted: fmt.Sprintf("%d nodes", len(s.Nodes)), Found: fmt.Sprint(found)})
	}
	for _, node := range nodes.Items {
		ready := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		if !ready {
			damage = append(damage, Damage{What: "node " + node.Name, Wanted: "ready", Found: "not ready"})
		}
		if node.Spec.Unschedulable {
			damage = append(damage, Damage{What: "node " + node.Name, Wanted: "one that takes pods", Found: "cordoned"})
		}
	}
	return damage, nil
}

func (p *Platform) examineDeployments(ctx context.Context, api client.Client) ([]Damage, error) {
	live, err := p.liveDeployments(ctx, api)
	if err != nil {
		return nil, err
	}
	var damage []Damage
	for _, name := range slices.Sorted(maps.Keys(p.Deployments)) {
		was := p.Deployments[name]
		now, there := live[name]
		found := Damage{What: name, kind: deployment, object: was.Object.identity()}
		switch {
		case !there:
			found.Wanted, found.Found = "one", "none"
		case now.Replicas != was.Replicas:
			found.Wanted, found.Found = fmt.Sprintf("%d replicas", was.Replicas), fmt.Sprint(now.Replicas)
		case !slices.Equal(now.Images, was.Images):
			found.Wanted, found.Found = "images "+strings.Join(was.Images, ", "), strings.Join(now.Images, ", ")
		case !maps.Equal(now.NodeSelector, was.NodeSelector):
			found.Wanted, found.Found = "the node selector "+cmp.Or(labels.Set(was.NodeSelector).String(), "none"), cmp.Or(labels.Set(now.NodeSelector).String(), "none")
		case was.Ready && !now.Ready:
			found.Wanted, found.Found = "ready", "not ready"
		default:
			continue
		}
		damage = append(damage, found)
	}
	return damage, nil
}

func examineObjects(ctx context.Context, api client.Client, wanted []Object, kind damageKind) ([]Damage, error) {
	live, err := liveObjects(ctx, api, wanted)
	if err != nil {
		return nil, err
	}
	var damage []Damage
	for _, object := range wanted {
		found := Damage{What: object.String(), kind: kind, object: object.identity()}
		switch now, there := live[object.identity()]; {
		case !there:
			found.Wanted, found.Found = "one", "none"
		case now.Content != object.Content:
			found.Wanted, found.Found = "as it was applied", "another content"
		default:
			continue
		}
		damage = append(damage, found)
	}
	return damage, nil
}

func (p *Platform) examineWebhooks(ctx context.Context, api client.Client) ([]Damage, error) {
	now, err := foreignWebhooks(ctx, api)
	if err != nil {
		return nil, err
	}
	var damage []Damage
	for _, name := range now {
		if !slices.Contains(p.Webhooks, name) {
			kind, short, _ := strings.Cut(name, " ")
			damage = append(damage, Damage{What: name, Wanted: "none", Found: "one", kind: foreign,
				object: Object{Group: "admissionregistration.k8s.io", Version: "v1", Kind: kind, Name: short}})
		}
	}
	for _, name := range p.Webhooks {
		if !slices.Contains(now, name) {
			damage = append(damage, Damage{What: name, Wanted: "one", Found: "none"})
		}
	}
	return damage, nil
}

func (p *Platform) examinePolicyWebhooks(ctx context.Context, api client.Client) ([]Damage, error) {
	now, err := install.PolicyWebhooks(ctx, api)
	if err != nil {
		return nil, err
	}
	var damage []Damage
	for _, name := range p.PolicyWebhooks {
		if !slices.Contains(now, name) {
			damage = append(damage, Damage{What: "Kyverno's webhook " + name, Wanted: "one", Found: "none", kind: policyApplied})
		}
	}
	return damage, nil
}
