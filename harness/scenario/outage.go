package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/probe"
	"github.com/smart-restore/conformance/harness/verdict"
)

const (
	// kyvernoNamespace is where the policy engine's pods are.
	kyvernoNamespace = "kyverno"
	// healTimeout is how long it may take to take a fault away.
	healTimeout = 20 * time.Second
	// lookTries is how often a look is tried: an exec on a busy node may end well and lose its output.
	lookTries = 3
)

// S3Down runs during while S3 is down in this way for Kyverno and for everything in the spec's namespace. It proves from
// inside the cluster that S3 is up before, down at the start and at the end, and up again after; and that Kyverno (or
// the movers, where the fault is theirs) ran into the fault meanwhile. name is the PVC whose repository is asked for; a
// good backup must be there. It returns when the outage ended.
func (sc *Scenario) S3Down(ctx context.Context, f outage.Fault, name string, during func()) (healed time.Time) {
	o := &activeOutage{sc: sc, fault: f, id: sc.Namespace, pvc: name}
	o.observer = sc.observerFor(ctx, f)
	sc.must(o.findURLs(ctx))
	if f.HoldsForAll() {
		defer sc.onlyMe(ctx)()
	}
	o.expect("before the outage", o.look(ctx, outage.AnswerTimeout), f.Up())
	since, err := sc.Gateway.Records(ctx, 1<<62, "")
	sc.must(err)
	defer o.heal(ctx) // also when the spec panics or fails
	o.arm(ctx)
	first := o.beginLook(ctx, f.ProbeTimeout())
	if f.Late() { // the look goes on beside what is done meanwhile
		during()
		o.expect("as the outage begins", <-first, f.Proof)
		o.expect("as the outage ends", o.look(ctx, outage.SilenceTimeout), f.Proof)
	} else {
		o.expect("as the outage begins", <-first, f.Proof)
		during()
		o.expect("as the outage ends", o.look(ctx, f.ProbeTimeout()), f.Proof)
	}
	o.ranInto(ctx, since.LastSeq)
	o.heal(ctx)
	healed = time.Now()
	o.expect("after the outage", o.look(ctx, outage.AnswerTimeout), f.Up())
	return healed
}

// activeOutage is a fault in force.
type activeOutage struct {
	sc       *Scenario
	fault    outage.Fault
	id, pvc  string
	on       bool // it has been said that the fault is on, and not yet that it is off
	observer *observer
	urls     map[outage.Target]string
	armed    *fault.Armed // nil: no packet fault
	engine   []netip.Addr // Kyverno's addresses, where there is one
}

// findURLs says where each target is.
func (o *activeOutage) findURLs(ctx context.Context) error {
	o.urls = map[outage.Target]string{}
	for target := range o.fault.Proof {
		url, err := o.sc.subject(o.pvc).URL(ctx, target)
		if err != nil {
			return err
		}
		o.urls[target] = url
	}
	return nil
}

// subject is whose S3 an outage is of: a PVC's of this name.
func (sc *Scenario) subject(pvc string) outage.Subject {
	return outage.Subject{
		Endpoint: sc.Testbed.Endpoint, Bucket: sc.Testbed.Store.Bucket,
		NamespacePrefix: sc.Testbed.Contract.S3.NamespacePrefix(sc.Namespace), RepositoryPrefix: sc.prefix(pvc),
		AccessKey: sc.Testbed.Credentials.AccessKey, SecretKey: sc.Testbed.Credentials.SecretKey,
	}
}

// looked is what a round of looks found.
type looked struct {
	results map[outage.Target]probe.Result
	err     error
}

// beginLook begins a look for each that the proof wants, and returns where the results will be.
func (o *activeOutage) beginLook(ctx context.Context, timeout time.Duration) <-chan looked {
	done := make(chan looked, 1)
	go func() { done <- o.look(ctx, timeout) }()
	return done
}

