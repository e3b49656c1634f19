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

	"github.com/smart-restore/conformance/harness/cmd/agent/probe"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/fault/gateway"
)

const (
	// kyvernoNamespace is where the policy engine's pods are.
	kyvernoNamespace = "kyverno"
	// upTimeout is how long the observer waits for an S3 that is to be up; it answers within milliseconds, on a busy
	// machine within tenths of a second.
	upTimeout = 5 * time.Second
	// downTimeout is how long the observer waits for one that is to be down.
	downTimeout = time.Second
	// faultTTL heals a fault by itself, should this process be killed.
	faultTTL = 120
)

// Fault is one way in which S3 can be down: a row of the fault table.
type Fault struct {
	Name     string
	Sentence string // completes "while S3 is …"
	// Packet is what happens to packets to the endpoint, on the node, from Kyverno's pods and the spec's own. No path can
	// be told apart there, so specs that need S3 to be up for Kyverno wait meanwhile.
	Packet fault.PacketFault
	// HTTP is what the gateway does with requests for the spec's namespace.
	HTTP gateway.Fault
	// Hangs says that a probe may get no answer at all, and so be waiting still when S3 comes back.
	Hangs bool
	// Proof says whether a look at S3 from inside the cluster shows the fault.
	Proof func(probe.Result) bool
}

// HoldsForAll says that specs which need S3 for Kyverno must wait while the fault is in force.
func (f Fault) HoldsForAll() bool { return f.Packet != "" }

// Faults is the fault table.
var Faults = []Fault{
	{
		Name: "refused", Sentence: "refusing connections", Packet: fault.Refused, HTTP: gateway.Fault{Kind: "reset"},
		Proof: func(r probe.Result) bool { return r.Class == probe.Refused },
	},
	{
		Name: "black-hole", Sentence: "a black hole that swallows every packet", Packet: fault.BlackHole, HTTP: gateway.Fault{Kind: "hang"}, Hangs: true,
		Proof: func(r probe.Result) bool { return r.Class == probe.Timeout },
	},
	{
		Name: "forbidden", Sentence: "answering 403 Forbidden", HTTP: gateway.Fault{Kind: "status", Status: 403},
		Proof: func(r probe.Result) bool { return r.Class == probe.HTTP && r.Status == 403 },
	},
}

// FaultNamed finds a row of the fault table.
func FaultNamed(name string) (Fault, error) {
	for _, f := range Faults {
		if f.Name == name {
			return f, nil
		}
	}
	return Fault{}, fmt.Errorf("the fault table has no %q", name)
}

// S3Down runs during while S3 is down in this way for Kyverno and for everything in the spec's namespace. It proves from
// inside the cluster that S3 is up before, down at the start and at the end, and up again after; and that Kyverno ran
// into the fault meanwhile. name is the PVC whose repository is asked for; a good backup must be there. It returns when
// the outage ended.
func (sc *Scenario) S3Down(ctx context.Context, f Fault, name string, during func()) (healed time.Time) {
	url := fmt.Sprintf("%s/%s/%s/%s/config", sc.Stand.Endpoint.URL, sc.Stand.Store.Bucket, sc.Namespace, name)
	observer := sc.Observer(ctx)
	expect := func(when string, timeout time.Duration, proof func(probe.Result) bool) {
		result := observer.Probe(ctx, url, timeout)
		if !proof(result) {
			sc.Unknownf("the fault %s could not be proven %s: a look at S3 from inside the cluster found %s, HTTP status %d %s", f.Name, when, result.Class, result.Status, result.Error)
		}
		sc.Evidence("s3", fmt.Sprintf("S3 as seen from inside the cluster, %s: %s (HTTP status %d) in %.0f ms", when, result.Class, result.Status, result.Millis), nil)
	}
	up := func(r probe.Result) bool { return r.Class == probe.OK }
	if f.HoldsForAll() {
		defer sc.onlyMe(ctx)()
	}
	expect("before the outage", upTimeout, up)
	since, err := sc.Gateway.Records(ctx, 1<<62, "")
	sc.must(err)
	outage := sc.arm(ctx, f, observer)
	defer outage.heal(ctx) // also when the spec panics or fails
	expect("as the outage begins", downTimeout, f.Proof)
	during()
	expect("as the outage ends", downTimeout, f.Proof)
	outage.engineRanInto(ctx, since.LastSeq, name)
	outage.heal(ctx)
	healed = time.Now()
	expect("after the outage", upTimeout, up)
	return healed
}

