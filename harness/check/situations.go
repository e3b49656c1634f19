package check

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
)

// plot is what situations are made of: what the policy under test is about, by its contract, and S3's address.
type plot struct {
	policy.Contract
	endpoint string // the URL
	ca       string // of the endpoint's certificate, PEM; empty: it is http
}

// The names in a situation.
const (
	namespace = "shop"
	elsewhere = "office"
	claimName = "data"
)

// On a situation's clock, where waiting costs nothing.
const (
	// outageMillis is how long S3 is down: longer than any webhook may wait, shorter than Kyverno's own dialer does.
	outageMillis = 20_000
	// afterMillis is how long is looked on when S3 is back, or when nothing more should come.
	afterMillis = 60_000
	// atOnceMillis is within what the background controller is done if S3 has nothing to do with it.
	atOnceMillis = outageMillis
)

// situation is a row of the table: what happens, and what a policy must do then.
type situation struct {
	name        string // of the row
	requirement string // a spec's ID
	wanted      string
	// feature is the one that the requirement is of. Empty: it is everybody's.
	feature string
	play    play.Situation
	// verify reports what is wrong. Each thing that it reports is a finding.
	verify func(*found)
}

// isFor says whether a contract promises what the situation is about: not the base Secret's, where credentials come from a store.
func (s *situation) isFor(c policy.Contract) bool {
	fromStore := c.SecretStore.Named() && strings.HasPrefix(s.requirement, "resilience/base-secret")
	return (s.feature == "" || c.Promises(s.feature)) && !fromStore
}

// situations are all that a policy is tried in.
func situations(p plot) []situation {
	all := []situation{
		{
			name: "no backup", requirement: "core/fresh", wanted: "RS, no RD",
			play:   p.scene(create(p.claim(claimName)), wait(afterMillis), play.Step{Collect: true}),
			verify: func(f *found) { f.admittedInTime(); f.hasSource(atOnceMillis); f.neverRestored(); f.isKept() },
		},
		{
			name: "what is backed up, and where to", requirement: "core/backup", wanted: "RS as promised, to its path",
			play:   p.scene(create(p.claim(claimName)), wait(afterMillis)),
			verify: func(f *found) { f.backsUpAsPromised(); f.repositoryIs(p.endpoint) },
		},
		{
			name: "backup", requirement: "core/restore", wanted: "RD into the PVC, RS",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Collect: true}, play.Step{Restored: true}, wait(afterMillis)),
			verify: func(f *found) {
				f.admittedInTime()
				f.hasDestination(afterMillis)
				f.isKept()
				f.restoresOnce()
				f.repositoryIs(p.endpoint)
				f.hasSource(2*afterMillis + 1000)
				f.isFilled()
			},
		},
		{
			name: "no label", requirement: "core/unlabelled", wanted: "nothing",
			play:   p.scene(p.backup(), create(p.unlabelled()), wait(afterMillis)),
			verify: func(f *found) { f.untouched() },
		},
	}
	for _, row := range p.rows() {
		all = append(all, p.outage(row))
	}
	all = slices.Concat(all, p.safety(), p.hazards(), p.guards(), p.annotations(), p.early(), p.controllers(), p.bystanders(), p.leftovers(), p.told(), p.content(), p.byHand(), p.moments())
	if p.Restores == policy.Always { // that there is a ReplicationDestination says nothing
		for i := range all {
			all[i].wanted = strings.ReplaceAll(all[i].wanted, "no RD", "no restore")
		}
	}
	if p.Unknown != policy.StartsEmpty {
		all = slices.DeleteFunc(all, func(s situation) bool { return slices.Contains(judgesAnEmptyStart, s.requirement) })
	}
	return all
}

// rows are those of the fault table that the endpoint, and the oracle, can have; of no endpoint, all: what there is.
func (p plot) rows() []outage.Fault {
	at, err := endpoint.Parse(p.endpoint)
	return slices.DeleteFunc(outage.All(), func(row outage.Fault) bool {
		return err == nil && (!at.Is(row.Of) || row.Oracle && !p.Oracle.Named())
	})
}

