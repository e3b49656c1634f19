package policy

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/subject"
)

// csiStack has snapshots, and no Kyverno.
var csiStack = stack.Stack{Name: "volsync-csi", Storage: stack.Storage{SnapshotClasses: []string{"csi"}, Classes: []stack.StorageClass{
	{Name: "csi", Snapshots: true}, {Name: "standard"}}}}

func objectOf(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestClassesThatTheStackDoesNotHaveAreRefused(t *testing.T) {
	folders := stacksNamed("kyverno-1.19")[0]
	for name, c := range map[string]struct {
		of     *stack.Stack
		class  string // of the contract's PVCs
		object string
		want   []string
	}{
		"all there": {&csiStack, "", `{kind: ReplicationSource, metadata: {name: rs}, spec: {restic: {storageClassName: csi, cacheStorageClassName: standard, volumeSnapshotClassName: csi}}}`, nil},
		"a mover's": {&csiStack, "", `{kind: ReplicationSource, metadata: {name: rs}, spec: {restic: {cacheStorageClassName: local}}}`,
			[]string{`ReplicationSource rs: spec.restic.cacheStorageClassName: the stack volsync-csi has no storage class "local"; choose csi or standard`}},
		"a snapshot's": {&csiStack, "", `{kind: VolumeSnapshot, metadata: {name: s}, spec: {volumeSnapshotClassName: ceph}}`,
			[]string{`VolumeSnapshot s: spec.volumeSnapshotClassName: the stack volsync-csi has no VolumeSnapshotClass "ceph"; choose csi`}},
		"a snapshot's, where there is none": {&folders, "", `{kind: VolumeSnapshot, metadata: {name: s}, spec: {volumeSnapshotClassName: csi}}`,
			[]string{`the stack kyverno-1.19 has no VolumeSnapshotClass "csi"; the stack has none: choose one with snapshots, such as kyverno-1.19-csi`}},
		"in a list, twice": {&csiStack, "", `{kind: P, metadata: {name: p}, spec: {rules: [{generate: {spec: {storageClassName: a}}}, {generate: {spec: {storageClassName: b}}}]}}`,
			[]string{`spec.rules[0].generate.spec.storageClassName: the stack volsync-csi has no storage class "a"`, `spec.rules[1].generate.spec.storageClassName: the stack volsync-csi has no storage class "b"`}},
		"that of the contract is made": {&folders, "ceph-block", `{kind: PersistentVolumeClaim, metadata: {name: p}, spec: {storageClassName: ceph-block}}`, nil},
		"an expression":                {&folders, "", `{kind: P, metadata: {name: p}, spec: {storageClassName: "{{ request.object.spec.storageClassName }}"}}`, nil},
		"in CEL": {&csiStack, "", `{kind: GeneratingPolicy, metadata: {name: g}, spec: {variables: [{name: v, expression: '{"spec": dyn({"accessModes": dyn(["x"]), "storageClassName": dyn("ceph-block"), "cacheStorageClassName": dyn("local")})}'}]}}`,
			[]string{`GeneratingPolicy g: spec.variables[0].expression: the stack volsync-csi has no storage class "ceph-block"; choose csi or standard`, `no storage class "local"`}},
		"in CEL, with a type": {&csiStack, "", `{kind: MutatingPolicy, metadata: {name: m}, spec: {mutations: [{applyConfiguration: {expression: 'Object{spec: Object.spec{volumeSnapshotClassName: "ceph", paused: true}}'}}]}}`,
			[]string{`MutatingPolicy m: spec.mutations[0].applyConfiguration.expression: the stack volsync-csi has no VolumeSnapshotClass "ceph"; choose csi`}},
		"in CEL, in other quotes": {&csiStack, "", `{kind: P, metadata: {name: p}, spec: {expression: "{'cacheStorageClassName' : 'local' }"}}`,
			[]string{`spec.expression: the stack volsync-csi has no storage class "local"`}},
		"in CEL, there":                   {&csiStack, "", `{kind: P, metadata: {name: p}, spec: {expression: '{"storageClassName": dyn("csi")}'}}`, nil},
		"in CEL, compared":                {&csiStack, "", `{kind: P, metadata: {name: p}, spec: {expression: 'object.spec.storageClassName == "ceph-block"'}}`, nil},
		"in CEL, compared in a map":       {&csiStack, "", `{kind: P, metadata: {name: p}, spec: {expression: '{"storageClassName": "ceph-block" == variables.class ? "csi" : "standard"}'}}`, nil},
		"in CEL, a variable":              {&csiStack, "", `{kind: P, metadata: {name: p}, spec: {expression: '{"storageClassName": dyn(variables.class)}'}}`, nil},
		"in CEL, where there is none yet": {&csiStack, "", `{kind: P, metadata: {name: p}, spec: {expression: 'has(object.spec.storageClassName) ? object.spec.storageClassName : "ceph-block"'}}`, nil},
		"in CEL, a part of a name":        {&csiStack, "", `{kind: P, metadata: {name: p}, spec: {expression: '{"storageClassName": "ceph-" + variables.kind}'}}`, nil},
		"none":                            {&folders, "", `{kind: P, metadata: {name: p}, spec: {storageClassName: ""}}`, nil},
		"a field's description":           {&folders, "", `{kind: P, metadata: {name: p}, spec: {properties: {storageClassName: {type: string}}}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			contract := Default()
			contract.PVC.StorageClass = c.class
			err := contract.CheckClasses([]*unstructured.Unstructured{objectOf(t, c.object)}, c.of)
			if (err == nil) != (len(c.want) == 0) {
				t.Fatalf("got %v, wanted %q", err, c.want)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, wanted %q", err, want)
				}
			}
		})
	}
}

func TestAPolicyOfKyvernosNeedsIt(t *testing.T) {
	eso := stacksNamed("eso")[0]
	eso.Versions = map[string]string{"external-secrets": "v1"}
	next := stacksNamed("new")[0]
	next.Versions["kubernetes"] = "v1.36.0"
	known := append(stacksNamed("kyverno-1.13", "kyverno-1.19"), csiStack, eso, next)
	known[0].Versions["kubernetes"] = "v1.35.0"
	kyvernos := `{apiVersion: policies.kyverno.io/v1, kind: GeneratingPolicy, metadata: {name: g}}`
	plain := `{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}`
	for name, c := range map[string]struct {
		object string
		stacks []string
		stack  string
		want   string
	}{
		"with it":                     {kyvernos, nil, "kyverno-1.19", ""},
		"made for both":               {kyvernos, []string{"*"}, "volsync-csi", "the stack volsync-csi has no Kyverno, which GeneratingPolicy g needs: choose with STACK=kyverno-1.13"},
		"made for no stack of it":     {kyvernos, []string{"volsync-csi"}, "volsync-csi", "which GeneratingPolicy g needs: add one that has it to stacks in its contract: kyverno-1.13 or kyverno-1.19"},
		"not made for it":             {kyvernos, nil, "volsync-csi", "not for the stack volsync-csi"},
		"nothing of Kyverno's":        {plain, []string{"volsync-csi"}, "volsync-csi", ""},
		"nothing of it, with Kyverno": {plain, nil, "kyverno-1.13", ""},
		"a copy method": {`{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: c}, spec: {rules: [{generate: {data: {spec: {restic: {copyMethod: Clone}}}}}]}}`, nil, "kyverno-1.13",
			"ClusterPolicy c: spec.rules[0].generate.data.spec.restic.copyMethod: Clone needs volumes that can be snapshotted; the stack kyverno-1.13 has none: add one that has it to stacks in its contract: volsync-csi"},
		"a copy method of any volume":   {`{kind: ReplicationSource, metadata: {name: c}, spec: {restic: {copyMethod: Direct}}}`, nil, "kyverno-1.13", ""},
		"a copy method where there are": {`{kind: ReplicationSource, metadata: {name: c}, spec: {restic: {copyMethod: Snapshot}}}`, []string{"volsync-csi"}, "volsync-csi", ""},
		"a generated ExternalSecret": {`{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: c}, spec: {rules: [{generate: {apiVersion: external-secrets.io/v1, kind: ExternalSecret}}]}}`, nil, "kyverno-1.13",
			"ClusterPolicy c: spec.rules[0].generate.apiVersion: the stack kyverno-1.13 does not have the External Secrets Operator, which serves external-secrets.io/v1: add one that has it to stacks in its contract: eso"},
		"an ExternalSecret in CEL": {`{apiVersion: policies.kyverno.io/v1, kind: GeneratingPolicy, metadata: {name: g}, spec: {variables: [{name: v, expression: '[{"apiVersion": dyn("external-secrets.io/v1"), "kind": dyn("ExternalSecret")}]'}]}}`, nil, "kyverno-1.19",
			"GeneratingPolicy g: spec.variables[0].expression: the stack kyverno-1.19 does not have the External Secrets Operator, which serves external-secrets.io/v1: add one that has it to stacks in its contract: eso"},
		// A policy that makes what its stack cannot bring about has to start, for the specs to catch it.
		"a copy method in CEL":       {`{apiVersion: policies.kyverno.io/v1, kind: GeneratingPolicy, metadata: {name: g}, spec: {variables: [{name: v, expression: '{"copyMethod": dyn("Snapshot")}'}]}}`, nil, "kyverno-1.19", ""},
		"a store":                    {`{apiVersion: external-secrets.io/v1, kind: ClusterSecretStore, metadata: {name: c}}`, []string{"*"}, "volsync-csi", "ClusterSecretStore c: apiVersion: the stack volsync-csi does not have"},
		"a store where it is served": {`{apiVersion: external-secrets.io/v1, kind: ClusterSecretStore, metadata: {name: c}}`, []string{"*"}, "eso", ""},
		"a kind of nobody's": {`{apiVersion: helm.toolkit.fluxcd.io/v2, kind: HelmRelease, metadata: {name: h}}`, nil, "kyverno-1.13",
			"HelmRelease h: no stack serves helm.toolkit.fluxcd.io/v2: leave it out"},
		"a kind that the policy brings": {`{apiVersion: v1, kind: List, metadata: {name: l}, items: []}`, nil, "kyverno-1.13", ""},
		"a mutating policy of an earlier Kubernetes": {`{apiVersion: admissionregistration.k8s.io/v1beta1, kind: MutatingAdmissionPolicy, metadata: {name: m}}`, nil, "kyverno-1.13",
			"MutatingAdmissionPolicy m: no stack serves admissionregistration.k8s.io/v1beta1 of it: write admissionregistration.k8s.io/v1, which Kubernetes has since 1.36"},
		"a mutating policy before Kubernetes has it": {`{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicy, metadata: {name: m}}`, []string{"*"}, "kyverno-1.13",
			"MutatingAdmissionPolicy m: Kubernetes has admissionregistration.k8s.io/v1 of it since 1.36, and the stack kyverno-1.13 is on v1.35.0: choose with STACK=new"},
		"a mutating policy where Kubernetes has it": {`{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicyBinding, metadata: {name: m}}`, []string{"*"}, "new", ""},
		"a class is looked at":                      {`{kind: PersistentVolumeClaim, metadata: {name: c}, spec: {storageClassName: x}}`, nil, "kyverno-1.13", `no storage class "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			contract := Default()
			contract.Stacks = c.stacks
			err := (&Policy{Contract: contract, Objects: []*unstructured.Unstructured{objectOf(t, c.object)}}).CheckStack(c.stack, known)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

// What is applied for each PVC is looked at with its variables filled in.
func TestTemplatesNameWhatTheStackHas(t *testing.T) {
	known := append(stacksNamed("kyverno-1.19"), csiStack)
	for name, c := range map[string]struct{ class, method, stack, want string }{
		"there":                   {"csi", "Snapshot", "volsync-csi", ""},
		"a class that is not":     {"ceph-block", "Snapshot", "volsync-csi", `ReplicationSource data: spec.restic.storageClassName: the stack volsync-csi has no storage class "ceph-block"; choose csi or standard`},
		"a method that cannot be": {"standard", "Clone", "kyverno-1.19", "ReplicationSource data: spec.restic.copyMethod: Clone needs volumes that can be snapshotted; the stack kyverno-1.19 has none: choose with STACK=volsync-csi"},
	} {
		t.Run(name, func(t *testing.T) {
			contract := Default()
			contract.Templates, contract.PVC = []string{"."}, PVC{}
			set := &subject.Set{Variables: map[string]string{"CLASS": c.class, "METHOD": c.method}, Objects: []map[string]any{objectOf(t,
				`{apiVersion: volsync.backube/v1alpha1, kind: ReplicationSource, metadata: {name: "{pvc}"}, spec: {restic: {copyMethod: "${METHOD}", storageClassName: "${CLASS}"}}}`).Object}}
			err := (&Policy{Contract: contract, Templates: set}).CheckStack(c.stack, known)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}
