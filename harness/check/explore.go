package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/text"
)

// Setting is what random histories of a policy are played in: the policy, and what its contract says.
func Setting(p *policy.Policy) (history.Given, error) {
	given, place, err := givenOf(p, time.Now())
	if err != nil {
		return history.Given{}, err
	}
	return history.Given{Play: given, Terms: place.terms(), Faults: place.faults()}, nil
}

func (p plot) terms() history.Terms {
	terms := history.Terms{
		Claim: p.claim(""), Selected: p.PVC.Metadata(true), Unselected: p.PVC.Metadata(false),
		PasswordKey: p.BaseSecret.Keys.ResticPassword,
		Bucket:      "s3:" + p.endpoint + "/" + p.S3.Bucket + "/", Paths: map[string]string{},
		Annotation: p.Decisions.Annotation, Restore: p.Decisions.Restore, Fresh: p.Decisions.Fresh, Unknown: p.Decisions.Unknown,
		Accept: p.Override.Annotation, AcceptValue: string(p.Override.Value), StartsEmpty: p.Unknown == policy.StartsEmpty,
		Gates: p.Promises("gated-start"), CatchesUp: p.Promises("catches-up"), Relabels: p.Promises("relabel"),
		Schedule: p.Schedule,
		Retain:   history.Retain{Hourly: p.Retain.Hourly, Daily: p.Retain.Daily, Weekly: p.Retain.Weekly, Monthly: p.Retain.Monthly, Yearly: p.Retain.Yearly},
	}
	for _, namespace := range []string{namespace, elsewhere} { // as the suite makes them
		metadata := map[string]any{"name": namespace, "annotations": map[string]any{"volsync.backube/privileged-movers": "true"}}
		if len(p.NamespaceLabels) > 0 {
			metadata["labels"] = p.NamespaceLabels
		}
		terms.Namespaces = append(terms.Namespaces, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
	}
	for _, namespace := range p.baseSecretNamespaces() {
		terms.Base = append(terms.Base, p.base(namespace))
	}
	for _, claim := range history.PVCs {
		namespace, name, _ := strings.Cut(claim, "/")
		terms.Paths[claim] = strings.TrimSuffix(p.S3.Prefix(namespace, name), "/")
	}
	return terms
}

// lies are the rows of the fault table in which S3 says, to whoever asks as a policy does, what is not so: nobody who believes S3 can know.
var lies = map[string]bool{"404-key": true, "config-gone": true}

// faults are the rows of the fault table, for all PVCs at once.
func (p plot) faults() (all []history.Fault) {
	for _, row := range p.rows() {
		if lies[row.Name] || row.Outcome == outage.OutcomeLied || row.Outcome == outage.OutcomeOlder {
			continue
		}
		f := history.Fault{Name: row.Short(), Unknown: row.Outcome == outage.OutcomeUnknown, Movers: movers(row)}
		switch before := beforeRequests(row); {
		case before != nil:
			f.Outage = *before
		case row.Key == "":
			f.Outage.Rules = row.Rules(row.Name, outage.Paths{Namespace: "/" + p.S3.Bucket + "/"})
		default:
			for i, claim := range history.PVCs {
				namespace, name, _ := strings.Cut(claim, "/")
				repository := "/" + p.S3.Bucket + "/" + p.S3.Prefix(namespace, name)
				f.Outage.Rules = append(f.Outage.Rules, row.Rules(fmt.Sprintf("%s-%d", row.Name, i), outage.Paths{Repository: repository})...)
			}
		}
		all = append(all, f)
	}
	return all
}

// movers is what a row is to VolSync's movers.
func movers(row outage.Fault) history.Sight {
	switch {
	case row.Oracle, row.OnlyUnsigned(), row.Outcome == outage.OutcomeBackup:
		return history.Works
	case row.Outcome == outage.OutcomeNothing:
		return history.Lists
	case row.Outcome == outage.OutcomeLater && len(row.Methods) > 0:
		return history.ReadOnly
	case row.HTTP.Kind == "absent" && row.Key == "" && row.Writes.Kind == "":
		return history.Forgets
	case row.HTTP.Kind == "absent" && row.Key == "":
		return history.NoDisk
	}
	return history.Fails
}

// exploreTest is the test that is the program of random histories.
const exploreTest = "^TestExplore$"

// Explore plays random histories, with what Prepare has compiled. What the simulator says meanwhile is told.
func (k *Kyverno) Explore(ctx context.Context, given history.Given, tell func(history.Message)) error {
	dir, command, err := k.begin(ctx, &given.Play)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	input, err := json.Marshal(given)
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = read.Close() }()
	var said bytes.Buffer
	cmd := command(ctx, exploreTest, pipe)
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GOGC=800") // one history at a time, and much that is soon garbage
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = bytes.NewReader(input), &said, &said, []*os.File{write}
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return err
	}
	done := false
	lines := bufio.NewReader(read)
	for {
		line, ended := lines.ReadBytes('\n')
		if len(line) > 0 {
			var m history.Message
			if err = json.Unmarshal(line, &m); err != nil {
				break
			}
			done = done || m.Done
			tell(m)
		}
		if ended != nil {
			break
		}
	}
	err = errors.Join(err, cmd.Wait())
	if errors.Is(ctx.Err(), context.Canceled) {
		return interrupted(ctx)
	}
	if err = errors.Join(err, ctx.Err()); err != nil || !done {
		return fmt.Errorf("the simulator: %w\n%s", errors.Join(err, map[bool]error{false: errors.New("it came to no end")}[done]), text.FirstLines(said.String(), 20))
	}
	return nil
}
