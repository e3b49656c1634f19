// Package s3down takes S3, or the oracle that is asked in its place, down in the ways of the fault table, and proves it: from inside the
// cluster it is seen up before, down at the start and at the end, and up again after; and those whom the fault is for are seen to have
// run into it meanwhile.
package s3down

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/probe"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/verdict"
)

// S3 is the S3 server as a spec's namespace and Kyverno see it.
type S3 struct {
	env   *env.Env
	repos *repository.Repositories
	up    *hold
}

// Of is S3 as a spec's namespace sees it.
func Of(e *env.Env, repos *repository.Repositories) *S3 { return &S3{e, repos, &hold{}} }

// Sibling is S3 as another namespace of the same spec as s's sees it.
func Sibling(s *S3, e *env.Env, repos *repository.Repositories) *S3 { return &S3{e, repos, s.up} }

// S3Down runs during while S3 is down in this way for Kyverno and for everything in the spec's namespace. pvc is the PVC whose
// repository is asked for; a good backup must be there. It returns when the outage ended, on the API server's clock.
func (s *S3) S3Down(ctx context.Context, f outage.Fault, pvc string, during func()) (healed time.Time) {
	return s.down(ctx, f, pvc, during, false)
}

// S3DownInUse is S3Down of a PVC that is in use, about which either Kyverno or a mover asks, or both.
func (s *S3) S3DownInUse(ctx context.Context, f outage.Fault, pvc string, during func()) (healed time.Time) {
	return s.down(ctx, f, pvc, during, true)
}

// Begin puts an outage on, for Kyverno and for everything in the namespace, and for the repository of the PVC where the fault is of one.
// What it returns takes it away. That it is on is the gateway's and the firewall's word: nothing is asked through it.
func (s *S3) Begin(ctx context.Context, f outage.Fault, pvc string) (heal func(context.Context)) {
	o := s.inForce(ctx, f, s.env.Namespace+"-"+pvc, pvc, true)
	now := s.env.Undo("S3", o.heal)
	o.arm(ctx)
	return now
}

// inForce is a fault that is yet to be put on, with the ID of its rules.
func (s *S3) inForce(ctx context.Context, f outage.Fault, id, pvc string, either bool) *inForce {
	f = f.In(s.env.Testbed.Contract.S3.Marker)
	return &inForce{S3: s, fault: f, id: id, pvc: pvc, either: either || s.env.Testbed.OnlyMoversAsk(), prober: s.proberFor(ctx, f)}
}

func (s *S3) down(ctx context.Context, f outage.Fault, pvc string, during func(), either bool) (healed time.Time) {
	e := s.env
	o := s.inForce(ctx, f, e.Namespace, pvc, either)
	f = o.fault
	o.findURLs(ctx)
	if f.HoldsForAll() {
		release := s.exclusively(ctx)
		defer func() {
			if o.left { // it would be blamed on whichever policy others try
				s.leave(o.rules())
			}
			release()
		}()
	}
	o.expect("before the outage", o.probe(ctx, outage.AnswerTimeout), f.Up())
	since, err := e.Gateway.Records(ctx, 1<<62, "")
	e.Must(err)
	defer func() { _ = o.heal(ctx) }() // also when the spec panics or fails; what stays is a suite error
	o.arm(ctx)
	first := o.beginProbe(ctx, f.ProbeTimeout())
	if f.Late() { // the probe goes on beside what is done meanwhile
		during()
		o.expect("as the outage begins", <-first, f.Proof)
		o.expect("as the outage ends", o.probe(ctx, outage.SilenceTimeout), f.AtEnd())
	} else {
		o.expect("as the outage begins", <-first, f.Proof)
		during()
		o.expect("as the outage ends", o.probe(ctx, f.ProbeTimeout()), f.AtEnd())
	}
	o.ranInto(ctx, since.LastSeq)
	if err := o.heal(ctx); err != nil {
		e.Unknownf("the fault %s could not be taken away: %v", f.Name, err)
	}
	healed = e.Now()
	if f.NoEndpoints {
		o.settled(ctx, f.Up())
	}
	o.expect("after the outage", o.probe(ctx, outage.AnswerTimeout), f.Up())
	if f.HoldsForAll() {
		s.othersTryAgain(ctx)
	}
	return healed
}

