package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/timing"
)

// Repair takes what Examine has returned, puts back what was recorded, waits until the controllers answer and the policy acts,
// and returns what is not as it was even then. An error says that this could not be seen, or that ctx ended.
func (s *Testbed) Repair(ctx context.Context, damage []Damage) ([]Damage, error) {
	return s.repair(ctx, damage, s.PolicyState == PolicyActing)
}

func (s *Testbed) repair(ctx context.Context, damage []Damage, withPolicy bool) ([]Damage, error) {
	if s.External != nil {
		return nil, ErrNotOurs
	}
	if len(damage) == 0 {
		return nil, nil
	}
	if !s.Ready || s.Platform == nil {
		return damage, nil
	}
	api, err := s.api()
	if err != nil {
		return nil, err
	}
	// What of this fails is told by the examination at its end.
	var problems []error
	problems = append(problems,
		s.endFaults(ctx, damage),
		s.putBack(ctx, api, damage),
		s.restartStuck(ctx, api, damage),
		s.endLeases(ctx, api))
	if withPolicy && slices.ContainsFunc(damage, func(d Damage) bool { return d.kind == policyApplied }) {
		problems = append(problems, s.putPolicyBack(ctx, api))
	}
	var left []Damage
	var unseen error
	waited := func(what, wanted string, err error) {
		switch {
		case err == nil:
		case errors.Is(err, install.ErrUnseen):
			unseen = errors.Join(unseen, fmt.Errorf("%s: wanted %s: %w", what, wanted, err))
		default:
			left = append(left, Damage{What: what, Wanted: wanted, Found: err.Error()})
		}
	}
	for _, namespace := range s.Controllers {
		problems = append(problems, install.DeploymentsReady(ctx, api, namespace, timing.Setup.Repair))
	}
	if ctx.Err() == nil {
		problems = append(problems, install.DriversRegistered(ctx, api, s.Platform.drivers(), timing.Setup.Repair))
	}
	if ctx.Err() == nil {
		waited("VolSync", "it reports on a ReplicationSource", install.VolSyncAnswers(ctx, api, timing.Setup.Repair))
	}
	if withPolicy && ctx.Err() == nil {
		waited("policy "+s.Contract.Name, "it acts on a labelled PVC", s.PolicyActs(ctx, api, func(string, ...any) {}))
	}
	if ctx.Err() != nil {
		return nil, errors.Join(append(problems, ctx.Err())...)
	}
	now, err := s.settled(ctx, withPolicy)
	if err := errors.Join(unseen, err); err != nil {
		return nil, errors.Join(append(problems, err)...)
	}
	left = append(left, now...)
	slices.SortStableFunc(left, byWhat)
	if problem := errors.Join(problems...); problem != nil {
		for i := range left {
			left[i].Found += fmt.Sprintf(" (the repair: %s)", strings.Join(strings.Fields(problem.Error()), " "))
		}
	}
	return left, nil
}

// settled examines until nothing is damaged, or for as long as a controller may take to put things right.
func (s *Testbed) settled(ctx context.Context, withPolicy bool) ([]Damage, error) {
	for until := time.Now().Add(timing.Setup.Repair); ; {
		damage, err := s.examine(ctx, withPolicy)
		if err != nil || len(damage) == 0 || time.Now().After(until) {
			return damage, err
		}
		select {
		case <-ctx.Done():
			return damage, ctx.Err()
		case <-time.After(timing.Setup.ExaminePoll):
		}
	}
}

// endFaults removes the faults that are in force, and leads packets as before.
func (s *Testbed) endFaults(ctx context.Context, damage []Damage) error {
	var problems []error
	if slices.ContainsFunc(damage, func(d Damage) bool { return d.kind == faultLeft }) {
		rules, firewall := s.faults()
		problems = append(problems, rules.HealAll(ctx), firewall.HealAll(ctx))
	}
	if slices.ContainsFunc(damage, func(d Damage) bool { return d.kind == network }) {
		_, err := s.eachNetwork(func(node cluster.Exec, routes []cluster.PodRoute) ([]Damage, error) {
			return nil, cluster.RestoreNetwork(ctx, node, s.Endpoint.Addr.Addr().String(), s.Store.GatewayIP, routes...)
		})
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// putBack applies what was installed and is not as it was, scales deployments, and deletes what was not there.
func (s *Testbed) putBack(ctx context.Context, api client.Client, damage []Damage) error {
	wanted := map[Object]bool{}
	var problems []error
	for _, d := range damage {
		switch d.kind {
		case installed, deployment:
			wanted[d.object.identity()] = true
		case foreign:
			problems = append(problems, install.Remove(ctx, api, []*unstructured.Unstructured{d.object.reference()}))
		}
	}
	if len(wanted) > 0 {
		objects, err := s.Platform.InstalledObjects(func(o *unstructured.Unstructured) bool { return wanted[identity(o)] })
		if err == nil {
			err = applyAsRecorded(ctx, api, objects, s.Platform.Objects)
		}
		problems = append(problems, err)
	}
	for _, d := range damage {
		was, recorded := s.Platform.Deployments[d.What]
		if d.kind != deployment || !recorded {
			continue
		}
		for _, patch := range was.patches() {
			problems = append(problems, api.Patch(ctx, was.Object.reference(), client.RawPatch(types.MergePatchType, patch)))
		}
	}
	return errors.Join(problems...)
}

// patches make of a deployment again what is recorded of it. A selector is taken away first: a merge would keep what was added.
func (d Deployment) patches() (patches [][]byte) {
	if d.Object.Kind == install.Deployment.Kind {
		patches = append(patches, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, d.Replicas))
	}
	selector := func(value string) []byte {
		return fmt.Appendf(nil, `{"spec":{"template":{"spec":{"nodeSelector":%s}}}}`, value)
	}
	patches = append(patches, selector("null"))
	if raw, err := json.Marshal(d.NodeSelector); err == nil && len(d.NodeSelector) > 0 {
		patches = append(patches, selector(string(raw)))
	}
	return patches
}

func (o Object) reference() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(o.kind())
	u.SetNamespace(o.Namespace)
	u.SetName(o.Name)
	return u
}