// outage is a row of the fault table. VolSync tries to begin backups in the outage and after it.
func (p plot) outage(row outage.Fault) situation {
	const beforeMovers = 15_000
	s := situation{
		name: strings.TrimPrefix(row.What(), "the ") + " down: " + row.Name, requirement: row.Requirement(), wanted: p.ofTheUnknown(),
		play: p.scene(p.backup(), p.begin(row), create(p.claim(claimName)), wait(beforeMovers), play.Step{Movers: true}, wait(outageMillis-beforeMovers),
			play.Step{Heal: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
	}
	s.verify = func(f *found) {
		if row.Outcome == outage.OutcomeUnknown && p.Unknown != policy.StartsEmpty {
			f.asPromisedOfTheUnknown()
			f.refusedWithWords()
			f.decisionVisible(row.Outcome)
			f.noBackupLetIn()
			return
		}
		f.admittedInTime()
		if row.Outcome == outage.OutcomeLied {
			f.pushesNothingOut()
			return
		}
		f.decisionVisible(row.Outcome)
		switch row.Outcome {
		case outage.OutcomeNothing:
			f.noBackupLetIn()
			f.blindToChanges()
		case outage.OutcomeOlder:
			f.noBackupOfAnOlderSnapshot()
			f.blindToChanges()
		}
		if row.Outcome.Restores() {
			f.hasDestination(atOnceMillis)
			return
		}
		if f.neverRestored(); len(f.made(destination)) == 0 { // a policy may hold one back for the other
			f.hasSource(atOnceMillis)
		}
		if row.Outcome == outage.OutcomeUnknown {
			f.noBackupLetIn()
		}
	}
	switch {
	case row.Outcome == outage.OutcomeNothing:
		s.wanted = "RD, no backup when it found nothing"
		s.play = p.scene(p.backup(), p.begin(row), create(p.claim(claimName)), wait(beforeMovers), play.Step{Restored: true, Said: "No eligible snapshots found"}, wait(outageMillis-beforeMovers), play.Step{Movers: true})
	case row.Outcome == outage.OutcomeOlder:
		s.wanted = "RD, no backup when it found an older one"
		s.play = p.scene(p.backup(), p.begin(row), create(p.claim(claimName)), wait(beforeMovers), play.Step{Restored: true}, wait(outageMillis-beforeMovers), play.Step{Movers: true})
	case row.Outcome.Restores():
		s.wanted = "RD"
	case row.Outcome == outage.OutcomeAbsent:
		s.wanted = "RS, no RD, also later"
	case row.Outcome == outage.OutcomeLied:
		s.wanted = "no backup that pushes the last one out"
		s.play = p.scene(p.backup(), p.begin(row), create(p.claim(claimName)), wait(beforeMovers), create(pod("early")), wait(outageMillis-beforeMovers),
			play.Step{Heal: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis))
	}
	return s
}

// safety are the situations beyond core.
func (p plot) safety() []situation {
	return []situation{
		{
			name: "S3 holds the question, app writes, PVC changes", requirement: "safety/late-restore", wanted: "no RD, also later",
			play: p.scene(p.backup(), p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis),
				annotate("example.com/touched", "yes"), wait(afterMillis), create(pod("late"))),
			verify: func(f *found) { f.neverRestored(); f.podsStart() },
		},
		{
			name: "volume in use is annotated, relabelled, resized", requirement: "safety/live-immunity", wanted: "no RD",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), p.backup(),
				annotate("example.com/touched", "yes"), wait(afterMillis),
				selects(p.PVC, false), wait(afterMillis),
				selects(p.PVC, true), wait(afterMillis),
				play.Step{Update: merge(reference(claimName), map[string]any{"spec": map[string]any{"resources": map[string]any{"requests": map[string]any{"storage": "300Mi"}}}})},
				wait(afterMillis), create(pod("late"))),
			verify: func(f *found) { f.neverRestored(); f.podsStart() },
		},
		{
			name: "a restore is running", requirement: "safety/backup-during-restore", wanted: "no backup mover meanwhile",
			play:   p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupWhileRestoring,
		},
		{
			name: "an app starts before the restore is done", requirement: "safety/no-app-before-restore", wanted: "its pod waits", feature: "gated-start",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), create(pod("early")), play.Step{Restored: true}, wait(afterMillis),
				create(pod("late"))),
			verify: (*found).appWaits,
		},
		{
			name: "an earlier PVC's objects are still there", requirement: "safety/stale-destination", wanted: "RD of its own",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
				play.Step{Delete: p.claim(claimName)}, create(p.claim(claimName)), wait(afterMillis)),
			verify: (*found).hasDestinationOfItsOwn,
		},
		{
			name: "a PVC is deleted, another one stays", requirement: "safety/recreate-race", wanted: "what is the one's goes with it",
			play: p.scene(p.backup(), create(p.claim(claimName)), create(p.claim(claimName+"-2")), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
				play.Step{Delete: p.claim(claimName)}, play.Step{Collect: true}, wait(afterMillis)),
			verify: (*found).goesWithItsClaim,
		},
		{
			name: "PVCs of one name, or nearly", requirement: "safety/isolation", wanted: "a repository each",
			play:   p.scene(create(p.claim(claimName)), create(p.claim(claimName+"-2")), create(inAnother(p.claim(claimName))), wait(afterMillis)),
			verify: func(f *found) { f.repositoriesDiffer() },
		},
		{
			name: "a name of 64 characters", requirement: "safety/long-names", wanted: "RS, or refused", play: p.scene(create(p.claim(longName)), wait(afterMillis), play.Step{Collect: true}),
			verify: (*found).worksOrRefused,
		},
		{
			name: "a name of 63 characters", requirement: "safety/long-names", wanted: "RS", play: p.scene(create(p.claim(longName[1:])), wait(afterMillis), play.Step{Collect: true}),
			verify: (*found).longNameWorks,
		},
		{
			name: "the base Secret comes later", requirement: "resilience/base-secret-late", wanted: "RS, and its Secret then",
			play: play.Situation{Objects: p.namespaces(), Steps: []play.Step{create(p.claim(claimName)), wait(afterMillis), create(p.base(p.baseSecretNamespaces()[0])), wait(afterMillis), {Scan: true}, wait(afterMillis)}},
			verify: func(f *found) {
				f.hasSource(2*afterMillis + 1000)
				f.repositoryIs(p.endpoint)
				f.triedAgain()
			},
		},
		{
			name: "the base Secret had a mistake, Kyverno is late", requirement: "resilience/base-secret-changed", wanted: "the Secret as put right",
			play: play.Situation{Objects: p.namespaces(), Steps: []play.Step{
				{BackgroundOff: true}, create(p.claim(claimName)),
				create(p.mistaken(p.baseSecretNamespaces()[0])), {Update: p.base(p.baseSecretNamespaces()[0])},
				{BackgroundOn: true}, wait(afterMillis),
			}},
			verify: func(f *found) { f.hasSource(afterMillis + 1000); f.repositoryIs(p.endpoint) },
		},
		{
			name: "a PVC is labelled later", requirement: "resilience/relabel", wanted: "RS, no RD, says so", feature: "relabel",
			play:   p.scene(p.backup(), create(p.unlabelled()), wait(afterMillis), selects(p.PVC, true), wait(afterMillis)),
			verify: func(f *found) { f.hasSource(2*afterMillis + 1000); f.neverRestored(); f.saysUndecided() },
		},
		{
			name: "a PVC without a backup is labelled later", requirement: "resilience/relabel", wanted: "RS, backups", feature: "relabel",
			play:   p.scene(create(p.unlabelled()), wait(afterMillis), selects(p.PVC, true), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.hasSource(2*afterMillis + 1000); f.neverRestored(); f.backedUp() },
		},
	}
}

