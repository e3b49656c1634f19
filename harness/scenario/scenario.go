// Package scenario is what specs are written in: a namespace with labelled PVCs, apps that write and read real data, backups
// looked at with restic, outages of S3 that are proven on, and proofs that something did not happen. It is a facade: what a spec
// can do is in the packages named after what it is done with (claim, app, repository, s3down, platform). A spec reaches verbs, and
// never a client.
package scenario

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/claim"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/gitops"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/platform"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/s3down"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// What a spec can need of a testbed; see testbed.Testbed.Lacks.
const (
	NeedsGateway    = testbed.NeedsGateway
	NeedsPlatform   = testbed.NeedsPlatform
	NeedsAgentImage = testbed.NeedsAgentImage
	NeedsSnapshots  = testbed.NeedsSnapshots
	NeedsGitOps     = testbed.NeedsGitOps
	NeedsTwoNodes   = testbed.NeedsTwoNodes

	NeedsEarlierKyverno = testbed.NeedsEarlierKyverno
)

// ChangesBaseSecret labels specs that change the base Secret of their namespace: not every policy has one there.
const ChangesBaseSecret = policy.ChangesBaseSecret

// ChangesSecretStore labels specs that change the store of secrets that the contract names: not every contract names one.
const ChangesSecretStore = policy.ChangesSecretStore

// ReplacesPolicy labels specs about a policy that takes the place of another: not every contract names one.
const ReplacesPolicy = policy.ReplacesPolicy

// JudgesPolicy labels specs that judge what a policy does by itself: not every subject has one.
const JudgesPolicy = policy.JudgesPolicy

// JudgesAnEmptyStart labels specs about a volume that started empty because S3 was down: not every subject has one.
const JudgesAnEmptyStart = policy.JudgesAnEmptyStart

// JudgesCopies labels specs about the VolumeSnapshots of backups and restores: not every subject makes one.
const JudgesCopies = policy.JudgesCopies

// JudgesMoments labels specs about a backup being of one moment: of a subject that promises none, they only look.
const JudgesMoments = policy.JudgesMoments

// JudgesPopulator labels specs about a restore before the PVC is bound: not every subject restores then.
const JudgesPopulator = policy.JudgesPopulator

// JudgesBackups labels specs that restore nothing: what is asked of a subject that backs up only.
const JudgesBackups = policy.JudgesBackups

// OnRequest labels specs that take long and are about a rare event: they run where FOCUS or LABELS selects them, and are not part of a
// whole run.
const OnRequest = "on-request"

// AboutAnOracle labels specs about what can be wrong with the service that is asked for S3: not every policy asks one.
const AboutAnOracle = policy.AboutAnOracle

// The controllers that can be switched off.
var (
	KyvernoBackground = platform.KyvernoBackground
	KyvernoAdmission  = platform.KyvernoAdmission
	VolSync           = platform.VolSync
)

// SeedContent is what the snapshot of a good backup holds in the volume's sentinel.
const SeedContent = repository.SeedContent

// Mode is how a PVC's volume may be used.
type Mode = claim.Mode

// Modes other than the usual.
var (
	Block     = claim.Block
	OnePod    = claim.OnePod
	ManyNodes = claim.ManyNodes
)

// What can have been killed, and have left a lock behind.
var (
	KilledBackup = repository.KilledBackup
	KilledPrune  = repository.KilledPrune
)

// Reporter takes what a scenario sees.
type Reporter = env.Reporter

// Listing is what the bucket holds of a repository.
type Listing = objectstore.Listing

// Manifest is what is on a volume.
type Manifest = dataset.Manifest

// App is an app that uses PVCs.
type App = app.App

// Workload is an app whose pods a controller makes.
type Workload = app.Workload

// Application is an Application of Argo CD's.
type Application = gitops.Application

// Claim is a PVC.
type Claim = claim.Claim

// Movers are movers that were at work at some moment.
type Movers = claim.Movers

// Object is an object that a policy made.
type Object = unstructured.Unstructured

// Exchange is one policy beside another, whose place it takes.
type Exchange = platform.Exchange

// Back puts back what was taken from the platform.
type Back = platform.Back

// Scaled is a bound of a whole spec on this machine.
func Scaled(bound time.Duration) time.Duration { return env.Scaled(bound) }

