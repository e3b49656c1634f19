package s3down

import (
	"context"
	"encoding/json"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/outage"
)

// takeEndpoints takes the endpoints of the oracle's Service away, and waits until the node has heard of it. Who asks is counted on the way
// to the Service's own address, since nobody gets further.
func (o *inForce) takeEndpoints(ctx context.Context) {
	e := o.env
	namespace, name, port := e.Testbed.Contract.Oracle.Service()
	service := &corev1.Service{}
	e.Must(e.API.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, service))
	address, err := netip.ParseAddr(service.Spec.ClusterIP)
	if err != nil {
		e.Unknownf("the fault %s could not be put on: the Service %s/%s has the address %q", o.fault.Name, namespace, name, service.Spec.ClusterIP)
	}
	o.gone = true
	e.Must(o.setEndpoints(ctx, false))
	o.settled(ctx, o.fault.Proof)
	o.armPackets(ctx, fault.Counted, netip.AddrPortFrom(address, port))
}

// settled waits until probes find what the proof wants: each node hears of a Service's endpoints in its own time.
func (o *inForce) settled(ctx context.Context, proof outage.Proof) {
	if o.urls == nil {
		o.findURLs(ctx)
	}
	o.env.Arrange(ctx, "what the nodes do with the oracle's Service", o.env.Times.Heal, func(ctx context.Context) (await.State, error) {
		found := o.probe(ctx, outage.AnswerTimeout)
		return await.ReachedIf(proof.Shows(found.results), "the oracle is %s", found.results[outage.TargetOracle].Class), found.err
	})
}

// setEndpoints has the oracle's Service lead to the gateway, or to nobody.
func (s *S3) setEndpoints(ctx context.Context, there bool) error {
	t := s.env.Testbed
	objects := t.Contract.Oracle.Objects(t.OracleAddress().Addr())
	slice := objects[len(objects)-1]
	endpoints := []any{}
	if there {
		endpoints, _ = slice.Object["endpoints"].([]any)
	}
	patch, err := json.Marshal(map[string]any{"endpoints": endpoints})
	if err != nil {
		return err
	}
	return s.env.API.Patch(ctx, slice, client.RawPatch(types.MergePatchType, patch))
}
