// Package e2e holds the specs, and nothing else: each proves one requirement of a Smart Restore policy on a real
// cluster. What they are written in is harness/scenario.
package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/smart-restore/conformance/harness/recorder"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

// specTimeout bounds a spec as a whole: on two cores the longest take up to three minutes, and Kubernetes may wait five before it begins with a
// mover's Job (see notBegun in harness/claim). The storm has a bound of its own.
const specTimeout = 10 * time.Minute

// The order in which specs are begun: those that a run's length hangs on, then those that others have to wait for, while
// the former are busy with their backups and need S3 for nothing else.
const (
	longest   = SpecPriority(3) // over a minute and a half, on two cores
	long      = SpecPriority(2) // they wait for a mover or two
	exclusive = SpecPriority(1)
	late      = SpecPriority(-1)
	last      = SpecPriority(-2) // it leaves a busy cluster behind
)

// alone is for specs that change what all share: the policy, Kyverno, VolSync, the node. They run after all others, one at
// a time.
const alone = Serial

func TestConformance(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Smart Restore conformance")
}

// What a spec sees, and how it ends, goes through the recorder: it, and not Ginkgo's state, is what verdicts are made of.
var _ = recorder.Register()

var suite *scenario.Suite

// The testbed is up before the specs' processes start. The first of them prepares what all share; all connect.
var _ = SynchronizedBeforeSuite(func(ctx SpecContext) {
	s, err := scenario.Connect()
	Expect(err).NotTo(HaveOccurred())
	Expect(s.Prepare(ctx)).To(Succeed())
	Expect(s.Close()).To(Succeed())
}, func(ctx SpecContext) {
	var err error
	suite, err = scenario.Connect()
	Expect(err).NotTo(HaveOccurred())
	Expect(suite.ReadClock(ctx)).To(Succeed())
})

// feature, among Prove's decorators, is one of verdict.Features: the spec runs only where the policy promises it.
type feature string

// needs, among Prove's decorators, are what a spec needs of the testbed that not every testbed has (scenario.Needs…). Where it
// is not there the spec does not run, and what it proves stays unknown. They are labels, too: LABELS='!needs-gateway'.
// A spec that is alone breaks what all share: it needs a managed cluster.
type needs []string

// changesBaseSecret is for specs that change the base Secret of their namespace.
var changesBaseSecret = Label(scenario.ChangesBaseSecret)

// changesSecretStore is for specs that change the store of secrets that the contract names: not every contract names one.
var changesSecretStore = Label(scenario.ChangesSecretStore)

// onRequest is for specs that take long and are about a rare event: a whole run leaves them out.
var onRequest = Label(scenario.OnRequest)

// replacesPolicy is for specs about a policy that takes the place of another: not every contract names one.
var replacesPolicy = Label(scenario.ReplacesPolicy)

// judgesPolicy is for specs about what a policy does by itself: a subject without one has nothing to be judged there.
var judgesPolicy = Label(scenario.JudgesPolicy)

// judgesAnEmptyStart is for specs about a volume that started empty in an outage: not every subject starts one.
var judgesAnEmptyStart = Label(scenario.JudgesAnEmptyStart)

// judgesCopies is for specs about the VolumeSnapshots of backups and restores: not every subject makes one.
var judgesCopies = Label(scenario.JudgesCopies)

// judgesMoments is for specs about a backup being of one moment: of a subject that promises none, they only look.
var judgesMoments = Label(scenario.JudgesMoments)

// judgesPopulator is for specs about a restore before the PVC is bound: not every subject restores then.
var judgesPopulator = Label(scenario.JudgesPopulator)

// judgesBackups is for specs that restore nothing: they are for subjects that back up only, too.
var judgesBackups = Label(scenario.JudgesBackups)

// Prove registers the spec of one requirement. Its level, its feature, and its labels among the decorators, can be selected
// with LABELS.
func Prove(id, level, sentence string, body func(context.Context, *scenario.Scenario), decorators ...any) bool {
	requirement := verdict.Requirement{ID: id, Level: level, Sentence: sentence}
	decorators = slices.Clone(decorators) // which specs may share
	var needed needs
	isAlone := slices.Contains(decorators, any(alone))
	if isAlone {
		needed = append(needed, scenario.NeedsPlatform)
	}
	for i, decorator := range decorators {
		switch d := decorator.(type) {
		case needs:
			needed = append(needed, d...)
			decorators[i] = Label()
		case feature:
			if err := verdict.CheckFeature(string(d)); err != nil {
				panic(id + ": " + err.Error())
			}
			requirement.Feature = string(d)
			decorators[i] = Label(string(d))
		}
	}
	return It(id+" "+sentence, append([]any{Label(level), Label(needed...), SpecTimeout(scenario.Scaled(specTimeout))}, append(decorators, func(ctx SpecContext) {
		recorder.Run(ctx, requirement, func(r *recorder.Spec) {
			labels := CurrentSpecReport().Labels()
			if reason := suite.LooksOnly(labels); reason != "" {
				r.LooksOnly(reason)
			} else if reason := suite.NotPromised(labels); reason != "" {
				r.NotPromised(reason)
			}
			if lack := suite.Lacks(needed...); lack != "" {
				r.Unknown("not testable here: " + lack)
			}
			if isAlone {
				// What an earlier spec broke would be blamed on the policy.
				if err := suite.Examine(ctx); err != nil {
					r.SuiteError(err.Error())
					r.Unknown(err.Error())
				}
			}
			s := suite.Start(ctx, id, r)
			r.OnFailure(func(ctx context.Context) {
				dir, err := s.Dump(ctx)
				if err != nil {
					dir = "incomplete: " + err.Error()
				}
				AddReportEntry("dump", dir)
			})
			body(ctx, s)
		})
	})...)...)
}
