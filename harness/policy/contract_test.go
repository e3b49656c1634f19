package policy

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/strict"
)

const contract = `apiVersion: conformance.smart-restore.io/v1alpha1
kind: PolicyContract
name: one
description: It does it.
admissionSeconds: 6
features: [gated-start, visible-decision]
stacks: [kyverno-1.19]
expectedFailures:
- {requirement: safety/late-restore, reason: it asks again}
caughtBy:
- core/fresh
- policy/label
`

func TestContract(t *testing.T) {
	c, err := parseContract("/somewhere/conformance.yaml", []byte(contract))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Promises("gated-start") || c.Promises("relabel") || c.AdmissionBound() != 6*time.Second || c.Reasons()["safety/late-restore"] != "it asks again" || len(c.CaughtBy) != 2 {
		t.Errorf("%+v", c)
	}
	if err := c.CheckRequirements([]string{"core/fresh", "safety/late-restore"}); err != nil {
		t.Error(err)
	}
	if err := c.CheckStack("kyverno-1.19", stacksNamed("kyverno-1.19", "kyverno-1.13")); err != nil {
		t.Error(err)
	}
}

func TestContractRefusesWithAPosition(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"no YAML":                 {"name: one", "name: [", "conformance.yaml:3:1: it is no YAML: did not find expected ',' or ']'"},
		"unknown field":           {"stacks:", "stack:", `conformance.yaml:7:1: there is no field "stack"; there are ` + strings.Join(strict.Fields(reflect.TypeFor[Contract]()), ", ")},
		"unknown field below":     {"reason:", "why:", `conformance.yaml:9:38: there is no field "why"; there are requirement, reason`},
		"field twice":             {"kind: PolicyContract", "kind: PolicyContract\nkind: PolicyContract", `conformance.yaml:3:1: "kind" is there twice: first in line 2`},
		"another type":            {"admissionSeconds: 6", "admissionSeconds: soon", `conformance.yaml:5:19: found is "soon" (str), wanted a whole number`},
		"another kind":            {"kind: PolicyContract", "kind: Policy", `conformance.yaml:2:7: "Policy" is not known here: wanted is PolicyContract`},
		"another version":         {"v1alpha1", "v2", `conformance.yaml:1:13: "conformance.smart-restore.io/v2" is not known here: wanted is conformance.smart-restore.io/v1alpha1`},
		"no name":                 {"name: one", "name: ''", `conformance.yaml:3:7: "" will not do: wanted is some text`},
		"no time":                 {"admissionSeconds: 6", "admissionSeconds: 0", "conformance.yaml:5:19: 0 will not do: wanted is 1 to 60"},
		"unknown feature":         {"visible-decision", "visibel", `conformance.yaml:6:25: "visibel" is not known here: wanted is ` + strings.Join(features(), ", ")},
		"feature twice":           {"visible-decision", "gated-start", `conformance.yaml:6:25: feature "gated-start" is there twice`},
		"no reason":               {"it asks again", "' '", `conformance.yaml:9:46: " " will not do: wanted is some text`},
		"no name at all":          {"name: one\n", "", "conformance.yaml:1:1: there is no name"},
		"no reason at all":        {", reason: it asks again", "", "conformance.yaml:9:3: there is no reason"},
		"stack twice":             {"stacks: [kyverno-1.19]", "stacks: [a, a]", `conformance.yaml:7:13: stack "a" is there twice`},
		"policy not here":         {"stacks: [kyverno-1.19]", "policy: [/etc/x]", `conformance.yaml:7:10: "/etc/x" is not found on another machine`},
		"label alone":             {"stacks: [kyverno-1.19]", "pvc: {label: x}", "conformance.yaml:7:14: label and value go together: there is no value"},
		"value alone":             {"stacks: [kyverno-1.19]", `pvc: {value: "x"}`, "conformance.yaml:7:14: label and value go together: there is no label"},
		"no label":                {"stacks: [kyverno-1.19]", `pvc: {label: a/b/c, value: x}`, `conformance.yaml:7:14: "a/b/c" will not do: wanted is a label's key`},
		"no text":                 {"stacks: [kyverno-1.19]", `pvc: {label: x, value: true}`, `conformance.yaml:7:24: found is "true" (bool), wanted a text: put it in quotes, "true"`},
		"no label's value":        {"stacks: [kyverno-1.19]", `pvc: {label: x, value: a b}`, `conformance.yaml:7:24: "a b" will not do`},
		"no namespace's label":    {"stacks: [kyverno-1.19]", `namespaceLabels: {a b: x}`, `conformance.yaml:7:19: "a b" will not do: wanted is a label's key`},
		"nothing in it":           {"stacks: [kyverno-1.19]", `pvc: {}`, "conformance.yaml:7:6: nothing is in it: leave it out"},
		"nothing there":           {"stacks: [kyverno-1.19]", `pvc:`, "conformance.yaml:7:5: there is nothing here: wanted is a mapping, or leave the field out"},
		"no http":                 {"stacks: [kyverno-1.19]", "s3: {endpoint: 's3://10.0.0.5'}", "conformance.yaml:7:16: \"s3://10.0.0.5\" will not do: wanted is http or https"},
		"a Service for S3":        {"stacks: [kyverno-1.19]", "s3: {endpoint: 'http://rustfs.storage.svc:9000'}", "conformance.yaml:7:16: rustfs.storage.svc is a name of the cluster's own"},
		"trust in nobody":         {"stacks: [kyverno-1.19]", "s3: {trust: nobody}", `conformance.yaml:7:13: "nobody" is not known here: wanted is images, policy`},
		"the cluster's own":       {"stacks: [kyverno-1.19]", "s3: {endpoint: 'http://10.96.0.1:9000'}", "conformance.yaml:7:16: 10.96.0.1 is in 10.96.0.0/16, which the test's cluster uses"},
		"no bucket":               {"stacks: [kyverno-1.19]", "s3: {bucket: B}", `conformance.yaml:7:14: "B" will not do: wanted is a bucket's name`},
		"empty bucket":            {"stacks: [kyverno-1.19]", "s3: {bucket: ''}", `conformance.yaml:7:14: "" will not do`},
		"unknown placeholder":     {"stacks: [kyverno-1.19]", "s3: {path: 'k8s/{ns}/{pvc}'}", `conformance.yaml:7:17: there is no placeholder "{ns}" here; there are {namespace}, {pvc}`},
		"placeholder, plain":      {"stacks: [kyverno-1.19]", "s3:\n  path: k8s/{ns}/{pvc}", `conformance.yaml:8:13: there is no placeholder "{ns}" here`},
		"placeholder twice":       {"stacks: [kyverno-1.19]", "s3: {path: '{namespace}/{pvc}/{pvc}'}", "conformance.yaml:7:31: {pvc} is there twice"},
		"placeholder open":        {"stacks: [kyverno-1.19]", "s3: {path: '{namespace}/{pvc'}", "conformance.yaml:7:25: this { is never closed"},
		"placeholder closed":      {"stacks: [kyverno-1.19]", "s3: {path: '{namespace}/pvc}'}", "conformance.yaml:7:28: this } closes no placeholder"},
		"path of all PVCs":        {"stacks: [kyverno-1.19]", "s3: {path: '{namespace}'}", "conformance.yaml:7:12: it needs {pvc}: VolSync's movers give every PVC's snapshots the same host and path"},
		"path with a space":       {"stacks: [kyverno-1.19]", "s3: {path: '{namespace}/ /{pvc}'}", "wanted is a path of letters"},
		"path upwards":            {"stacks: [kyverno-1.19]", "s3: {path: '../{namespace}/{pvc}'}", "conformance.yaml:7:12: a part of it is only dots"},
		"cluster not in the path": {"stacks: [kyverno-1.19]", "s3: {cluster: prod, path: 'prod-1/{namespace}/{pvc}'}", `conformance.yaml:7:15: "prod" is no part of the path "prod-1/{namespace}/{pvc}": wanted is one of those between its slashes`},
		"cluster as placeholder":  {"stacks: [kyverno-1.19]", "s3: {cluster: '{pvc}'}", `conformance.yaml:7:15: "{pvc}" will not do: wanted is a part of s3.path`},
		"cluster that is nowhere": {"features: [gated-start, visible-decision]", "features: [cluster-in-path]", `conformance.yaml:6:12: it needs s3.cluster, the part of s3.path that stands for the cluster`},
		"marker with a slash":     {"stacks: [kyverno-1.19]", "s3: {marker: /m.json}", `conformance.yaml:7:14: "/m.json" will not do: wanted is the key of an object`},
		"marker upwards":          {"stacks: [kyverno-1.19]", "s3: {marker: ../m.json}", "conformance.yaml:7:14: a part of it is only dots"},
		"marker in a repository":  {"stacks: [kyverno-1.19]", "s3: {marker: a/b/m.json}", `conformance.yaml:7:14: "a/b/m.json" may be in a PVC's repository, or be one, by the path {namespace}/{pvc}`},
		"marker of a repository":  {"stacks: [kyverno-1.19]", "s3: {path: '{namespace}-{pvc}', marker: smart-restore.json}", `conformance.yaml:7:41: "smart-restore.json" may be in a PVC's repository`},
		"marker above them":       {"stacks: [kyverno-1.19]", "s3: {path: 'k8s/{namespace}/{pvc}', marker: k8s}", `conformance.yaml:7:45: "k8s" may be in`},
		"body without a marker":   {"stacks: [kyverno-1.19]", "s3: {markerBody: x}", "conformance.yaml:7:18: it is the content of s3.marker: there is none"},
		"no decisions":            {"stacks: [kyverno-1.19]", "decisions: {annotation: a/b}", "conformance.yaml:7:12: there is no restore"},
		"no pattern":              {"stacks: [kyverno-1.19]", "decisions: {annotation: a/b, restore: a, fresh: b, unknown: '('}", `conformance.yaml:7:61: "(" is no regular expression: missing closing )`},
		"one pattern for two":     {"stacks: [kyverno-1.19]", "decisions: {annotation: a/b, restore: a, fresh: a, unknown: b}", "conformance.yaml:7:49: restore has the same pattern"},
		"decisions of nobody":     {"features: [gated-start, visible-decision]", "decisions: {annotation: a/b, restore: a, fresh: b, unknown: c}", "conformance.yaml:6:12: they are what visible-decision promises, which is not among the features"},
		"a Secret's key":          {"stacks: [kyverno-1.19]", "baseSecret: {keys: {accessKey: 'a b'}}", `conformance.yaml:7:32: "a b" will not do: wanted is a key of a Secret`},
		"one key for two":         {"stacks: [kyverno-1.19]", "baseSecret: {keys: {accessKey: k, secretKey: k}}", `conformance.yaml:7:46: the key "k" is another one's, too`},
		"a key of the suite's":    {"stacks: [kyverno-1.19]", "baseSecret: {data: {RESTIC_PASSWORD: x}}", `conformance.yaml:7:21: the suite fills the key "RESTIC_PASSWORD" itself`},
		"override alone":          {"stacks: [kyverno-1.19]", "override: {annotation: x}", "conformance.yaml:7:11: there is no value"},
		"override of no sort":     {"stacks: [kyverno-1.19]", "override: {annotation: x, value: y, of: pods}", `conformance.yaml:7:41: "pods" is not known here: wanted is restore, backups`},
		"override by nothing":     {"stacks: [kyverno-1.19]", "override: {of: backups}", "conformance.yaml:7:11: there is no annotation"},
		"override of nothing":     {"stacks: [kyverno-1.19]", "override: {annotation: x/y, value: '{name}'}", `conformance.yaml:7:37: there is no placeholder "{name}" here; there are {namespace}, {pvc}, {uid}`},
		"a name for all":          {"stacks: [kyverno-1.19]", "names: {replicationSource: backup}", "conformance.yaml:7:28: it has neither {pvc} nor {uid}: all PVCs would share one"},
		"a name of nothing":       {"stacks: [kyverno-1.19]", "names: {secret: '{name}'}", `conformance.yaml:7:18: there is no placeholder "{name}" here; there are {namespace}, {pvc}, {uid}`},
		"no name for an object":   {"stacks: [kyverno-1.19]", "names: {secret: '{pvc}-'}", `conformance.yaml:7:17: for a PVC data it would be "data-"`},
		"no copy method":          {"stacks: [kyverno-1.19]", "copyMethod: rsync", `conformance.yaml:7:13: "rsync" is not known here: wanted is Direct, Snapshot, Clone`},
		"no schedule":             {"stacks: [kyverno-1.19]", "schedule: hourly", `conformance.yaml:7:11: "hourly" will not do: wanted is cron's five fields`},
		"nothing retained":        {"stacks: [kyverno-1.19]", "retain: {hourly: 0}", "conformance.yaml:7:18: 0 will not do: wanted is 1 to 1000"},
		"a second document":       {"caughtBy:", "---\ncaughtBy:", "conformance.yaml:10:1: it is a second document"},
		"an anchor":               {"description: It does it.", "description: &a It does it.", "conformance.yaml:4:14: anchors and aliases are not taken"},
		"expects a check to fail": {"safety/late-restore", "policy/label", "conformance.yaml:9:17: policy/label is checked before anything is tried"},
		"unknown check":           {"policy/label", "policy/labels", `conformance.yaml:12:3: there is no check "policy/labels" of policies; there are policy/restores, policy/backs-up`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(contract, c.from, c.to, 1)
			if changed == contract {
				t.Fatal("nothing to change")
			}
			if _, err := parseContract("conformance.yaml", []byte(changed)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	for _, raw := range []string{"", "# nothing\n", "- a\n"} {
		if _, err := parseContract("conformance.yaml", []byte(raw)); err == nil || !strings.Contains(err.Error(), "conformance.yaml:1:1: wanted is a mapping with the fields apiVersion, kind, name") {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestContractIsHeldAgainstTheSuite(t *testing.T) {
	c, err := parseContract("conformance.yaml", []byte(contract))
	if err != nil {
		t.Fatal(err)
	}
	err = c.CheckRequirements([]string{"core/fresh", "core/restore"})
	if want := `conformance.yaml:9:17: no spec has the requirement "safety/late-restore"; there are core/fresh, core/restore`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	err = c.CheckStack("kyverno-1.13", stacksNamed("kyverno-1.19", "kyverno-1.13"))
	if want := "the policy one is made for kyverno-1.19, not for the stack kyverno-1.13: choose with STACK=kyverno-1.19"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	patterned := Contract{Stacks: []string{"kyverno-1.1[79]*"}, CopyMethod: CopyDirect}
	if err := patterned.CheckStack("kyverno-1.19-minio", stacksNamed("kyverno-1.13", "kyverno-1.19-minio")); err != nil {
		t.Error(err)
	}
	if err := patterned.CheckStack("kyverno-1.13", stacksNamed("kyverno-1.13", "kyverno-1.19-minio")); err == nil || !strings.Contains(err.Error(), "STACK=kyverno-1.19-minio") {
		t.Error(err)
	}
	err = c.CheckStack("kyverno-1.13", stacksNamed("kyverno-1.13"))
	if want := `conformance.yaml:7:10: no stack matches "kyverno-1.19"; want one of kyverno-1.13`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestStacksArePatterns(t *testing.T) {
	known := append(stacksNamed("kyverno-1.13", "kyverno-1.19", "kyverno-1.19-k8s-1.33"), stack.Stack{Name: "volsync-csi"})
	for name, c := range map[string]struct {
		stacks []string
		stack  string
		want   string
	}{
		"any":               {nil, "kyverno-1.13", ""},
		"itself":            {[]string{"kyverno-1.13"}, "kyverno-1.13", ""},
		"a prefix":          {[]string{"kyverno-1.19*"}, "kyverno-1.19-k8s-1.33", ""},
		"the second":        {[]string{"kyverno-1.13*", "kyverno-1.19*"}, "kyverno-1.19", ""},
		"another":           {[]string{"kyverno-1.19*"}, "kyverno-1.13", "is made for kyverno-1.19*, not for the stack kyverno-1.13: choose with STACK=kyverno-1.19"},
		"not its beginning": {[]string{"kyverno-1.19"}, "kyverno-1.19-k8s-1.33", "not for the stack kyverno-1.19-k8s-1.33"},
		"without Kyverno":   {nil, "volsync-csi", "is made for every stack with Kyverno (stacks in its contract names others), not for the stack volsync-csi: choose with STACK=kyverno-1.13"},
		"named without it":  {[]string{"volsync-*"}, "volsync-csi", ""},
		"of no such name":   {nil, "kyverno-1.2", "not for the stack kyverno-1.2"},
		"none at all":       {[]string{"kyverno-1.2*"}, "kyverno-1.13", `no stack matches "kyverno-1.2*"`},
		"no pattern":        {[]string{"kyverno-[1"}, "kyverno-1.13", `"kyverno-[1" is no pattern`},
	} {
		t.Run(name, func(t *testing.T) {
			err := Contract{Name: "p", Stacks: c.stacks, CopyMethod: CopyDirect}.CheckStack(c.stack, known)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

// stacksNamed are stacks with Kyverno, and with volumes that cannot be snapshotted.
func stacksNamed(names ...string) (stacks []stack.Stack) {
	for _, name := range names {
		stacks = append(stacks, stack.Stack{Name: name, Versions: map[string]string{"kyverno": "v1"}, Storage: stack.Storage{Classes: []stack.StorageClass{{Name: "standard"}}}})
	}
	return stacks
}

func TestAPolicyThatNeedsSnapshotsIsMadeForVolumesThatHaveThem(t *testing.T) {
	csi := stacksNamed("plain", "csi", "csi-2")
	for i := range csi[1:] {
		csi[i+1].Storage = stack.Storage{SnapshotClasses: []string{"csi"}, Classes: []stack.StorageClass{
			{Name: "csi", Snapshots: true}, {Name: "csi-immediate", Snapshots: true}, {Name: "standard"}}}
	}
	for name, c := range map[string]struct {
		method, class, stack string
		stacks               []string
		want                 string
	}{
		"Direct, on folders":       {method: CopyDirect, stack: "plain"},
		"Direct, on CSI":           {method: CopyDirect, stack: "csi"},
		"Snapshot, on CSI":         {method: "Snapshot", stack: "csi"},
		"Clone, on two nodes":      {method: "Clone", stack: "csi-2"},
		"of a class by name":       {method: "Snapshot", stack: "csi", class: "csi-immediate"},
		"of a class that is made":  {method: "Snapshot", stack: "csi", class: "ceph-block"},
		"Snapshot, on folders":     {"Snapshot", "", "plain", nil, "copyMethod Snapshot needs volumes that can be snapshotted; the stack plain has none: choose with STACK=csi or csi-2"},
		"Clone, on folders":        {"Clone", "ceph-block", "plain", nil, "copyMethod Clone needs volumes that can be snapshotted; the stack plain has none: choose with STACK=csi or csi-2"},
		"made for one of them":     {"Snapshot", "", "plain", []string{"plain", "csi-2"}, "the stack plain has none: choose with STACK=csi-2"},
		"made for folders only":    {"Snapshot", "", "plain", []string{"plain"}, "the stack plain has none: there is none among the stacks that the policy is made for: add one to stacks"},
		"of the class of folders":  {"Snapshot", "standard", "csi", nil, "those of the storage class standard cannot on the stack csi: choose with pvc.storageClass: csi or csi-immediate"},
		"Direct, of folders on it": {method: CopyDirect, stack: "csi", class: "standard"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Contract{Name: "p", Stacks: c.stacks, CopyMethod: c.method, PVC: PVC{StorageClass: c.class}}.CheckStack(c.stack, csi)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

// The contract is found beside every form of a policy, and is never a part of it.
func TestContractIsReadWithThePolicy(t *testing.T) {
	folder := write(t, map[string]string{"policy.yaml": good, "conformance.yaml": contract})
	for name, c := range map[string]struct{ path, contract string }{
		"folder":        {folder, "one"},
		"kustomization": {write(t, map[string]string{"policy.yaml": good, "kustomization.yaml": "resources: [policy.yaml]\n", "conformance.yaml": contract}), "one"},
		"file":          {filepath.Join(write(t, map[string]string{"p.yaml": good, "p.conformance.yaml": contract, "conformance.yaml": "broken: ["}), "p.yaml"), "one"},
		"none":          {filepath.Join(folder, "policy.yaml"), "policy.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Load(c.path, planEndpoint(t))
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Objects) != 2 || p.Contract.Name != c.contract {
				t.Errorf("%v, contract %q", p.Describe(), p.Contract.Name)
			}
			if c.contract != "one" && p.Contract.AdmissionBound() != 10*time.Second {
				t.Errorf("without a contract the bound is %s", p.Contract.AdmissionBound())
			}
			raw, err := yaml.Marshal(p.Contract)
			if err != nil {
				t.Fatal(err)
			}
			var back Contract
			if err := yaml.UnmarshalStrict(raw, &back); err != nil || !reflect.DeepEqual(back.Features, p.Contract.Features) || back.AdmissionBound() != p.Contract.AdmissionBound() {
				t.Errorf("it does not survive its way to the specs: %v\n%s", err, raw)
			}
		})
	}
	broken := write(t, map[string]string{"policy.yaml": good, "conformance.yaml": strings.Replace(contract, "one", "''", 1)})
	if _, err := Load(broken, planEndpoint(t)); err == nil || !strings.Contains(err.Error(), "POLICY=") || !strings.Contains(err.Error(), "conformance.yaml:3:7") {
		t.Errorf("a broken contract: %v", err)
	}
}