// inForce is a fault in force.
type inForce struct {
	*S3
	fault   outage.Fault
	id, pvc string
	either  bool // it is for Kyverno and for movers
	on      bool // it has been said that the fault is on, and not yet that it is off
	prober  *prober
	urls    map[outage.Target]string
	left    bool         // it could not be taken away
	gone    bool         // it may be that the oracle's Service has no endpoints
	packets bool         // it may be that packets are met by it
	armed   *fault.Armed // nil: no packet fault, or it is not known which
	kyverno []netip.Addr // Kyverno's addresses, where the fault goes by them
}

// findURLs says where each target is.
func (o *inForce) findURLs(ctx context.Context) {
	o.urls = map[outage.Target]string{}
	for target := range o.fault.Proof {
		url, err := o.subject(o.pvc).URL(ctx, target)
		o.env.Must(err)
		o.urls[target] = url
	}
}

// subject is whose S3 an outage is of: a PVC's of this name.
func (s *S3) subject(pvc string) outage.Subject {
	t := s.env.Testbed
	return outage.Subject{
		Endpoint: t.Endpoint, Bucket: t.Store.Bucket,
		NamespacePrefix: s.env.KeyPrefix(), RepositoryPrefix: s.repos.Prefix(pvc),
		Marker:    t.Contract.S3.Marker,
		Oracle:    t.Contract.Oracle.Question(s.env.Namespace, pvc),
		AccessKey: t.Credentials.AccessKey, SecretKey: t.Credentials.SecretKey,
	}
}

// probed is what a round of probes found.
type probed struct {
	results map[outage.Target]probe.Result
	err     error
}

// beginProbe begins a probe of each target that the proof wants, and returns where the results will be.
func (o *inForce) beginProbe(ctx context.Context, timeout time.Duration) <-chan probed {
	done := make(chan probed, 1)
	go func() { done <- o.probe(ctx, timeout) }()
	return done
}

func (o *inForce) probe(ctx context.Context, timeout time.Duration) probed {
	p := probed{results: map[outage.Target]probe.Result{}}
	for target := range o.fault.Proof {
		result, err := o.prober.probe(ctx, target.Method(), o.urls[target], timeout)
		if err != nil {
			p.err = fmt.Errorf("probe %s (%s): %w", o.fault.What(), target, err)
			break
		}
		p.results[target] = result
	}
	return p
}

// expect ends the spec as unknown unless what was found is what the proof wants.
func (o *inForce) expect(when string, p probed, proof outage.Proof) {
	o.env.Must(p.err)
	for target, result := range p.results {
		what := "S3 as seen from inside the cluster"
		switch target {
		case outage.TargetConfig:
		case outage.TargetOracle:
			what = "the oracle as seen from inside the cluster"
		default:
			what += " (" + string(target) + ")"
		}
		found := fmt.Sprintf("%s: %s (HTTP status %d%s) in %.0f ms", when, result.Class, result.Status, redirected(result), result.Millis)
		if !proof[target](result) {
			o.env.Unknownf("the fault %s could not be proven: %s, %s %s", o.fault.Name, what, found, result.Error)
		}
		o.env.Evidence("s3", what+", "+found, nil)
	}
}

func redirected(r probe.Result) string {
	if len(r.Redirects) == 0 {
		return ""
	}
	return fmt.Sprintf(" after %v", r.Redirects)
}

// arm puts the fault in force.
func (o *inForce) arm(ctx context.Context) {
	e := o.env
	var err error
	if o.fault.ByClient() {
		if o.kyverno, err = o.kyvernoAddresses(ctx); err != nil {
			e.Unknownf("the fault %s could not be put on: %v", o.fault.Name, err)
		}
	}
	for _, rule := range o.rules() {
		e.Must(e.Gateway.Put(ctx, rule))
	}
	o.say(true)
	if o.fault.NoEndpoints {
		o.takeEndpoints(ctx)
		return
	}
	if o.fault.Packet == "" {
		return
	}
	at := e.Testbed.Endpoint.Addr
	if o.fault.Oracle {
		at = e.Testbed.OracleAddress()
	}
	o.armPackets(ctx, o.fault.Packet, at)
}

