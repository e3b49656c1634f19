package testbed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/runs"
)

// PolicyLabel marks, beside the run's label, each object of a policy that is applied to a testbed of ours. The two labels are
// all that is added to a policy: it is removed by them.
const PolicyLabel = "conformance.smart-restore.io/policy"

// PolicyState says what is in the cluster of the policy that was applied last. It is written down before the cluster
// changes: whoever comes after a process that was killed finds what may be there.
type PolicyState string

const (
	// PolicyNone says that no policy is in the cluster.
	PolicyNone PolicyState = ""
	// PolicyRemoving says that Remains are being deleted.
	PolicyRemoving PolicyState = "removing"
	// PolicyApplying says that some, all or none of the objects are in the cluster.
	PolicyApplying PolicyState = "applying"
	// PolicyActing says that all of them are, and that they were seen to act.
	PolicyActing PolicyState = "acting"
)

// ApplyPolicy replaces whatever policies the testbed has by this one and waits until it acts on a labelled PVC. What the
// policy itself is to blame for is a policy.Finding.
func (s *Testbed) ApplyPolicy(ctx context.Context, p *policy.Policy) error {
	api, err := s.api()
	if err != nil {
		return err
	}
	objects, err := s.labelled(slices.Concat(p.Objects, s.oracle(p.Contract)))
	if err != nil {
		return err
	}
	earlier, err := s.earlier(p.Earlier)
	if err != nil {
		return err
	}
	return s.phase("policy", "policy %s", []any{p.Contract.Name}, func(task *progress.Task) error {
		if err := s.removePolicies(ctx, api, p.SHA256, task.Status); err != nil {
			return err
		}
		s.Policy, s.PolicySHA, s.PolicyState, s.Contract = contents(objects), p.SHA256, PolicyApplying, p.Contract
		s.Alerts, s.Templates, s.Earlier = string(p.Alerts), p.Templates, earlier
		if err := s.save(); err != nil {
			return err
		}
		if err := s.makePrerequisites(ctx, api); err != nil {
			return err
		}
		if err := install.Apply(ctx, api, objects, nil); err != nil {
			err = fmt.Errorf("the policy was not accepted: %w", err)
			if install.Refused(err) {
				return found(policy.Accepted, err)
			}
			return err
		}
		if err := s.seenActing(ctx, api, task.Status); err != nil {
			return err
		}
		if s.Platform, err = untilSeen(ctx, "what the policy is in the cluster", func(ctx context.Context) (*Platform, error) {
			return s.withPolicy(ctx, api)
		}); err != nil {
			return err
		}
		s.PolicyState = PolicyActing
		return s.save()
	})
}

func (s *Testbed) save() error {
	if s.Save == nil {
		return nil
	}
	if err := s.Save(); err != nil {
		return fmt.Errorf("write down what is on the testbed: %w", err)
	}
	return nil
}

// labelled are the policy's objects with the labels by which they are removed.
func (s *Testbed) labelled(objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var labelled []*unstructured.Unstructured
	for _, object := range objects {
		labels := maps.Clone(object.GetLabels())
		if labels == nil {
			labels = map[string]string{}
		}
		for label, value := range map[string]string{runs.Label: s.RunID, PolicyLabel: "under-test"} {
			if _, taken := labels[label]; taken {
				return nil, fmt.Errorf("%s %s has the label %s, by which the suite marks what it applies: remove it from the policy", object.GetKind(), object.GetName(), label)
			}
			labels[label] = value
		}
		object = object.DeepCopy()
		object.SetLabels(labels)
		labelled = append(labelled, object)
	}
	return labelled, nil
}

// removePolicies removes every policy but the one of this hash, where that one is whole and alone: those that were written
// down, those with the label, and any policy of Kyverno's that nobody knows of. It returns when nothing of them is left that
// acts.
func (s *Testbed) removePolicies(ctx context.Context, api client.Client, but string, status func(string, ...any)) error {
	present, err := untilSeen(ctx, "which policies are in the cluster", func(ctx context.Context) ([]*unstructured.Unstructured, error) {
		return s.policiesInCluster(ctx, api)
	})
	if err != nil {
		return err
	}
	applied := map[Object]bool{}
	for _, object := range s.Policy {
		applied[identity(&unstructured.Unstructured{Object: object})] = true
	}
	stays := s.PolicySHA == but && s.PolicyState == PolicyActing && len(s.Remains) == 0 &&
		!slices.ContainsFunc(present, func(o *unstructured.Unstructured) bool { return !applied[identity(o)] })
	if stays {
		return nil
	}
	if s.PolicyState != PolicyNone || len(present) > 0 {
		s.Remains = append(s.Remains, s.Policy...)
		s.Policy, s.PolicySHA, s.PolicyState = nil, "", PolicyRemoving
		if err := s.save(); err != nil {
			return err
		}
		var old []*unstructured.Unstructured
		seen := map[Object]bool{}
		for _, object := range append(objectsOf(s.Remains), present...) {
			if id := identity(object); !seen[id] {
				seen[id] = true
				old = append(old, object)
			}
		}
		status("removing %d objects of earlier policies", len(old))
		if err := install.Remove(ctx, api, old); err != nil {
			return err
		}
		status("waiting for Kyverno to forget the one before")
		if err := install.NoPolicyActs(ctx, api); err != nil {
			return err
		}
	}
	s.Remains, s.PolicyState = nil, PolicyNone
	return s.save()
}

