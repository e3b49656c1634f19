package subject

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// good are templates as most people have them.
const good = `apiVersion: v1
kind: Secret
metadata: {name: "${APP}-volsync"}
stringData: {RESTIC_REPOSITORY: "s3:http://10.0.0.1:9000/b/{namespace}/${APP}", AWS_ACCESS_KEY_ID: "${ID}"}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: "${APP}"}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: "${SIZE:=1Gi}"}}}
---
apiVersion: volsync.backube/v1alpha1
kind: ReplicationSource
metadata: {name: "${APP}"}
spec:
  sourcePVC: ${APP}
  restic: {repository: "${APP}-volsync", moverSecurityContext: {runAsUser: "${UID:=568}"}}
---
apiVersion: volsync.backube/v1alpha1
kind: ReplicationDestination
metadata: {name: "${APP}-dst"}
spec: {restic: {repository: "${APP}-volsync", destinationPVC: "{pvc}"}}
`

// setOf are the templates in a text, with APP declared, and the file that they stand in.
func setOf(t *testing.T, text string) (*Set, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "templates.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set := &Set{Variables: map[string]string{"APP": "{pvc}"}}
	for _, document := range strings.Split(text, "---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		set.Objects = append(set.Objects, object)
	}
	return set, file
}

func TestFor(t *testing.T) {
	set, file := setOf(t, good)
	if err := set.Check([]string{file}, []string{"ID"}, false); err != nil {
		t.Fatal(err)
	}
	// It goes to the specs' processes as JSON.
	raw, err := json.Marshal(set)
	there := &Set{}
	if err != nil || json.Unmarshal(raw, there) != nil {
		t.Fatal(err)
	}
	one, err := there.For("ns", "data", map[string]string{"ID": "key", "APP": "a declared one counts"})
	if err != nil {
		t.Fatal(err)
	}
	if one.Claim == nil || one.Claim.Name != "data" || one.Claim.Namespace != "ns" || one.Claim.Spec.Resources.Requests.Storage().String() != "1Gi" {
		t.Errorf("PVC %+v", one.Claim)
	}
	var got []string
	for _, o := range one.Rest() {
		got = append(got, o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName())
	}
	if want := "Secret ns/data-volsync, ReplicationDestination ns/data-dst, ReplicationSource ns/data"; strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if len(one.Before) != 1 {
		t.Errorf("%d objects are applied before the PVC, wanted the Secret", len(one.Before))
	}
	secret, source, destination := one.Rest()[0], one.Rest()[2], one.Rest()[1]
	if found := text(secret, "stringData", "RESTIC_REPOSITORY"); found != "s3:http://10.0.0.1:9000/b/ns/data" {
		t.Error(found)
	}
	if found := text(secret, "stringData", "AWS_ACCESS_KEY_ID"); found != "key" {
		t.Error(found)
	}
	if user, _, _ := unstructured.NestedInt64(source.Object, "spec", "restic", "moverSecurityContext", "runAsUser"); user != 568 {
		t.Errorf("the user is %v: as with Flux, what looks like a number is one", source.Object)
	}
	if text(source, "spec", "sourcePVC") != "data" || text(destination, "spec", "restic", "destinationPVC") != "data" {
		t.Errorf("%v, %v", source.Object, destination.Object)
	}
	if !there.Has(Destination) || !there.Has(Source) || (&Set{}).Has(Source) || (*Set)(nil).Has(Source) {
		t.Error("what it has of VolSync's")
	}
}