// applyAsRecorded applies objects. One whose content is another even then has something in it that others own: it is made
// anew.
func applyAsRecorded(ctx context.Context, api client.Client, objects []*unstructured.Unstructured, recorded []Object) error {
	if err := install.Apply(ctx, api, objects, nil); err != nil {
		return err
	}
	damage, err := examineObjects(ctx, api, recorded, other)
	if err != nil {
		return err
	}
	var again []*unstructured.Unstructured
	for _, object := range objects {
		if slices.ContainsFunc(damage, func(d Damage) bool { return d.object == identity(object) }) {
			again = append(again, object)
		}
	}
	if len(again) == 0 {
		return nil
	}
	if err := install.Remove(ctx, api, again); err != nil {
		return err
	}
	return install.Apply(ctx, api, again, nil)
}

func (s *Testbed) putPolicyBack(ctx context.Context, api client.Client) error {
	return applyAsRecorded(ctx, api, s.PolicyObjects(), s.Platform.PolicyObjects)
}

// controllerOf is the namespace of the controller that serves an installed object, which has to start anew where that was
// taken away.
func controllerOf(object Object) string {
	switch {
	case object.Kind != "CustomResourceDefinition":
		return object.Namespace
	case strings.HasSuffix(object.Name, "kyverno.io"):
		return kyvernoNamespace
	}
	return "volsync-system"
}

// restartStuck deletes the pods of controllers that are damaged: they look at what they need when they start, and one that
// failed again and again is started ever later.
func (s *Testbed) restartStuck(ctx context.Context, api client.Client, damage []Damage) error {
	namespaces := map[string]bool{}
	for _, d := range damage {
		if d.kind == installed || d.kind == deployment {
			namespaces[controllerOf(d.object)] = true
		}
	}
	var problems []error
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		if slices.Contains(s.Controllers, namespace) {
			problems = append(problems, api.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0)))
		}
	}
	return errors.Join(problems...)
}

// endLeases deletes the leases that pods hold which are gone: a new pod would wait until they run out, some 15 seconds.
func (s *Testbed) endLeases(ctx context.Context, api client.Client) error {
	var problems []error
	for _, namespace := range s.Controllers {
		leases, pods := &coordinationv1.LeaseList{}, &corev1.PodList{}
		if err := errors.Join(api.List(ctx, leases, client.InNamespace(namespace)), api.List(ctx, pods, client.InNamespace(namespace))); err != nil {
			problems = append(problems, err)
			continue
		}
		for i := range leases.Items {
			holder := leases.Items[i].Spec.HolderIdentity
			if holder == nil || *holder == "" || slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool { return strings.HasPrefix(*holder, pod.Name) }) {
				continue
			}
			problems = append(problems, client.IgnoreNotFound(api.Delete(ctx, &leases.Items[i])))
		}
	}
	return errors.Join(problems...)
}

// MakeWhole examines the platform, without the policy, which is applied anew before it is used, and repairs what is damaged.
// It deletes what a run that was killed left in the cluster. An error says why the testbed cannot be used.
func (s *Testbed) MakeWhole(ctx context.Context) error {
	if s.External != nil {
		return nil
	}
	if !s.Ready || s.Platform == nil {
		return errors.New("its installation never came to its end, or another version of the suite put it up")
	}
	damage, err := s.examine(ctx, false)
	if err != nil {
		return err
	}
	if len(damage) > 0 {
		for _, d := range damage {
			s.Log.Printf("the stack is damaged: %s", d)
		}
		task := s.Log.Task("repairing the stack")
		left, err := s.repair(ctx, damage, false)
		if err == nil && len(left) > 0 {
			var texts []string
			for _, d := range left {
				texts = append(texts, d.String())
			}
			err = fmt.Errorf("it is damaged, and could not be repaired: %s", strings.Join(texts, "; "))
		}
		if task.Done(err) != nil {
			return err
		}
	}
	return s.deleteLeftovers(ctx)
}

// deleteLeftovers deletes the namespaces and probes that a run left which was killed. It does not wait for them to be gone.
func (s *Testbed) deleteLeftovers(ctx context.Context) error {
	api, err := s.api()
	if err != nil {
		return err
	}
	namespaces, err := untilSeen(ctx, "what earlier runs left", func(ctx context.Context) (*corev1.NamespaceList, error) {
		list := &corev1.NamespaceList{}
		return list, api.List(ctx, list)
	})
	if err != nil {
		return err
	}
	deleted := 0
	for i := range namespaces.Items {
		namespace := &namespaces.Items[i]
		ours := namespace.Labels[runs.Label] == s.RunID && namespace.Name != ToolsNamespace || strings.HasPrefix(namespace.Name, install.CanaryPrefix)
		if !ours || namespace.DeletionTimestamp != nil {
			continue
		}
		if err := client.IgnoreNotFound(api.Delete(ctx, namespace)); err != nil {
			return fmt.Errorf("delete namespace %s, which an earlier run left: %w", namespace.Name, err)
		}
		deleted++
	}
	if deleted > 0 {
		s.Log.Printf("deleted %d namespaces that an earlier run left", deleted)
	}
	folders, err := s.leftByDriver(ctx, api)
	if len(folders) > 0 {
		s.Log.Printf("the CSI driver has folders that are of no volume and no snapshot: %s", strings.Join(folders, ", "))
	}
	return err
}