// armPackets puts a fault on packets on their way to an address in force.
func (o *inForce) armPackets(ctx context.Context, what fault.PacketFault, at netip.AddrPort) {
	var err error
	o.packets = true
	if o.armed, err = o.env.Firewall.Arm(ctx, o.id, what, o.clients(), at); err != nil {
		o.env.Unknownf("the fault %s could not be put on: %v", o.fault.Name, err)
	}
}

// clients are those whom a fault is for that goes by who asks.
func (o *inForce) clients() []netip.Addr {
	return append([]netip.Addr{o.prober.address}, o.kyverno...)
}

// oracle is from where the oracle asks S3.
func (o *inForce) oracle() netip.Addr { return o.env.Testbed.OracleAddress().Addr() }

// rules are what the gateway is told.
func (o *inForce) rules() []gateway.Rule {
	subject := o.subject(o.pvc)
	if o.fault.Before.Kind != "" {
		subject.Clients = o.clients()
		if o.env.Testbed.Asks() == policy.AsksOracle {
			subject.Clients = append(subject.Clients, o.oracle())
		}
	}
	return subject.Rules(o.fault, o.id)
}

// heal takes the fault away. It can be called again, and after ctx has ended. A fault that stays is the suite's error: it may hold
// for all of Kyverno, and other specs would meet it.
func (o *inForce) heal(ctx context.Context) error {
	err := o.takeAway(ctx, o.fault.Name, func(ctx context.Context) (err error) {
		for _, rule := range o.rules() {
			err = errors.Join(err, o.env.Gateway.Heal(ctx, rule.ID))
		}
		if o.gone {
			err = errors.Join(err, o.setEndpoints(ctx, true))
		}
		switch {
		case o.armed != nil:
			err = errors.Join(err, o.armed.Heal(ctx))
		case o.packets: // half put on: no other spec can have one now
			err = errors.Join(err, o.env.Firewall.HealAll(ctx))
		}
		return err
	})
	o.left = err != nil
	o.gone = o.gone && err != nil
	if err == nil && o.on {
		o.say(false)
		o.env.OutageEnded()
	}
	return err
}

// takeAway takes a fault away, also after ctx has ended, and tries again while that fails.
func (s *S3) takeAway(ctx context.Context, name string, heal func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.env.Times.Heal)
	defer cancel()
	for {
		err := heal(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			s.env.SuiteError(fmt.Sprintf("the fault %s could not be taken away: %v", name, err))
			return err
		case <-time.After(s.env.Times.PollMax):
		}
	}
}

func (o *inForce) say(on bool) {
	o.on = on
	o.faultIs(o.fault.What(), o.fault.Name, o.fault.Sentence, on)
}

// faultIs records that a fault of S3 or of the oracle is in force, or is no more.
func (s *S3) faultIs(what, name, sentence string, on bool) {
	text := "from now on " + what + " is " + sentence
	if !on {
		text = what + " is no longer " + sentence
	}
	s.env.Evidence(verdict.KindFault, text, map[string]any{"fault": name, "on": on})
}

// prober is where S3 is probed from, inside the cluster.
type prober struct {
	env     *env.Env
	in      podexec.Container
	address netip.Addr // only of a pod of the spec's own
}

// proberFor finds a prober: the pod that all specs share, unless the fault goes by the prober's own address.
func (s *S3) proberFor(ctx context.Context, f outage.Fault) *prober {
	if !f.ByClient() {
		return &prober{env: s.env, in: repository.ToolsOf(s.env.Suite).Agent()}
	}
	pod := app.StartTool(ctx, s.env, app.Pod(s.env, "prober", nil))
	return &prober{env: s.env, in: app.ContainerOf(pod), address: pod.IP(ctx)}
}