var longName = strings.Repeat("a", 64)

// scene is a situation in namespaces that have what policies need.
func (p plot) scene(steps ...play.Step) play.Situation {
	objects := p.namespaces()
	for _, namespace := range p.baseSecretNamespaces() {
		objects = append(objects, p.base(namespace))
	}
	return play.Situation{Objects: objects, Steps: steps}
}

// namespaces are the situation's, where the policy asks for labels on them.
func (p plot) namespaces() []map[string]any {
	if len(p.NamespaceLabels) == 0 {
		return nil
	}
	labels := map[string]any{}
	for key, value := range p.NamespaceLabels {
		labels[key] = value
	}
	var all []map[string]any
	for _, name := range []string{namespace, elsewhere} {
		all = append(all, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "labels": labels}})
	}
	return all
}

// baseSecretNamespaces are those with a base Secret.
func (p plot) baseSecretNamespaces() []string {
	if p.BaseSecret.Namespace != "" {
		return []string{p.BaseSecret.Namespace}
	}
	return []string{namespace, elsewhere}
}

func create(object map[string]any) play.Step { return play.Step{Create: object} }
func wait(millis int64) play.Step            { return play.Step{WaitMillis: millis} }

// backup puts a repository where the PVC's is to be.
func (p plot) backup() play.Step { return p.backupOf(claimName) }

// backupOf puts a repository where that of a PVC of this name is to be.
func (p plot) backupOf(claim string) play.Step {
	return play.Step{Backup: strings.TrimSuffix(p.S3.Prefix(namespace, claim), "/")}
}

// begin begins an outage.
func (p plot) begin(row outage.Fault) play.Step {
	if before := beforeRequests(row); before != nil {
		return play.Step{Outage: before}
	}
	return play.Step{Outage: &play.Outage{Rules: p.subject().Rules(row.In(p.S3.Marker), row.Name)}}
}

// beforeRequests is the outage of a row in which nobody comes to a request. Nil: they do.
func beforeRequests(row outage.Fault) *play.Outage {
	switch {
	case row.Oracle && (row.Packet != "" || row.NoEndpoints): // to who connects, a Service that leads nowhere refuses
		return &play.Outage{DialOracle: play.Refused}
	case row.Packet != "":
		return &play.Outage{Dial: dialFaults[row.Packet]}
	case row.Before.Kind != "":
		return &play.Outage{Rules: []gateway.Rule{{ID: row.Name, Fault: row.Before}}}
	}
	return nil
}

