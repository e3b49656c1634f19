package claim

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/probe"
)

func TestTriggersOfAnUpdateRequest(t *testing.T) {
	pvc := client.ObjectKey{Namespace: "ns", Name: "data"}
	cases := []struct {
		name, spec string
		want       []client.ObjectKey
	}{
		{"a GeneratingPolicy's", `{"requestType":"cel-generate","resource":{},"ruleContext":[{"trigger":{"kind":"PersistentVolumeClaim","namespace":"ns","name":"data"}}]}`, []client.ObjectKey{pvc}},
		{"a ClusterPolicy's, of Kyverno 1.13", `{"requestType":"mutate","resource":{"namespace":"ns","name":"data"}}`, []client.ObjectKey{pvc}},
		{"a MutatingPolicy's", `{"requestType":"cel-mutate","resource":{},"context":{"admissionRequestInfo":{"admissionRequest":{"namespace":"ns","name":"data"}}}}`, []client.ObjectKey{pvc}},
		{"of nothing", `{"requestType":"generate"}`, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var request map[string]any
			if err := json.Unmarshal([]byte(`{"spec":`+c.spec+`}`), &request); err != nil {
				t.Fatal(err)
			}
			if got := triggers(request); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// Of a policy that is to ask S3 nothing, none is seen in a log that is alive. Of one that is to ask, nothing seen is nothing known.
func TestRequestsPerPVC(t *testing.T) {
	const agent = "Go-http-client/1.1"
	begun := time.Now()
	question := func(pvc string) gateway.Record {
		return gateway.Record{Path: "/bucket/ns/" + pvc + "/config", Auth: gateway.AuthNone, UserAgent: agent, Time: begun.Add(time.Second)}
	}
	for name, c := range map[string]struct {
		restores string
		oracle   policy.Oracle
		asked    []gateway.Record
		lost     bool // the gateway's log has nothing of what the suite sends
		dropped  int64
		want     string
		says     string // of the end or, where it passes, of the evidence
	}{
		"asks":                          {restores: policy.WhenDecided, asked: []gateway.Record{question("a"), question("a"), question("b")}, want: "pass", says: "asked S3 1 to 2 times per PVC"},
		"asks about one only":           {restores: policy.WhenDecided, asked: []gateway.Record{question("a")}, want: "pass", says: "asked S3 0 to 1 times per PVC"},
		"is to ask, and is not seen":    {restores: policy.WhenDecided, want: "unknown", says: "no request of Kyverno's to S3 was seen"},
		"asks nothing":                  {restores: policy.Always, want: "pass", says: "Kyverno asked S3 nothing about 2 PVCs"},
		"asks nothing, and a mover":     {restores: policy.Always, asked: []gateway.Record{{Path: "/bucket/ns/a/config", Auth: gateway.AuthAWS4, UserAgent: agent, Time: begun.Add(time.Second)}}, want: "pass", says: "Kyverno asked S3 nothing"},
		"is to ask nothing, and asks":   {restores: policy.Always, asked: []gateway.Record{question("b")}, want: "pass", says: "asked S3 0 to 1 times per PVC"},
		"asks nothing, to a dead log":   {restores: policy.Always, lost: true, want: "unknown", says: "does not have a request that the suite has just sent"},
		"asks nothing, to a short log":  {restores: policy.Always, dropped: 7, want: "unknown", says: "forgotten 7"},
		"is to ask an oracle, does not": {restores: policy.Always, oracle: policy.Oracle{URL: "http://o.kyverno.svc/{namespace}/{pvc}"}, want: "unknown", says: "no request of Kyverno's to the oracle"},
	} {
		t.Run(name, func(t *testing.T) {
			log := c.asked
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				page := gateway.RecordsPage{LastSeq: int64(len(log)), Dropped: c.dropped}
				if r.URL.Query().Get("since") == "0" {
					page.Records = log
				}
				_ = json.NewEncoder(w).Encode(page)
			}))
			defer server.Close()
			probed := func(url string) {
				if !c.lost {
					log = append(log, gateway.Record{Seq: int64(len(log)) + 1, Path: strings.TrimPrefix(url, "http://s3"), Auth: gateway.AuthNone, UserAgent: probe.UserAgent, Time: time.Now()})
				}
			}
			claims, r := claimsOf(t, env.Parts{Gateway: fault.New(server.URL, ""), Pods: prober(probed)})
			e := claims.env
			e.Testbed.Contract.Restores, e.Testbed.Contract.Oracle, e.Testbed.Endpoint.URL = c.restores, c.oracle, "http://s3"
			e.Testbed.Policy = []map[string]any{{"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": map[string]any{"name": "p"}}}
			storm := &Storm{of: claims, start: begun, claims: []*Claim{claims.claim("a"), claims.claim("b")}}
			got := recorded.Outcome(func() { storm.RequestsPerPVC(t.Context()) })
			if got.How != c.want || !strings.Contains(got.Reason+strings.Join(r.Evidences, "\n"), c.says) {
				t.Errorf("%+v and %q, wanted %s with %q", got, r.Evidences, c.want, c.says)
			}
		})
	}
}

// prober takes the place of the agent, is told of each URL that is probed, and finds it well.
type prober func(url string)

func (p prober) Stream(_ context.Context, _ podexec.Container, command []string, _ io.Reader, stdout, _ io.Writer) error {
	if at := slices.Index(command, "--url"); at > 0 {
		p(command[at+1])
	}
	reply, err := json.Marshal(probe.Result{Status: 200})
	if err != nil {
		return err
	}
	return frame.Write(stdout, 0, reply)
}