// probe probes a URL.
func (p *prober) probe(ctx context.Context, method, url string, timeout time.Duration) (result probe.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout+p.env.Times.Probe)
	defer cancel()
	command := podexec.ByAgent(p.env.Testbed.AgentPath(), "probe", "--method", method, "--url", url, "--timeout", timeout.String(), "--follow")
	reply, err := p.env.Pods.Run(ctx, p.in, command)
	if err != nil {
		return result, err
	}
	if reply.ExitCode != 0 {
		return result, fmt.Errorf("exit code %d: %s", reply.ExitCode, reply.Stderr)
	}
	return result, json.Unmarshal(reply.Stdout, &result)
}

// RequestsUpTo are the requests about what is the namespace's, of which the last is one of the suite's own, from inside the cluster, about the
// repository of a PVC of this name. So what is not among them was not asked before. The spec is unknown where the gateway's log does not have it.
func RequestsUpTo(ctx context.Context, s *S3, pvc string) gateway.RecordsPage {
	e, target := s.env, outage.TargetConfig
	before, err := e.Gateway.Records(ctx, 1<<62, "")
	e.Must(err)
	url, err := s.subject(pvc).URL(ctx, target)
	e.Must(err)
	own := &prober{env: e, in: repository.ToolsOf(e.Suite).Agent()}
	_, err = own.probe(ctx, target.Method(), url, outage.AnswerTimeout)
	e.Must(err)
	page, err := e.Gateway.Records(ctx, 0, s.repos.NamespacePath())
	e.Must(err)
	if !slices.ContainsFunc(page.Records, func(r gateway.Record) bool {
		return r.Seq > before.LastSeq && r.UserAgent == probe.UserAgent && repository.IsAbout(r, s.repos, pvc)
	}) {
		e.Unknownf("the gateway's log does not have a request that the suite has just sent about PVC %s: that there is no other in it says nothing", pvc)
	}
	return page
}

// kyvernoAddresses lists the addresses of Kyverno's pods.
func (s *S3) kyvernoAddresses(ctx context.Context) ([]netip.Addr, error) {
	pods := &corev1.PodList{}
	if err := s.env.API.List(ctx, pods, client.InNamespace(env.KyvernoNamespace)); err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, pod := range pods.Items {
		if pod.Status.Phase != corev1.PodRunning {
			continue
		}
		address, err := netip.ParseAddr(pod.Status.PodIP)
		if err != nil {
			return nil, fmt.Errorf("pod %s: %w", pod.Name, err)
		}
		addresses = append(addresses, address)
	}
	if len(addresses) == 0 && !s.env.Testbed.NoPolicy() {
		return nil, fmt.Errorf("no pod runs in namespace %s", env.KyvernoNamespace)
	}
	return addresses, nil
}

// ranInto is the positive control of an outage: those whom the fault is for asked about the PVC and met it.
func (o *inForce) ranInto(ctx context.Context, since int64) {
	e, asks := o.env, o.env.Testbed.Asks()
	if o.armed != nil && (asks == policy.AsksKyverno || o.fault.Oracle) { // others meet an outage of S3's at the gateway
		o.metByPackets(ctx)
		return
	}
	if o.fault.Before.Kind != "" && asks != policy.AsksMover {
		o.metBefore(ctx, since)
		return
	}
	about := o.repos.Path(o.pvc)
	if o.fault.Bucket { // and it may have asked for the marker, which nobody else does meanwhile
		about = ""
	}
	page, err := e.Gateway.Records(ctx, since, about)
	e.Must(err)
	who, movers := asks, o.fault.Outcome.ByMovers()
	switch {
	case o.fault.Oracle:
		who = policy.AsksKyverno
	case o.either:
		who = policy.AsksKyverno + " or " + policy.AsksMover
		if asks == policy.AsksOracle {
			who = policy.AsksOracle + " or " + policy.AsksMover
		}
	case movers:
		who = policy.AsksMover
	}
	for _, record := range page.Records {
		if outage.IsRule(record.Rule, o.id) && record.UserAgent != probe.UserAgent && (o.either || movers == (record.Auth == gateway.AuthAWS4)) {
			e.Evidence("s3", fmt.Sprintf("%s ran into the outage: %s %s from %s got %d", who, record.Method, record.Path, record.Client, record.Status), nil)
			return
		}
	}
	if page.Dropped > 0 {
		e.Unknownf("the gateway has forgotten %d requests: whether %s ran into the outage is not known", page.Dropped, who)
	}
	e.Unknownf("%s sent no request to %s during the outage (the gateway saw %d others), so the outage did not test the policy", who, o.fault.What(), len(page.Records))
}

