package external

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/testbed"
)

// Plan is what a run would do in the cluster, for a person to read before anything is done.
type Plan struct {
	Request
	*Facts
	Provable   []string            // requirements
	Untestable map[string][]string // reason → requirements
	NotAsked   []string            // requirements that the policy does not promise
}

// labelledLike says what PVCs are selected by, if anything.
func labelledLike(pvc policy.PVC) string {
	if text := pvc.String(); text != "" {
		return " " + text
	}
	return ""
}

// Lines is the plan as text.
func (p *Plan) Lines() []string {
	var lines []string
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	prefix, s3 := testbed.NamespacePrefix(p.RunID), p.Policy.Contract.S3
	line("Plan of run %s on the cluster %s (context %s, %s)", p.RunID, p.Chosen.Cluster, p.Chosen.Context, p.Chosen.Server)
	line("")
	for _, fact := range p.Found {
		line("  %-12s %s", fact.Name, fact.Text)
	}
	line("  %-12s %s, bucket %s, reached from inside the cluster", "S3", p.Policy.Endpoint.URL, s3.Bucket)
	line("")
	line("It makes, and deletes again:")
	line("  - namespaces %s…, labelled %s=%s, and in them PVCs%s, pods of %s, Secrets", prefix, runs.Label, p.RunID, labelledLike(p.Policy.Contract.PVC), cmp.Or(p.MoverImage, "none"))
	line("  - objects of the bucket %s below %s, where there must be none before", s3.Bucket, strings.Join((&testbed.Testbed{RunID: p.RunID, Contract: p.Policy.Contract, External: &testbed.External{}}).BucketPrefixes(), "… and "))
	if p.MakePolicy {
		line("  - the policy's objects, labelled: %s. While they are there they act on every PVC that anybody labels", strings.Join(p.Policy.Describe(), ", "))
	}
	line("It deletes nothing without that label, and nothing but by UID. At its end it looks for what is left.")
	line("")
	line("%d requirements can be proven here: %s", len(p.Provable), cmp.Or(strings.Join(p.Provable, ", "), "none"))
	for _, reason := range slices.Sorted(maps.Keys(p.Untestable)) {
		line("%d stay unknown, as %s: %s", len(p.Untestable[reason]), reason, strings.Join(p.Untestable[reason], ", "))
	}
	if len(p.NotAsked) > 0 {
		line("%d are not promised by the policy: %s", len(p.NotAsked), strings.Join(p.NotAsked, ", "))
	}
	for _, warning := range p.Warnings {
		line("Note: %s", warning)
	}
	if len(p.Refusals) > 0 {
		line("")
		line("Refused, %d times:", len(p.Refusals))
		for _, refusal := range p.Refusals {
			line("- %s", refusal.Error())
		}
	}
	return lines
}