// labelledKinds are those of which a policy's objects are looked for by label, beside Kyverno's.
var labelledKinds = []schema.GroupVersionKind{
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicyBinding"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicy"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingAdmissionPolicyBinding"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingAdmissionPolicy"},
	{Group: "admissionregistration.k8s.io", Version: "v1beta1", Kind: "MutatingAdmissionPolicyBinding"},
	{Group: "admissionregistration.k8s.io", Version: "v1beta1", Kind: "MutatingAdmissionPolicy"},
	{Version: "v1", Kind: "ServiceAccount"},
	{Version: "v1", Kind: "ConfigMap"},
	{Version: "v1", Kind: "Secret"},
	{Version: "v1", Kind: "Service"},
	{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"},
}

// policiesInCluster lists what has the policy's label, and all of Kyverno's kinds that a policy is made of, but what was
// installed.
func (s *Testbed) policiesInCluster(ctx context.Context, api client.Client) ([]*unstructured.Unstructured, error) {
	type look struct {
		kind    schema.GroupVersionKind
		options []client.ListOption
	}
	var looks []look
	for _, kind := range labelledKinds {
		looks = append(looks, look{kind, []client.ListOption{client.HasLabels{PolicyLabel}}})
	}
	installed := map[Object]bool{}
	if s.Platform != nil {
		for _, kind := range s.Platform.PolicyKinds {
			looks = append(looks, look{kind: schema.GroupVersionKind(kind)})
		}
		for _, object := range s.Platform.Objects {
			installed[object.identity()] = true
		}
	}
	found := make([][]*unstructured.Unstructured, len(looks))
	group, ctx := newGroup(ctx)
	for i, look := range looks {
		group.Go(func() (err error) {
			found[i], err = metadataOf(ctx, api, look.kind, look.options...)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Concat(found...), func(o *unstructured.Unstructured) bool { return installed[identity(o)] }), nil
}

// metadataOf lists the objects of a kind, without their content; none where the cluster does not have the kind.
func metadataOf(ctx context.Context, api client.Client, kind schema.GroupVersionKind, options ...client.ListOption) ([]*unstructured.Unstructured, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	err := api.List(ctx, list, options...)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, item := range list.Items {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(kind)
		object.SetNamespace(item.Namespace)
		object.SetName(item.Name)
		object.SetUID(item.UID)
		object.SetLabels(item.Labels)
		object.SetDeletionTimestamp(item.DeletionTimestamp)
		objects = append(objects, object)
	}
	return objects, nil
}

// seenActing is PolicyActs, with what the policy itself is to blame for as a policy.Finding.
func (s *Testbed) seenActing(ctx context.Context, api client.Client, status func(string, ...any)) error {
	err := s.PolicyActs(ctx, api, status)
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, install.ErrNotReady):
		return found(policy.Accepted, err)
	case errors.Is(err, install.ErrIdle), errors.Is(err, install.ErrRefuses):
		return found(policy.Acts, err)
	}
	return err
}

// found is a finding of one line.
func found(requirement string, err error) error {
	return &policy.Finding{Requirement: requirement, Text: strings.Join(strings.Fields(err.Error()), " "), Err: err}
}

// EarlierPolicy is the policy that the applied one replaces. It is in the cluster only if a spec has put it there.
type EarlierPolicy struct {
	Name    string           `json:"name"`
	Objects []map[string]any `json:"objects"` // as they are applied, with their labels
}

func (s *Testbed) earlier(of *policy.Earlier) (*EarlierPolicy, error) {
	if of == nil {
		return nil, nil
	}
	objects, err := s.labelled(of.Objects)
	return &EarlierPolicy{Name: of.Name, Objects: contents(objects)}, err
}

// EarlierObjects are the objects of the policy that the applied one replaces, as they are applied.
func (s *Testbed) EarlierObjects() []*unstructured.Unstructured {
	if s.Earlier == nil {
		return nil
	}
	return objectsOf(s.Earlier.Objects)
}

// EarlierActs is PolicyActs of the policy that the applied one replaces.
func (s *Testbed) EarlierActs(ctx context.Context, api client.Client, status func(string, ...any)) error {
	return s.act(ctx, api, s.EarlierObjects(), status)
}

// PolicyActs waits until Kyverno has the applied policy ready and acts on it.
func (s *Testbed) PolicyActs(ctx context.Context, api client.Client, status func(string, ...any)) error {
	return s.act(ctx, api, s.PolicyObjects(), status)
}