func (o *activeOutage) look(ctx context.Context, timeout time.Duration) looked {
	l := looked{results: map[outage.Target]probe.Result{}}
	for look := range o.fault.Proof {
		result, err := o.observer.look(ctx, o.urls[look], timeout)
		if err != nil {
			l.err = fmt.Errorf("look at S3 (%s): %w", look, err)
			break
		}
		l.results[look] = result
	}
	return l
}

// expect ends the spec as unknown unless what was found is what the proof wants.
func (o *activeOutage) expect(when string, l looked, proof outage.Proof) {
	o.sc.must(l.err)
	for look, result := range l.results {
		what := "S3 as seen from inside the cluster"
		if look != outage.TargetConfig {
			what += " (" + string(look) + ")"
		}
		found := fmt.Sprintf("%s: %s (HTTP status %d%s) in %.0f ms", when, result.Class, result.Status, redirected(result), result.Millis)
		if !proof[look](result) {
			o.sc.Unknownf("the fault %s could not be proven: %s, %s %s", o.fault.Name, what, found, result.Error)
		}
		o.sc.Evidence("s3", what+", "+found, nil)
	}
}

func redirected(r probe.Result) string {
	if len(r.Redirects) == 0 {
		return ""
	}
	return fmt.Sprintf(" after %v", r.Redirects)
}

// arm puts the fault in force.
func (o *activeOutage) arm(ctx context.Context) {
	sc := o.sc
	for _, rule := range o.fault.Rules(o.id, sc.namespacePath(), sc.path(sc.prefix(o.pvc))) {
		sc.must(sc.Gateway.Put(ctx, rule))
	}
	o.say(true)
	if o.fault.Packet == "" {
		return
	}
	engine, err := sc.kyvernoAddresses(ctx)
	if err == nil {
		o.engine = engine
		o.armed, err = sc.Firewall.Arm(ctx, o.id, o.fault.Packet, append([]netip.Addr{o.observer.address}, engine...), sc.Testbed.Endpoint.Addr)
	}
	if err != nil {
		sc.Unknownf("the fault %s could not be put on: %v", o.fault.Name, err)
	}
}

// heal takes the fault away. It can be called again, and after ctx has ended.
func (o *activeOutage) heal(ctx context.Context) {
	gone := o.sc.healed(ctx, o.fault.Name, func(ctx context.Context) (err error) {
		for _, rule := range o.fault.Rules(o.id, o.sc.namespacePath(), o.sc.path(o.sc.prefix(o.pvc))) {
			err = errors.Join(err, o.sc.Gateway.Heal(ctx, rule.ID))
		}
		if o.armed != nil {
			err = errors.Join(err, o.armed.Heal(ctx))
		}
		return err
	})
	if gone && o.on {
		o.say(false)
		o.sc.s3IsBack()
	}
}

// healed takes a fault away, also after ctx has ended, and says whether it is gone.
func (sc *Scenario) healed(ctx context.Context, name string, heal func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
	defer cancel()
	err := heal(ctx)
	if err != nil {
		sc.Evidence("harness", "the fault "+name+" could not be healed: "+err.Error(), nil)
	}
	return err == nil
}

func (o *activeOutage) say(on bool) {
	o.on = on
	o.sc.faultIs(o.fault.Name, o.fault.Sentence, on)
}

// faultIs records that a fault of S3 is in force, or is no more.
func (sc *Scenario) faultIs(name, sentence string, on bool) {
	text := "from now on S3 is " + sentence
	if !on {
		text = "S3 is no longer " + sentence
	}
	sc.Evidence(verdict.KindFault, text, map[string]any{"fault": name, "on": on})
}

// observer is where S3 is looked at from, inside the cluster.
type observer struct {
	suite                     *Suite
	namespace, pod, container string
	address                   netip.Addr // only of a pod of the spec's own
}

// observerFor finds an observer: the pod that all specs share, unless the fault goes by the observer's own address.
func (sc *Scenario) observerFor(ctx context.Context, f outage.Fault) *observer {
	if !f.HoldsForAll() {
		return &observer{suite: sc.Suite, namespace: sc.toolsNamespace(), pod: inspectorPod, container: "agent"}
	}
	app := sc.Observer(ctx)
	address, err := netip.ParseAddr(app.IP(ctx))
	sc.must(err)
	return &observer{suite: sc.Suite, namespace: sc.Namespace, pod: app.pod, container: "app", address: address}
}