// outage is a fault in force.
type outage struct {
	sc     *Scenario
	id     string
	armed  *fault.Armed // nil: no packet fault
	engine []netip.Addr // Kyverno's addresses, where there is one
}

// ClaimInOutage creates a labelled PVC during an outage and waits until it has its ReplicationSource. An outage of the
// spec's own requests can only be met by Kyverno while no other spec's outage keeps it from S3 altogether.
func (sc *Scenario) ClaimInOutage(ctx context.Context, f Fault, name string) *Claim {
	if !f.HoldsForAll() {
		defer sc.s3Up(ctx)()
	}
	claim := sc.Claim(ctx, name)
	claim.HasReplicationSource(ctx)
	return claim
}

// arm puts the fault in force.
func (sc *Scenario) arm(ctx context.Context, f Fault, observer *App) *outage {
	o := &outage{sc: sc, id: sc.Namespace}
	sc.must(sc.Gateway.Put(ctx, gateway.Rule{
		ID: o.id, PathPrefix: "/" + sc.Stand.Store.Bucket + "/" + sc.Namespace + "/", TTLSeconds: faultTTL, Fault: f.HTTP,
	}))
	if f.Packet == "" {
		return o
	}
	var err error
	if o.engine, err = sc.engineAddresses(ctx); err == nil {
		var own netip.Addr
		if own, err = netip.ParseAddr(observer.IP(ctx)); err == nil {
			o.armed, err = sc.Firewall.Arm(ctx, o.id, f.Packet, append([]netip.Addr{own}, o.engine...), sc.Stand.Endpoint.Addr)
		}
	}
	if err != nil {
		o.heal(ctx)
		sc.Unknownf("the fault %s could not be put on: %v", f.Name, err)
	}
	return o
}

// heal takes the fault away. It can be called again, and after ctx has ended.
func (o *outage) heal(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err := o.sc.Gateway.Heal(ctx, o.id)
	if o.armed != nil {
		err = errors.Join(err, o.armed.Heal(ctx))
	}
	if err != nil {
		o.sc.Evidence("harness", "the fault could not be healed: "+err.Error(), nil)
	}
}

// engineAddresses lists the addresses of Kyverno's pods.
func (sc *Scenario) engineAddresses(ctx context.Context) ([]netip.Addr, error) {
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

// engineRanInto is the positive control of an outage: Kyverno asked S3 about the claim and met the fault.
func (o *outage) engineRanInto(ctx context.Context, since int64, name string) {
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
	prefix := "/" + o.sc.Stand.Store.Bucket + "/" + o.sc.Namespace + "/" + name + "/"
	page, err := o.sc.Gateway.Records(ctx, since, prefix)
	o.sc.must(err)
	for _, record := range page.Records {
		if record.Rule == o.id && record.UserAgent != probe.UserAgent && record.Auth == "none" {
			o.sc.Evidence("s3", fmt.Sprintf("Kyverno's request ran into the outage: %s %s from %s got %d", record.Method, record.Path, record.Client, record.Status), nil)
			return
		}
	}
	o.sc.Unknownf("Kyverno sent no request to S3 during the outage (the gateway saw %d others there): the policy was not tried by it", len(page.Records))
}

// Packet faults hold for Kyverno as a whole. A file lock keeps them apart from the moments in which other specs, in
// other processes, need Kyverno to reach S3.
const outageLock = "outage.lock"

// s3Up waits until no packet fault is in force and keeps it so until the returned function is called.
func (sc *Scenario) s3Up(ctx context.Context) func() { return sc.lock(ctx, unix.LOCK_SH) }

// onlyMe waits until no other spec needs S3 or has it down, and keeps it so until the returned function is called.
func (sc *Scenario) onlyMe(ctx context.Context) func() { return sc.lock(ctx, unix.LOCK_EX) }

func (sc *Scenario) lock(ctx context.Context, how int) func() {
	file, err := os.OpenFile(filepath.Join(filepath.Dir(os.Getenv(StandVariable)), outageLock), os.O_CREATE|os.O_RDWR, 0o600)
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