// metByPackets is the positive control of a fault on packets.
func (o *inForce) metByPackets(ctx context.Context) {
	e := o.env
	attempts, err := o.armed.Attempts(ctx)
	e.Must(err)
	var total uint64
	for _, address := range o.kyverno {
		total += attempts[address]
	}
	if total == 0 {
		e.Unknownf("Kyverno sent nothing to %s during the outage, so the outage did not test the policy", o.fault.What())
	}
	e.Evidence("s3", fmt.Sprintf("%d packets with which Kyverno opens a connection or asks %s ran into the outage", total, o.fault.What()), nil)
}

// metBefore is the positive control of a fault that is met before there is a request.
func (o *inForce) metBefore(ctx context.Context, since int64) {
	e := o.env
	page, err := e.Gateway.Records(ctx, since, "")
	e.Must(err)
	who, addresses := e.Testbed.Asks(), o.kyverno
	if who == policy.AsksOracle {
		addresses = []netip.Addr{o.oracle()}
	}
	met := 0
	for _, r := range page.Records {
		theirs := slices.ContainsFunc(addresses, func(a netip.Addr) bool { return a.String() == hostOf(r) })
		if theirs && outage.IsRule(r.Rule, o.id) && (r.Method == gateway.MethodTLS || r.Method == gateway.MethodDNS) {
			met++
		}
	}
	switch {
	case met > 0:
		e.Evidence("s3", fmt.Sprintf("%s ran into the outage %d times, before it could ask S3", who, met), nil)
	case page.Dropped > 0:
		e.Unknownf("the gateway has forgotten %d requests: whether %s ran into the outage is not known", page.Dropped, who)
	default:
		e.Unknownf("%s neither asked for S3's name nor connected to it during the outage, so the outage did not test the policy", who)
	}
}

// MoverAsks waits until a mover has run into the outage that the spec is in, about a PVC of this name, where nobody else asks.
func (s *S3) MoverAsks(ctx context.Context, pvc string, since time.Time) {
	e := s.env
	e.Arrange(ctx, "a mover that runs into the outage of PVC "+pvc, e.Times.Mover, func(ctx context.Context) (await.State, error) {
		page, err := e.Gateway.Records(ctx, 0, s.repos.Path(pvc))
		for _, r := range page.Records {
			if outage.IsRule(r.Rule, e.Namespace) && r.Auth == gateway.AuthAWS4 && r.UserAgent != probe.UserAgent && r.Time.After(since) {
				return await.Reached(), nil
			}
		}
		return await.NotYet("of %d requests none is a mover's", len(page.Records)), err
	})
}

// SlowS3 lets all that the spec's namespace moves to and from S3 share this many kilobytes a second, until the
// returned function is called. The spec is unknown if it stays slow then: what follows would be blamed on the policy.
func (s *S3) SlowS3(ctx context.Context, kilobytesPerSecond int64) (heal func()) {
	return s.healed("S3 is still slow", s.putFault(ctx, "slow", fmt.Sprintf("slow, %d kB/s for the namespace", kilobytesPerSecond), gateway.Rule{
		PathPrefix: s.repos.NamespacePath(),
		Fault:      gateway.Fault{Kind: "throttle", KilobytesPerSecond: kilobytesPerSecond},
	}))
}

// HoldRestores keeps every restore of a PVC from ending, until the returned function is called: S3 sends the data of its backups at a
// crawl, so that restic never gives up a reply that stands still. A backup meanwhile reads next to nothing of them. The spec is unknown if
// it stays so then.
func (s *S3) HoldRestores(ctx context.Context, pvc string) (heal func()) {
	return s.healed("restores are still held", s.putFault(ctx, "hold-restores-"+pvc, "holding restores of PVC "+pvc, gateway.Rule{
		PathPrefix: s.repos.Path(pvc) + "data/", Methods: []string{http.MethodGet},
		Fault: gateway.Fault{Kind: "throttle", KilobytesPerSecond: 20},
	}))
}