func (s *Testbed) act(ctx context.Context, api client.Client, objects []*unstructured.Unstructured, status func(string, ...any)) error {
	canary := "" // the usual one
	if s.External != nil {
		canary = s.Namespace("canary-")
	}
	var templates func(string) ([]*unstructured.Unstructured, error)
	if s.Templates != nil {
		templates = s.templatesFor
	}
	return install.PolicyActs(ctx, api, install.Canary{
		Templates: templates,
		PVCLabels: s.Contract.PVC.Labels(), PVCAnnotations: s.Contract.PVC.Annotations, StorageClass: s.Contract.PVC.StorageClass, NamespacePrefix: canary,
		NamespaceLabels: s.NamespaceLabels(), BaseSecret: s.BaseSecret(), LateSource: s.Contract.BackupSource.Late(),
		Policies: policy.Kyverno(objects), Status: status,
	})
}

// templatesFor is what is applied for a PVC of a namespace in which nothing stays.
func (s *Testbed) templatesFor(namespace string) ([]*unstructured.Unstructured, error) {
	instance, err := s.Templates.For(namespace, "canary", s.baseSecretData())
	if err != nil {
		return nil, err
	}
	objects := instance.Rest()
	if instance.Claim != nil {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(instance.Claim)
		if err != nil {
			return nil, err
		}
		objects = append(objects, &unstructured.Unstructured{Object: content})
	}
	return objects, nil
}

// NoPolicy says that the subject is templates, with no policy that would ask, make or react by itself: the API server's own policies do
// not, and one that is not about PVCs does not do it for them.
func (s *Testbed) NoPolicy() bool {
	return s.Templates != nil && (s.Contract.Companion || len(policy.Kyverno(objectsOf(s.Policy))) == 0)
}

// Asks is who asks S3 whether there is a backup of a PVC, before anything is restored.
func (s *Testbed) Asks() policy.Asker { return s.Contract.Asks(s.NoPolicy()) }

// OnlyMoversAsk says that VolSync's movers are all who ask S3.
func (s *Testbed) OnlyMoversAsk() bool { return s.Asks() == policy.AsksMover }

// Asked is whom Kyverno asks, in words.
func (s *Testbed) Asked() string {
	if s.Asks() == policy.AsksOracle {
		return string(policy.AsksOracle)
	}
	return "S3"
}

// OracleAddress is where the gateway answers for the oracle.
func (s *Testbed) OracleAddress() netip.AddrPort {
	return netip.AddrPortFrom(s.Endpoint.Addr.Addr(), gateway.OraclePort)
}

// oracle are the objects by which a policy reaches the oracle that it asks, if it asks one.
func (s *Testbed) oracle(c policy.Contract) []*unstructured.Unstructured {
	if !c.Oracle.Named() {
		return nil
	}
	return c.Oracle.Objects(s.OracleAddress().Addr())
}

// NotPromised is the reason why a spec with these labels is not run for what is applied. Empty: it is run.
func (s *Testbed) NotPromised(labels []string) string {
	contract := s.Contract
	contract.S3.Endpoint = s.Endpoint.URL // S3_ENDPOINT may have set another
	if s.NoPolicy() {
		contract.Policy = nil
	}
	if reason := contract.NotPromised(labels); reason != "" {
		return reason
	}
	switch {
	case s.External != nil: // what that has is not known: Lacks says so
	case slices.Contains(labels, NeedsSnapshots) && !s.HasSnapshots():
		return fmt.Sprintf("no volume of the stack %s can be snapshotted", s.Stack)
	case slices.Contains(labels, NeedsGitOps) && !s.HasArgoCD():
		return fmt.Sprintf("the stack %s has no Argo CD", s.Stack)
	case slices.Contains(labels, NeedsEarlierKyverno) && s.EarlierKyverno == "":
		return fmt.Sprintf("the stack %s has one version of Kyverno", s.Stack)
	case slices.Contains(labels, NeedsTwoNodes) && len(s.Nodes) < 2:
		return fmt.Sprintf("the stack %s has one node", s.Stack)
	}
	return ""
}

// LooksOnly is why a spec with these labels, which is run, judges nothing: what comes of it where nothing is promised is worth seeing. Empty:
// it judges, or it is not run. On a cluster that others use, it is not run.
func (s *Testbed) LooksOnly(labels []string) string {
	others := slices.DeleteFunc(slices.Clone(labels), func(label string) bool { return label == policy.JudgesMoments })
	if s.External != nil || len(others) == len(labels) || s.NotPromised(others) != "" {
		return ""
	}
	return s.NotPromised(labels)
}

// PolicyObjects are the objects of the applied policy, as they were applied: on a testbed of ours with its labels.
func (s *Testbed) PolicyObjects() []*unstructured.Unstructured {
	return objectsOf(s.Policy)
}

func objectsOf(contents []map[string]any) []*unstructured.Unstructured {
	var objects []*unstructured.Unstructured
	for _, content := range contents {
		objects = append(objects, (&unstructured.Unstructured{Object: content}).DeepCopy())
	}
	return objects
}

func contents(objects []*unstructured.Unstructured) []map[string]any {
	var all []map[string]any
	for _, object := range objects {
		all = append(all, object.Object)
	}
	return all
}