// look looks at a URL.
func (o *observer) look(ctx context.Context, url string, timeout time.Duration) (result probe.Result, err error) {
	for range lookTries {
		var out []byte
		out, err = o.suite.execIn(ctx, o.namespace, o.pod, o.container, []string{o.suite.Testbed.AgentPath(), "probe", "--url", url, "--timeout", timeout.String(), "--follow"})
		if err != nil {
			return probe.Result{}, err
		}
		if result, err = decode[probe.Result](out); err == nil {
			return result, nil
		}
	}
	return probe.Result{}, err
}

// kyvernoAddresses lists the addresses of Kyverno's pods.
func (sc *Scenario) kyvernoAddresses(ctx context.Context) ([]netip.Addr, error) {
	pods := &corev1.PodList{}
	if err := sc.API.List(ctx, pods, client.InNamespace(kyvernoNamespace)); err != nil {
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
	if len(addresses) == 0 {
		return nil, fmt.Errorf("no pod runs in namespace %s", kyvernoNamespace)
	}
	return addresses, nil
}

// ranInto is the positive control of an outage: those whom the fault is for asked S3 about the claim and met it.
func (o *activeOutage) ranInto(ctx context.Context, since int64) {
	if o.armed != nil {
		packets, err := o.armed.Packets(ctx)
		o.sc.must(err)
		var total uint64
		for _, address := range o.engine {
			total += packets[address]
		}
		if total == 0 {
			o.sc.Unknownf("Kyverno sent nothing to S3 during the outage: the policy was not tried by it")
		}
		o.sc.Evidence("s3", fmt.Sprintf("%d packets of Kyverno's ran into the outage", total), nil)
		return
	}
	page, err := o.sc.Gateway.Records(ctx, since, o.sc.path(o.sc.prefix(o.pvc)))
	o.sc.must(err)
	who, movers := "Kyverno", o.fault.Outcome == outage.OutcomeLater
	if movers {
		who = "a mover"
	}
	for _, record := range page.Records {
		if record.Rule == o.id && record.UserAgent != probe.UserAgent && movers == (record.Auth == gateway.AuthAWS4) {
			o.sc.Evidence("s3", fmt.Sprintf("%s ran into the outage: %s %s from %s got %d", who, record.Method, record.Path, record.Client, record.Status), nil)
			return
		}
	}
	o.sc.Unknownf("%s sent no request to S3 during the outage (the gateway saw %d others there): the policy was not tried by it", who, len(page.Records))
}

// Packet faults hold for Kyverno as a whole. A file lock keeps them apart from the moments in which other specs, in
// other processes, need Kyverno to reach S3.
const outageLock = "outage.lock"

// s3Up waits until no packet fault is in force and keeps it so until the returned function is called.
func (sc *Scenario) s3Up(ctx context.Context) func() { return sc.lock(ctx, unix.LOCK_SH) }

// WhileS3IsUp does something that needs Kyverno to reach S3, while no other spec's outage keeps it from that.
func (sc *Scenario) WhileS3IsUp(ctx context.Context, do func()) {
	defer sc.s3Up(ctx)()
	do()
}

// onlyMe waits until no other spec needs S3 or has it down, and keeps it so until the returned function is called.
func (sc *Scenario) onlyMe(ctx context.Context) func() { return sc.lock(ctx, unix.LOCK_EX) }

func (sc *Scenario) lock(ctx context.Context, how int) func() {
	file, err := os.OpenFile(filepath.Join(filepath.Dir(os.Getenv(TestbedVariable)), outageLock), os.O_CREATE|os.O_RDWR, 0o600)
	sc.must(err)
	for {
		err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			sc.must(errors.Join(err, file.Close()))
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			sc.Unknownf("interrupted while waiting for another spec's outage to end")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