// subject is whose S3 an outage is of.
func (p plot) subject() outage.Subject {
	return outage.Subject{
		Bucket: p.S3.Bucket, Marker: p.S3.Marker,
		NamespacePrefix: p.S3.NamespacePrefix(namespace, claimName), RepositoryPrefix: p.S3.Prefix(namespace, claimName),
	}
}

// dialFaults is what faults on packets are to somebody who connects.
var dialFaults = map[fault.PacketFault]string{fault.Refused: play.Refused, fault.BlackHole: play.BlackHole, fault.NoRoute: play.NoRoute}

// annotate merges an annotation into the PVC.
func annotate(key string, value any) play.Step {
	return play.Step{Update: merge(reference(claimName), map[string]any{"metadata": map[string]any{"name": claimName, "namespace": namespace, "annotations": map[string]any{key: value}}})}
}

// selects changes what the PVC is selected by.
func selects(by policy.PVC, selected bool) play.Step { return selectsNamed(claimName, by, selected) }

// selectsNamed is selects of a PVC of another name.
func selectsNamed(name string, by policy.PVC, selected bool) play.Step {
	metadata := merge(by.Metadata(selected), map[string]any{"name": name, "namespace": namespace})
	return play.Step{Update: merge(reference(name), map[string]any{"metadata": metadata})}
}

func merge(object, more map[string]any) map[string]any {
	for key, value := range more {
		object[key] = value
	}
	return object
}

func reference(name string) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": map[string]any{"name": name, "namespace": namespace}}
}

func (p plot) claim(name string) map[string]any {
	spec := map[string]any{
		"accessModes": []any{"ReadWriteOnce"}, "resources": map[string]any{"requests": map[string]any{"storage": "256Mi"}},
		"storageClassName": p.class(), // the API server names its default class before any policy sees the PVC
	}
	return merge(reference(name), map[string]any{
		"metadata": p.metadata(name, true),
		"spec":     spec,
	})
}

// metadata is that of a PVC that is selected, or is not.
func (p plot) metadata(name string, selected bool) map[string]any {
	metadata := p.PVC.Metadata(selected)
	for field, values := range metadata { // of a patch, nil says what must not be there
		of := values.(map[string]any)
		maps.DeleteFunc(of, func(_ string, value any) bool { return value == nil })
		if len(of) == 0 {
			delete(metadata, field)
		}
	}
	return merge(metadata, map[string]any{"name": name, "namespace": namespace})
}

func (p plot) unlabelled() map[string]any {
	return merge(p.claim(claimName), map[string]any{"metadata": p.metadata(claimName, false)})
}

func inAnother(object map[string]any) map[string]any {
	object["metadata"].(map[string]any)["namespace"] = elsewhere
	return object
}

// pod is one that uses the PVC.
func pod(name string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": namespace},
		"spec": map[string]any{
			"containers": []any{map[string]any{"name": "app", "image": "app"}},
			"volumes":    []any{map[string]any{"name": "data", "persistentVolumeClaim": map[string]any{"claimName": claimName}}},
		},
	}
}

// baseSecretData is what the base Secret holds, with values that can be told from each other.
func (p plot) baseSecretData() map[string]string {
	data := p.BaseSecret.Filled(p.ca)
	for _, key := range []string{p.BaseSecret.Keys.AccessKey, p.BaseSecret.Keys.SecretKey, p.BaseSecret.Keys.ResticPassword} {
		data[key] = sourceOf(key)
	}
	return data
}

// sourceOf is the value of a key of the base Secret.
func sourceOf(key string) string { return "the base Secret's " + key }

func (p plot) base(namespace string) map[string]any {
	data := map[string]any{}
	for key, value := range p.baseSecretData() {
		data[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	return map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": p.BaseSecret.Name, "namespace": namespace}, "data": data}
}

// mistaken is the base Secret with another restic password.
func (p plot) mistaken(namespace string) map[string]any {
	secret := p.base(namespace)
	secret["data"] = merge(secret["data"].(map[string]any), map[string]any{
		p.BaseSecret.Keys.ResticPassword: base64.StdEncoding.EncodeToString([]byte("not-the-one")),
	})
	return secret
}

// repository is where a PVC's repository must be.
func repository(c policy.Contract, endpoint, namespace, claim string) string {
	return "s3:" + endpoint + "/" + c.S3.Bucket + "/" + strings.TrimSuffix(c.S3.Prefix(namespace, claim), "/")
}