// healed takes a fault away, and ends the spec as unknown if it stays, with these words. That is said when it is first called; the second
// time, the spec has ended.
func (s *S3) healed(stays string, takeAway func() error) (heal func()) {
	called := false
	return func() {
		first := !called
		called = true
		if err := takeAway(); err != nil && first {
			s.env.Unknownf("%s: %v", stays, err)
		}
	}
}

// HoldBackups keeps every backup of a PVC from ending, until the returned function is called: S3 does not answer to
// the last that a mover writes, the snapshot. A restore meanwhile finds the snapshots that were there before.
func (s *S3) HoldBackups(ctx context.Context, pvc string) (release func()) {
	takeAway := s.putFault(ctx, holdBackups+pvc, "holding new snapshots of PVC "+pvc, gateway.Rule{
		PathPrefix: s.repos.Path(pvc) + "snapshots/", Methods: []string{http.MethodPut},
		Fault: gateway.Fault{Kind: "hang", OnHeal: "answer"},
	})
	return func() { _ = takeAway() } // what is left of it is said, and nothing of the spec follows
}

const holdBackups = "hold-backups-" // and the PVC: several may be held at a time

// BackupHeld waits until HoldBackups holds a backup of the PVC: its mover has read all, and is at work.
func (s *S3) BackupHeld(ctx context.Context, pvc string) {
	s.env.Arrange(ctx, "a backup of PVC "+pvc+" at its end, held", s.env.Times.Mover, func(ctx context.Context) (await.State, error) {
		held, err := s.held(ctx, s.repos.Path(pvc)+"snapshots/", holdBackups+pvc)
		return await.ReachedIf(len(held) > 0, "none is"), err
	})
}

// HoldQuestions gives no answer to whoever asks about a PVC's repository without credentials, as Kyverno does, until the returned
// function is called: S3 does not or, where that is asked, the oracle.
func (s *S3) HoldQuestions(ctx context.Context, pvc string) (release func()) {
	rule := gateway.Rule{PathPrefix: s.repos.Path(pvc), Auth: []string{gateway.AuthNone}, Fault: gateway.Fault{Kind: "hang", OnHeal: "answer"}}
	if s.env.Testbed.Asks() == policy.AsksOracle {
		rule.To, rule.Auth = gateway.ToOracle, nil
	}
	return s.healed("S3 still gives no answer", s.putFault(ctx, holdQuestions, "holding every question without credentials about PVC "+pvc, rule))
}

const holdQuestions = "hold-questions"

// WhoAsks says the address of whoever HoldQuestions holds at this moment; empty: nobody.
func (s *S3) WhoAsks(pvc string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		held, err := s.held(ctx, s.repos.Path(pvc), holdQuestions)
		if err != nil || len(held) == 0 {
			return "", err
		}
		return hostOf(held[0]), nil
	}
}

// held are the requests about paths that begin so that a fault of putFault holds at this moment.
func (s *S3) held(ctx context.Context, about, name string) (held []gateway.Record, err error) {
	page, err := s.env.Gateway.Records(ctx, 0, about)
	for _, r := range page.Records {
		if r.InFlight && r.Rule == s.env.Namespace+"-"+name {
			held = append(held, r)
		}
	}
	return held, err
}

// Init is a mover that makes a repository.
type Init struct{ mover, key string }

// HoldInits keeps movers from making a repository for a PVC, until the returned function is called: S3 does not answer to a key, the first
// that restic init writes, after all that it asks. Whoever is held makes a repository whatever others do meanwhile.
func (s *S3) HoldInits(ctx context.Context, pvc string) (release func()) {
	takeAway := s.putFault(ctx, holdInits, "holding every new key for PVC "+pvc, gateway.Rule{
		PathPrefix: s.repos.Path(pvc) + keys, Methods: []string{http.MethodPut}, Auth: []string{gateway.AuthAWS4},
		Fault: gateway.Fault{Kind: "hang", OnHeal: "answer"},
	})
	return func() { _ = takeAway() }
}