// Flux leaves alone what says so, and writes ${NAME} for $${NAME}; what is another tool's template stays.
func TestWhatIsNoPlaceholder(t *testing.T) {
	set, file := setOf(t, good+`---
apiVersion: v1
kind: ConfigMap
metadata: {name: "${APP}-map"}
data: {script: "$${HOME}", other: "{{ .key }}", json: '{"a": 1}'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "{pvc}-as-it-is", labels: {kustomize.toolkit.fluxcd.io/substitute: disabled}}
data: {script: "echo ${1:-x}"}
`)
	if err := set.Check([]string{file}, []string{"ID"}, false); err != nil {
		t.Fatal(err)
	}
	one, err := set.For("ns", "data", map[string]string{"ID": "key"})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, o := range one.Rest() {
		data, _, _ := unstructured.NestedStringMap(o.Object, "data")
		for key, value := range data {
			found[o.GetName()+" "+key] = value
		}
	}
	for key, want := range map[string]string{"data-map script": "${HOME}", "data-map other": "{{ .key }}", "data-map json": `{"a": 1}`, "data-as-it-is script": "echo ${1:-x}"} {
		if found[key] != want {
			t.Errorf("%s is %q, wanted %q", key, found[key], want)
		}
	}
}

func TestTemplatesThatCannotBeAPVCs(t *testing.T) {
	replace := func(old, by string) func(string) string {
		return func(text string) string { return strings.Replace(text, old, by, 1) }
	}
	add := func(more string) func(string) string {
		return func(text string) string { return text + "---\n" + more }
	}
	populated := `accessModes: [ReadWriteOnce], dataSourceRef: {apiGroup: volsync.backube, kind: ReplicationDestination, name: "${APP}-dst"}`
	for name, c := range map[string]struct {
		change func(string) string
		beside bool
		want   string // empty: none is refused
	}{
		"as they are":            {replace("x", "x"), false, ""},
		"populated":              {replace("accessModes: [ReadWriteOnce]", populated), false, ""},
		"an unknown placeholder": {replace("{namespace}", "{cluster}"), false, "templates.yaml:4:60: there is no placeholder {cluster}"},
		"an undeclared variable": {replace("${UID:=568}", "${UID}"), false, "templates.yaml:16:77: nobody says what ${UID} is"},
		"one that transforms":    {replace("${UID:=568}", "${UID^^}"), false, "nobody says what ${UID} is"},
		"a pvc without quotes":   {replace("sourcePVC: ${APP}", "sourcePVC: {pvc}"), false, `templates.yaml:11:1: {pvc} stands without quotes`},
		"no ReplicationSource": {func(text string) string {
			return strings.Split(text, "---\n")[0] + "---\n" + strings.Split(text, "---\n")[1]
		}, false, "no template is a ReplicationSource"},
		"no ReplicationSource, but a policy": {func(text string) string {
			return strings.Split(text, "---\n")[0] + "---\n" + strings.Split(text, "---\n")[1]
		}, true, ""},
		"two PVCs":              {add("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: \"${APP}\"}\n"), false, "there are 2 PersistentVolumeClaims"},
		"a PVC of another name": {replace("metadata: {name: \"${APP}\"}\nspec: {accessModes", "metadata: {name: \"my-${APP}\"}\nspec: {accessModes"), false, `templates.yaml:8:18: the PVC of the templates is called "my-conformance-a"`},
		"backups to two places": {add("apiVersion: volsync.backube/v1alpha1\nkind: ReplicationSource\nmetadata: {name: \"${APP}-r2\"}\nspec: {sourcePVC: \"${APP}\", restic: {repository: \"${APP}-r2\"}}\n"), false,
			"templates.yaml:23:1: there are 2 ReplicationSources in the templates, and a contract is about one repository: list the files of one of them, and write another contract for the other"},
		"restores from two places": {add("apiVersion: volsync.backube/v1alpha1\nkind: ReplicationDestination\nmetadata: {name: \"${APP}-r2\"}\nspec: {restic: {repository: \"${APP}-r2\"}}\n"), false, "there are 2 ReplicationDestinations in the templates"},
		"a repository on a file system": {replace("s3:http://10.0.0.1:9000/b/{namespace}/${APP}", "/repository/${APP}"), false,
			`templates.yaml:4:33: the repository "/repository/conformance-a" of Secret ${APP}-volsync is not in S3, and the suite has no other storage`},
		"a repository of Backblaze's own":          {replace("s3:http://10.0.0.1:9000/b/{namespace}/${APP}", "b2:bucket:${APP}"), false, `the repository "b2:bucket:conformance-a"`},
		"a repository on a file system, in base64": {replace("stringData: {RESTIC_REPOSITORY: \"s3:http://10.0.0.1:9000/b/{namespace}/${APP}\"", "data: {RESTIC_REPOSITORY: L3JlcG9zaXRvcnk="), false, `templates.yaml:4:27: the repository "/repository"`},
		"a repository on a file system, by an operator": {add("apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: \"${APP}-es\"}\nspec: {target: {template: {data: {RESTIC_REPOSITORY: \"/repository/${APP}\"}}}}\n"), false,
			`templates.yaml:26:54: the repository "/repository/conformance-a" of ExternalSecret ${APP}-es is not in S3`},
		"a store":                       {add("apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {name: vault}\n"), false, "templates.yaml:23:1: SecretStore vault is a secret store, and the suite makes the one that the contract names under secretStore: leave it out"},
		"another namespace":             {replace("metadata: {name: \"${APP}-dst\"}", "metadata: {name: \"${APP}-dst\", namespace: volsync-system}"), false, "templates.yaml:20:43: ReplicationDestination ${APP}-dst lies in the namespace volsync-system"},
		"the PVC's namespace":           {replace("metadata: {name: \"${APP}-dst\"}", "metadata: {name: \"${APP}-dst\", namespace: \"{namespace}\"}"), false, ""},
		"a name for all":                {replace("metadata: {name: \"${APP}-volsync\"}", "metadata: {name: volsync}"), false, "templates.yaml:3:18: Secret volsync has the same name for every PVC"},
		"the cluster's":                 {add("apiVersion: v1\nkind: Namespace\nmetadata: {name: \"{pvc}\"}\n"), false, "Namespace {pvc} is the cluster's"},
		"another PVC's source":          {replace("sourcePVC: ${APP}", "sourcePVC: other"), false, `templates.yaml:15:14: ReplicationSource ${APP} backs up the PVC "other"`},
		"another PVC's destination":     {replace(`destinationPVC: "{pvc}"`, `destinationPVC: other`), false, `ReplicationDestination ${APP}-dst restores into the PVC "other"`},
		"another mover":                 {replace("  restic: {repo", "  kopia: {repo"), false, "ReplicationSource ${APP} has no spec.restic"},
		"filled from what is not there": {replace("accessModes: [ReadWriteOnce]", strings.Replace(populated, "-dst", "-bootstrap", 1)), false, "is filled by the ReplicationDestination conformance-a-bootstrap, which no template is: the PVC would wait for ever; choose conformance-a-dst, or add it"},
		"filled from nothing": {func(text string) string {
			parts := strings.Split(strings.Replace(text, "accessModes: [ReadWriteOnce]", populated, 1), "---\n")
			return strings.Join(parts[:3], "---\n")
		}, false, "the PVC would wait for ever; there is none in the templates: add it"},
		"made from a snapshot":            {replace("accessModes: [ReadWriteOnce]", `accessModes: [ReadWriteOnce], dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: x}`), true, "the PVC is made from a VolumeSnapshot: known here is"},
		"filled from what a policy makes": {replace("accessModes: [ReadWriteOnce]", strings.Replace(populated, "-dst", "-bootstrap", 1)), true, ""},
		"filled from another kind":        {replace("accessModes: [ReadWriteOnce]", `accessModes: [ReadWriteOnce], dataSourceRef: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: x}`), true, "the PVC is filled from a VolumeSnapshot of snapshot.storage.k8s.io"},
		"a volume of its own":             {replace("accessModes: [ReadWriteOnce]", "accessModes: [ReadWriteOnce], volumeName: pv-1"), false, "names its volume"},
	} {
		t.Run(name, func(t *testing.T) {
			set, file := setOf(t, c.change(good))
			err := set.Check([]string{file}, []string{"ID"}, c.beside)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}