// StormNames are the names of a storm's PVCs.
func StormNames(prefix string, n int) []string { return claim.StormNames(prefix, n) }

// Scenario is one spec's namespace, and what can be done in it.
type Scenario struct {
	*repository.Repositories
	*claim.Claims
	*s3down.S3
	*platform.Platform
	*gitops.GitOps
	Namespace string

	env *env.Env
}

func of(e *env.Env) *Scenario {
	repos := repository.Of(e)
	s3 := s3down.Of(e, repos)
	return put(e, repos, claim.Of(e, repos, s3), s3)
}

func put(e *env.Env, repos *repository.Repositories, claims *claim.Claims, s3 *s3down.S3) *Scenario {
	shared := platform.Of(e)
	return &Scenario{repos, claims, s3, shared, gitops.Of(e, claims, shared), e.Namespace, e}
}

// Sibling is the same spec in another namespace of its own, whose name is the first one's with this at the end.
func (s *Scenario) Sibling(ctx context.Context, suffix string) *Scenario {
	return s.in(s.env.Sibling(ctx, suffix))
}

func (s *Scenario) in(e *env.Env) *Scenario {
	repos := repository.Of(e)
	s3 := s3down.Sibling(s.S3, e, repos)
	return put(e, repos, claim.Sibling(s.Claims, e, repos, s3), s3)
}

// AYearAhead are a PVC's annotations as of a cluster whose clock is a year ahead.
func AYearAhead(annotations claim.Annotations) claim.Annotations {
	return claim.AYearAhead(annotations)
}

// Lookalikes are a name of a PVC in this namespace, a second namespace with a name like this one's, and one of a PVC there:
// joining namespace and PVC name without a reserved separator makes these two collide.
func (s *Scenario) Lookalikes(ctx context.Context) (here string, other *Scenario, there string) {
	before, after, here, there := s.env.Testbed.Contract.Lookalikes()
	return here, s.in(s.env.Beside(ctx, before, after)), there
}

// UnknownWaits says that, by its contract, a PVC is Pending while nobody can know whether there is a backup of it.
func (s *Scenario) UnknownWaits() bool { return s.env.Testbed.Contract.Unknown == policy.Waits }

// UnknownIsRefused says that, by its contract, a PVC is not admitted while nobody can know whether there is a backup of it.
func (s *Scenario) UnknownIsRefused() bool { return s.env.Testbed.Contract.Unknown == policy.IsRefused }

// GatesApps says that, by its contract, the policy holds an app back until the volume is restored.
func (s *Scenario) GatesApps() bool { return s.env.Testbed.Contract.Promises("gated-start") }

// Populates says that, by its contract, a PVC is filled before it is bound.
func (s *Scenario) Populates() bool { return s.env.Testbed.Contract.Promises(verdict.Populator) }

// NeverRestores says that, by its contract, nothing is ever restored.
func (s *Scenario) NeverRestores() bool { return s.env.Testbed.Contract.Restores == policy.Never }

// HasPolicy says that there is a policy, which also acts on a PVC that a controller makes: templates are applied by name.
func (s *Scenario) HasPolicy() bool { return !s.env.Testbed.NoPolicy() }

// SystemNamespaces are those that no policy for PVCs may touch: Kubernetes' and those of each controller that the stack has.
func (s *Scenario) SystemNamespaces() []string { return s.env.Testbed.SystemNamespaces() }

// Step says what the spec is doing: in the terminal, and as evidence.
func (s *Scenario) Step(format string, args ...any) { s.env.Step(format, args...) }

// Failf ends the spec: the requirement does not hold.
func (s *Scenario) Failf(format string, args ...any) { s.env.Failf(format, args...) }

// Unknownf ends the spec: whether the requirement holds could not be seen.
func (s *Scenario) Unknownf(format string, args ...any) { s.env.Unknownf(format, args...) }

// finish records what became of the spec's situations, and deletes what the spec made.
func (s *Scenario) finish(ctx context.Context) error {
	s.RecordDecisions(ctx)
	return s.env.Finish(ctx)
}

// Dump writes everything in the spec's namespaces to the artifacts, and returns the folder.
func (s *Scenario) Dump(ctx context.Context) (string, error) { return s.env.Dump(ctx) }
