package scenario

import (
	"context"
	"errors"
	"fmt"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/platform"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/testbed"
)

// Suite is one process's connection to the testbed.
type Suite struct {
	env        *env.Suite
	ownsBucket bool // the run's prefixes were empty before it
}

// Connect connects to the testbed that the environment names.
func Connect() (*Suite, error) {
	s, err := env.Connect()
	return with(s), err
}

// Open connects to a testbed.
func Open(up *testbed.Testbed, artifacts string) (*Suite, error) {
	s, err := env.Open(up, artifacts)
	return with(s), err
}

func with(s *env.Suite) *Suite {
	if s != nil && s.Testbed.External != nil {
		s.Testbed.Store.Dial = repository.ToolsOf(s).DialFromInside
	}
	return &Suite{env: s}
}

// Close ends the connection.
func (s *Suite) Close() error { return s.env.Close() }

// Prepare makes what all specs share: the pod that looks into repositories, a repository with a good backup to copy from,
// and a testbed without faults or volumes of earlier runs. It is called before any spec; what is there already stays.
func (s *Suite) Prepare(ctx context.Context) error {
	if s.env.Testbed.External == nil { // of one that is external, nothing is left
		if err := errors.Join(s.env.Firewall.HealAll(ctx), s.env.Gateway.HealAll(ctx)); err != nil {
			return err
		}
		if err := platform.PruneVolumes(ctx, s.env); err != nil {
			return err
		}
	}
	tools := repository.ToolsOf(s.env)
	if err := tools.Start(ctx); err != nil {
		return err
	}
	return tools.PrepareSeed(ctx)
}

// PrepareExternal is Prepare, the first time on an external cluster: it refuses a bucket that is not empty where the run would
// write, and only of one that was is anything deleted afterwards.
func (s *Suite) PrepareExternal(ctx context.Context) error {
	tools := repository.ToolsOf(s.env)
	if err := tools.Start(ctx); err != nil {
		return err
	}
	if err := tools.BucketIsOurs(ctx); err != nil {
		return err
	}
	s.ownsBucket = true
	return tools.PrepareSeed(ctx)
}

// LeftInBucket lists what is in the run's own prefixes of the bucket, where PrepareExternal found them empty.
func (s *Suite) LeftInBucket(ctx context.Context) ([]string, error) {
	if !s.ownsBucket {
		return nil, nil
	}
	return repository.ToolsOf(s.env).InBucket(ctx)
}

// EmptyBucket removes all that is in the run's own prefixes of the bucket, where PrepareExternal found them empty, and
// lists what is left.
func (s *Suite) EmptyBucket(ctx context.Context) (left []string, err error) {
	if !s.ownsBucket {
		return nil, nil
	}
	return repository.ToolsOf(s.env).EmptyBucket(ctx)
}

// Start makes the spec's namespace, with what the policy needs in it. What the spec makes is deleted when it has ended.
func (s *Suite) Start(ctx context.Context, id string, report Reporter) *Scenario {
	e := s.env.New(id, report)
	scenario := of(e)
	report.CleanUp("delete what the spec made", e.Times.CleanUp, scenario.finish)
	e.CreateNamespace(ctx)
	return scenario
}

// ReadClock asks the API server for the time: specs date things by its clock.
func (s *Suite) ReadClock(ctx context.Context) error { return s.env.ReadClock(ctx) }

// NotPromised is why the policy's contract does not ask for a spec with these labels; empty: it does.
func (s *Suite) NotPromised(labels []string) string {
	return s.env.Testbed.NotPromised(labels)
}

// LooksOnly is why a spec with these labels, which is run, judges nothing; empty: it judges, or it is not run.
func (s *Suite) LooksOnly(labels []string) string { return s.env.Testbed.LooksOnly(labels) }

// Lacks is why the testbed does not have what a spec needs; empty: it has.
func (s *Suite) Lacks(needs ...string) string { return s.env.Testbed.Lacks(needs...) }

// Examine looks whether all that specs share is as it was when the testbed was ready, and repairs it. The error says what is still
// wrong.
func (s *Suite) Examine(ctx context.Context) error {
	damage, err := s.env.Testbed.Examine(ctx)
	if err == nil && len(damage) > 0 {
		damage, err = s.env.Testbed.Repair(ctx, damage)
	}
	if err == nil && len(damage) > 0 {
		err = fmt.Errorf("the platform is not whole: %v", damage)
	}
	return err
}