const (
	holdInits = "hold-inits"
	keys      = "keys/"
)

// InitsHeld are the movers that HoldInits holds at this moment, in the order in which restic tries their keys.
func (s *S3) InitsHeld(ctx context.Context, pvc string) (held []Init, err error) {
	all, err := s.held(ctx, s.repos.Path(pvc)+keys, holdInits)
	for _, r := range all {
		held = append(held, Init{hostOf(r), r.Path})
	}
	slices.SortFunc(held, func(a, b Init) int { return strings.Compare(a.key, b.key) })
	return held, err
}

// OneOverTheOther lets the movers that HoldInits holds, by release, make one repository over the other: the last config is of the mover
// whose key restic tries last. So restic opens the repository by a key that does not fit the config. In any other order, it is luck
// whether it can be read. The spec is unknown unless each wrote its config so.
func (s *S3) OneOverTheOther(ctx context.Context, pvc string, inits []Init, release func()) {
	if len(inits) < 2 {
		release()
		return
	}
	e, config := s.env, s.repos.Path(pvc)+"config"
	last := inits[len(inits)-1]
	since, err := e.Gateway.Records(ctx, 1<<62, "")
	e.Must(err)
	letLast := s.putFault(ctx, "hold-config", "holding the config of the mover at "+last.mover, gateway.Rule{
		PathPrefix: config, Methods: []string{http.MethodPut}, Clients: []string{last.mover},
		Fault: gateway.Fault{Kind: "hang", OnHeal: "answer"},
	})
	wrote := func(of []Init, want string, is func(gateway.Record) bool) {
		e.Arrange(ctx, want, e.Times.Mover, func(ctx context.Context) (await.State, error) {
			page, err := e.Gateway.Records(ctx, since.LastSeq, config)
			seen := map[string]bool{}
			for _, r := range page.Records {
				if r.Method == http.MethodPut && is(r) {
					seen[hostOf(r)] = true
				}
			}
			for _, init := range of {
				if !seen[init.mover] {
					return await.NotYet("the mover at %s has not", init.mover), err
				}
			}
			return await.Reached(), err
		})
	}
	answered := func(r gateway.Record) bool { return !r.InFlight && r.Status != 0 }
	release()
	wrote(inits[:len(inits)-1], "a config written by each mover but the last", answered)
	wrote(inits[len(inits)-1:], "a config from the last mover", func(r gateway.Record) bool { return r.InFlight })
	e.Must(letLast())
	wrote(inits[len(inits)-1:], "the config of the last mover written over that", answered)
	e.Evidence("s3", fmt.Sprintf("%d movers, told that there is no repository of PVC %s, each made one: the config is of the one whose key comes last", len(inits), pvc), nil)
}

// hostOf is the address of whoever sent a request.
func hostOf(r gateway.Record) string {
	client, err := netip.ParseAddrPort(r.Client)
	if err != nil {
		return r.Client
	}
	return client.Addr().Unmap().String()
}

// putFault puts a fault of the spec's own in force until the returned function is called, which may be done twice: as soon
// as it can, and when the spec ends.
func (s *S3) putFault(ctx context.Context, name, sentence string, rule gateway.Rule) (heal func() error) {
	rule.ID, rule.TTLSeconds = s.env.Namespace+"-"+name, outage.TTLSeconds
	s.env.Must(s.env.Gateway.Put(ctx, rule))
	s.faultIs("S3", name, sentence, true)
	on := true
	return func() error {
		err := s.takeAway(ctx, name, func(ctx context.Context) error { return s.env.Gateway.Heal(ctx, rule.ID) })
		if err == nil && on {
			s.faultIs("S3", name, sentence, false)
			on = false
		}
		return err
	}
}

// Packet faults hold for Kyverno as a whole. A file lock keeps them apart from the moments in which other specs, in
// other processes, need Kyverno to reach S3. Whoever waits for it waits in a queue, a second lock: else an outage could wait for
// ever for a moment in which no spec needs S3.
const (
	lockFile  = "outage.lock"
	queueFile = "outage.queue"
	leftFile  = "outage.left" // is there while a fault may be in force that could not be taken away; it has the IDs of the gateway's rules
)

