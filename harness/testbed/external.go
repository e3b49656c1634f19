package testbed

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/images"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/runs"
)

// External is what is different about a testbed on a cluster that was there before: nothing under it is ours. It has no
// container of the node, no gateway before S3 and no audit log.
type External struct {
	Cluster string `json:"cluster"` // as the kubeconfig calls it
	// AgentBinary is on this host. The agent's image is in no registry: pods are of VolSync's image, which the cluster has,
	// and get the agent once they run.
	AgentBinary string `json:"agentBinary"`
}

// agentFolder is where pods of an external testbed have the agent.
const agentFolder = "/smart-restore"

// What a spec may need of a testbed that an attached one does not have.
const (
	// NeedsGateway: S3 can be made to fail, and the requests to it are seen.
	NeedsGateway = "needs-gateway"
	// NeedsPlatform: what all share can be broken: the policy, Kyverno, VolSync, the node.
	NeedsPlatform = "needs-platform"
	// NeedsAgentImage: a pod can be of the agent from its first moment.
	NeedsAgentImage = "needs-agent-image"
	// NeedsSnapshots: volumes can be snapshotted and cloned.
	NeedsSnapshots = policy.NeedsSnapshots
	// NeedsGitOps: Argo CD deploys what the suite commits.
	NeedsGitOps = policy.NeedsGitOps
	// NeedsTwoNodes: there is another node.
	NeedsTwoNodes = policy.NeedsTwoNodes
	// NeedsEarlierKyverno: there is another version of Kyverno.
	NeedsEarlierKyverno = policy.NeedsEarlierKyverno
)

// ExternalLacks is why what specs may need is not there on an external testbed.
var ExternalLacks = map[string]string{
	NeedsGateway:        "the S3 server is not ours, so it cannot be made to fail, and the requests to it are not seen",
	NeedsPlatform:       "the cluster is not ours, so what others use there (the policy, Kyverno, VolSync, the node) is not touched",
	NeedsSnapshots:      "which of the cluster's volumes can be snapshotted is not known",
	NeedsGitOps:         "the cluster is not ours, so nothing is deployed by an Argo CD of its own",
	NeedsTwoNodes:       "whether what is of one node can be on another is not known",
	NeedsEarlierKyverno: "the cluster is not ours, so its Kyverno is not replaced by another version",
	NeedsAgentImage:     "the agent's image is in no registry, so nothing can be seen at the moment in which an app starts",
}

// Lacks is why a testbed does not have what a spec needs; empty: it has.
func (s *Testbed) Lacks(needs ...string) string {
	if s.External == nil {
		return ""
	}
	var reasons []string
	for _, need := range needs {
		reasons = append(reasons, ExternalLacks[need])
	}
	return strings.Join(reasons, "; ")
}

// AttachOptions are what Attach needs. That the cluster may be used, and has what is needed, is for others to say.
type AttachOptions struct {
	Run         *runs.Run
	Cluster     string // as the kubeconfig calls it
	Kubeconfig  string // of the one context to use
	Agent       string // path of the agent's binary
	MoverImage  string // VolSync's, as the cluster has it: with restic and a shell
	Credentials objectstore.Credentials
	Policy      *policy.Policy
	Phases      func(name string) func(error)
	Log         *progress.Log
}

// Attach is a testbed on a cluster that is there. It makes nothing.
func Attach(o AttachOptions) *Testbed {
	s := &Testbed{
		RunID: o.Run.ID, Stack: "external cluster " + o.Cluster, Endpoint: o.Policy.Endpoint, Contract: o.Policy.Contract,
		Cluster: o.Cluster, Kubeconfig: o.Kubeconfig, AgentImage: o.MoverImage,
		Images:      &images.Set{Restic: o.MoverImage},
		Credentials: o.Credentials, CreatedAt: time.Now().UTC(), Phases: o.Phases, Log: o.Log,
		External: &External{Cluster: o.Cluster, AgentBinary: o.Agent},
		Store:    &objectstore.Handle{Server: o.Policy.Endpoint.Address(), Bucket: o.Policy.Contract.S3.Bucket},

		PolicySHA: o.Policy.SHA256, Alerts: string(o.Policy.Alerts), Templates: o.Policy.Templates,
	}
	for _, object := range o.Policy.Objects {
		s.Policy = append(s.Policy, object.Object)
	}
	return s
}

// SeePolicyAct waits until the policy that an external testbed's cluster has acts on a labelled PVC. What the policy itself
// is to blame for is a policy.Finding.
func (s *Testbed) SeePolicyAct(ctx context.Context) error {
	api, err := s.api()
	if err != nil {
		return err
	}
	return s.phase("policy", "policy %s in the cluster", []any{s.Contract.Name}, func(task *progress.Task) error {
		return s.seenActing(ctx, api, task.Status)
	})
}

// NamespacePrefix begins the names of all namespaces of a run on a cluster that is not ours, and so those of its folders in the
// bucket.
func NamespacePrefix(runID string) string { return "sr-" + runID + "-" }

// Namespace is the name of a namespace of the run's.
func (s *Testbed) Namespace(name string) string {
	if s.External == nil {
		return name
	}
	return NamespacePrefix(s.RunID) + name
}

// NamespaceLabels are those of every namespace in which the policy is to act: what its contract wants, and on a cluster
// that is not ours the run's.
func (s *Testbed) NamespaceLabels() map[string]string {
	if s.External == nil {
		return s.Contract.NamespaceLabels
	}
	labels := map[string]string{runs.Label: s.RunID}
	maps.Copy(labels, s.Contract.NamespaceLabels)
	return labels
}

// AgentPath is where pods have the agent.
func (s *Testbed) AgentPath() string {
	if s.External == nil {
		return "/agent"
	}
	return agentFolder + "/agent"
}

// SeedPrefix holds a repository with one snapshot that is copied wherever a spec needs a good backup to be there. No
// namespace can have this name.
func (s *Testbed) SeedPrefix() string {
	if s.External == nil {
		return "_seed/repository/"
	}
	return "_" + NamespacePrefix(s.RunID) + "seed/repository/"
}

// BucketPrefixes begin the keys of everything that the run makes in the bucket of an external testbed.
func (s *Testbed) BucketPrefixes() []string {
	above, _, _ := strings.Cut(string(s.Contract.S3.Path), "{")
	return []string{above + NamespacePrefix(s.RunID), s.SeedPrefix()}
}