// leave notes that a fault may be in force still.
func (s *S3) leave(rules []gateway.Rule) {
	var ids []string
	for _, rule := range rules {
		ids = append(ids, rule.ID)
	}
	if err := os.WriteFile(s.env.SharedFile(leftFile), []byte(strings.Join(ids, "\n")), 0o600); err != nil {
		s.env.SuiteError(fmt.Sprintf("that a fault is left could not be noted: %v", err))
	}
}

// nothingLeft takes away what an earlier outage left, and says whether it could. Whoever calls it has the lock.
func (s *S3) nothingLeft(ctx context.Context) error {
	file := s.env.SharedFile(leftFile)
	ids, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.env.Firewall.HealAll(ctx)
	}
	for _, id := range strings.Fields(string(ids)) {
		err = errors.Join(err, s.env.Gateway.Heal(ctx, id))
	}
	if s.env.Testbed.Contract.Oracle.Named() {
		err = errors.Join(err, s.setEndpoints(ctx, true))
	}
	if err != nil {
		return fmt.Errorf("a fault of an earlier outage is left, and holds for Kyverno: %w", err)
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) { // another that shares the lock may have been quicker
		return err
	}
	return nil
}

// hold is a spec's part of the lock. It is taken once for all that need it at a time: a spec that took it twice would wait for
// an outage that waits for the spec.
type hold struct {
	mu      sync.Mutex
	holders int
	lock    *flock.Flock
	down    bool // the spec has an outage of its own that holds for all
}

// Up waits until no packet fault is in force, and keeps it so until the returned function is called.
func (s *S3) Up(ctx context.Context) (done func()) {
	s.up.mu.Lock()
	defer s.up.mu.Unlock()
	if s.up.holders == 0 {
		s.up.lock = s.queue(ctx, (*flock.Flock).TryRLockContext)
	}
	s.up.holders++
	return func() {
		s.up.mu.Lock()
		defer s.up.mu.Unlock()
		if s.up.holders--; s.up.holders == 0 {
			_ = s.up.lock.Close()
		}
	}
}

// WhileS3IsUp does something that needs Kyverno to reach S3, while no other spec's outage keeps it from that.
func (s *S3) WhileS3IsUp(ctx context.Context, do func()) {
	defer s.Up(ctx)()
	do()
}

// exclusively waits until no other spec needs S3 or has it down, and keeps it so until the returned function is called.
func (s *S3) exclusively(ctx context.Context) (done func()) {
	lock := s.queue(ctx, (*flock.Flock).TryLockContext)
	s.up.setDown(true)
	return func() {
		_ = lock.Close()
		s.up.setDown(false)
	}
}

func (h *hold) setDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// DownByAnother says whether an outage of another spec keeps Kyverno from S3 at this moment.
func (s *S3) DownByAnother() (bool, error) {
	s.up.mu.Lock()
	ours := s.up.down
	s.up.mu.Unlock()
	if ours {
		return false, nil
	}
	lock := flock.New(s.env.SharedFile(lockFile))
	defer func() { _ = lock.Close() }()
	free, err := lock.TryRLock()
	return err == nil && !free, err
}

// queue takes the lock in turn.
func (s *S3) queue(ctx context.Context, take func(*flock.Flock, context.Context, time.Duration) (bool, error)) *flock.Flock {
	turn, lock := flock.New(s.env.SharedFile(queueFile)), flock.New(s.env.SharedFile(lockFile))
	defer func() { _ = turn.Close() }()
	taken, err := turn.TryLockContext(ctx, s.env.Times.Poll/2)
	if err == nil && taken {
		taken, err = take(lock, ctx, s.env.Times.Poll/2)
	}
	if err == nil && taken {
		err = s.nothingLeft(ctx)
	}
	if err != nil || !taken {
		_ = lock.Close()
		s.env.Unknownf("S3 is not up for Kyverno, and an outage of another spec did not end: %v", err)
	}
	return lock
}
