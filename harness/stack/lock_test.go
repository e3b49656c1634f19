package stack

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/fixtures"
)

func TestTheLockOfThisRepositoryIsSound(t *testing.T) {
	lock, err := Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	s, err := lock.Stack("")
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != lock.DefaultStack {
		t.Errorf("the empty name gives %s, wanted the default %s", s.Name, lock.DefaultStack)
	}
	for _, name := range []string{"gateway", "agent"} {
		if image, ok := lock.Image(name); !ok || !strings.HasSuffix(image.Reference, ":content") {
			t.Errorf("image %s must be in every lock, with the tag content", name)
		}
	}
}

// valid is a lock with one of everything.
const valid = `
apiVersion: conformance.smart-restore.io/v1alpha1
kind: StackLock
defaultStack: one
releases:
  kubernetes:
  - {name: "1", version: v1.1, digest: "sha256:` + hex64 + `"}
  - {name: "2", version: v1.2, digest: ""}
stacks:
- name: one
  description: d
  versions: {kubernetes: v1, kyverno: v1, volsync: v1}
  node: node-1
  preload: [volsync]
  restic: volsync
  objectStore: s3
  manifests: [crds, kyverno]
  storage: {classes: [{name: plain}]}
- name: two
  from: one
  description: e
  versions: {kyverno: v2}
  objectStore: other
- name: one-on-$(name)
  each: kubernetes
  names: ["2"]
  from: one
  description: e
  versions: {kubernetes: $(version)}
  node: node-$(name)
- name: bare
  description: f
  versions: {kubernetes: v1, volsync: v1}
  node: node-1
  nodes: 2
  preload: [volsync]
  restic: volsync
  objectStore: s3
  manifests: [crds]
  storage: {classes: [{name: csi, snapshots: true}, {name: plain}], snapshotClasses: [csi]}
objectStores:
- {name: s3, image: s3, args: [serve, ":$(port)"], accessKeyEnv: A, secretKeyEnv: S}
- {name: other, image: pulled, args: ["--at=$(port)"], env: {X: y}, accessKeyEnv: A, secretKeyEnv: S}
builds:
- name: b
  packages: [example.com/b/cmd/b]
packageSets:
- {name: p, suite: bookworm, variant: extract, packages: [bash]}
images:
- {name: node-$(name), each: kubernetes, reference: "n:$(version)", digest: $(digest), build: {files: [{text: $(version), to: /v}]}}
- {name: volsync, reference: "v:1", build: {packageSet: p, files: [{binary: b, of: b, to: /b}]}}
- {name: s3, reference: "s:1", build: {files: [{text: x, to: /x}]}}
- {name: pulled, reference: "p:1", digest: "sha256:` + hex64 + `"}
manifests:
- {name: crds, module: example.com/b, of: b, path: crd}
- {name: kyverno, module: github.com/kyverno/kyverno, of: b, path: install.yaml}
`

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParseRefusesWithAReason(t *testing.T) {
	if _, err := Parse([]byte(valid)); err != nil {
		t.Fatalf("the valid lock is refused: %v", err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"no YAML":                {valid, "{", "stacks.yaml:1:1: it is no YAML"},
		"unknown field":          {"  description: d", "  descripton: d", `stacks.yaml:11:3: there is no field "descripton"; there are each, names, name, from, description`},
		"other kind":             {"kind: StackLock", "kind: Other", `stacks.yaml:3:7: kind and apiVersion are "Other" and "conformance.smart-restore.io/v1alpha1", want StackLock and ` + APIVersion},
		"no such default":        {"defaultStack: one", "defaultStack: none", `stacks.yaml:4:15: defaultStack: unknown stack "none"`},
		"from nowhere":           {"from: one", "from: none", `stacks.yaml:19:3: stack "two": from: want a stack without from, found no such stack "none"`},
		"from itself":            {"from: one", "from: two", `no such stack "two"`},
		"no such object store":   {"objectStore: s3", "objectStore: nope", `no object store "nope"`},
		"a store of no image":    {"name: s3, image: s3", "name: s3, image: nope", `no image "nope"`},
		"a store with no port":   {`":$(port)"`, `":7070"`, `object store "s3": args`},
		"a store with no key":    {"accessKeyEnv: A", `accessKeyEnv: ""`, `object store "s3": args`},
		"no such image":          {"preload: [volsync]", "preload: [nope]", `no image "nope"`},
		"no such manifest":       {"manifests: [crds]", "manifests: [nope]", `no manifest "nope"`},
		"no version of VolSync":  {"kyverno: v1, volsync: v1", "kyverno: v1", "must name kubernetes and volsync"},
		"no version of Kyverno":  {"kyverno: v1, ", "", `stack "one": versions must name kyverno where a manifest of github.com/kyverno/kyverno is among its manifests, and only there`},
		"a Kyverno of nowhere":   {"versions: {kubernetes: v1, volsync: v1}", "versions: {kubernetes: v1, kyverno: v1, volsync: v1}", `stack "bare": versions must name kyverno where`},
		"Argo CD of nowhere":     {"kyverno: v1, volsync", "kyverno: v1, argo-cd: v1, volsync", `stack "one": versions must name argo-cd where a manifest of github.com/argoproj/argo-cd/v3 is among its manifests, and only there`},
		"an operator of nowhere": {"kyverno: v1, volsync", "kyverno: v1, external-secrets: v1, volsync", `stack "one": versions must name external-secrets where a manifest of github.com/external-secrets/external-secrets is among its manifests, and only there`},
		"no node":                {"nodes: 2", "nodes: -1", `stack "bare": nodes: want 1 to 3, found -1`},
		"too many nodes":         {"nodes: 2", "nodes: 4", `nodes: want 1 to 3, found 4`},
		"no storage class":       {"  storage: {classes: [{name: plain}]}\n", "  storage: {}\n", `stack "one": storage: classes: want at least one, found none`},
		"a class twice":          {"{name: plain}], snap", "{name: csi}], snap", `storage: classes: want names, each once, found ["csi" "csi"]`},
		"a class of no name":     {"[{name: plain}]}", `[{name: ""}]}`, `storage: classes: want names, each once, found [""]`},
		"no snapshot class":      {", snapshotClasses: [csi]", "", "storage: want snapshotClasses where a class has snapshots, and only there"},
		"a class of nothing":     {"{name: csi, snapshots: true}", "{name: csi}", "storage: want snapshotClasses where a class has snapshots, and only there"},
		"a storage field":        {"[{name: plain}]}", "[{name: plain, snapshot: true}]}", `there is no field "snapshot"`},
		"bad digest":             {hex64, "12", "64 hex digits"},
		"no such table":          {"each: kubernetes\n", "each: etcd\n", `stacks.yaml:24:3: stack "one-on-$(name)": each: found no table "etcd" in releases: the lock has kubernetes`},
		"no such release":        {`names: ["2"]`, `names: ["3"]`, `stacks.yaml:24:3: stack "one-on-$(name)": names: the table kubernetes has no row "3"`},
		"names of nothing":       {"  each: kubernetes\n", "", "each is not set"},
		"a column without each":  {"description: d", "description: $(version)", `stacks.yaml:10:3: stack "one": $(version) needs a row of a table: set each`},
		"no such column":         {"n:$(version)", "n:$(tag)", "$(tag): found no such column: the table has digest, name, version"},
		"an unused column":       {"digest: $(digest), ", "", `stacks.yaml:7:40: releases: kubernetes: nothing uses the column digest`},
		"a row with less":        {`version: v1.2, digest: ""`, "version: v1.2", "row 2 has the columns name, version, want those of the first row: digest, name, version"},
		"a row without a name":   {`name: "2", v`, `name: "", v`, `row 2 needs a unique name, found ""`},
		"two rows of a name":     {`name: "2", v`, `name: "1", v`, `row 2 needs a unique name, found "1"`},
		"a value with quotes":    {"version: v1.2", `version: 'v"'`, "want a column of letters, and a value of"},
		"an empty table":         {"  kubernetes:\n", "  empty: []\n  kubernetes:\n", "releases: empty has no row"},
		"the same name twice":    {"name: node-$(name), each", "name: node-1, each", `image "node-1" is defined twice`},
		"digest in reference":    {`"n:$(version)"`, `"n@sha256:1$(version)"`, "put the digest into digest"},
		"nothing to get it by":   {`, build: {files: [{text: x, to: /x}]}`, "", "want a digest to pull it by, a build, or both"},
		"relative target":        {"to: /b}", "to: b}", "absolute, clean path"},
		"two sources":            {"text: x, to: /x", "text: x, symlink: y, to: /x", `stacks.yaml:52:3: image "s3": file "/x": it has 2 sources`},
		"no such binary":         {"binary: b, of: b", "binary: c, of: b", `no binary "c"`},
		"no such build":          {"binary: b, of: b", "binary: b, of: c", `no build "c"`},
		"bad mode":               {"text: x, to: /x", "text: x, mode: rwx, to: /x", "four octal digits"},
		"bad variant":            {"variant: extract", "variant: most", "minbase or extract"},
		"an unused row":          {`names: ["2"]`, `names: ["1"]`, `stacks.yaml:8:5: releases: kubernetes: no stack uses the row "2": put it under names of the stacks`},
		"an unused image":        {"images:\n", "images:\n- {name: more, reference: \"m:1\", build: {files: [{text: x, to: /x}]}}\n", `stacks.yaml:50:3: image "more": no stack uses it`},
		"an unused store":        {"objectStore: other", "objectStore: s3", `object store "other": no stack uses it`},
		"an unused build":        {"- name: b\n", "- name: more\n- name: b\n", `build "more": no stack uses it`},
		"an unused package set":  {"packageSets:\n", "packageSets:\n- {name: q, suite: s, variant: extract, packages: [a]}\n", `package set "q": no stack uses it`},
		"an unused manifest":     {"manifests:\n-", "manifests:\n- {name: more, module: m, of: b, path: p}\n-", `manifest "more": no stack uses it`},
		"twice":                  {"- name: b\n", "- name: b\n- name: b\n", `stacks.yaml:45:3: build "b" is defined twice`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(valid, c.old, c.new, 1)
			if changed == valid {
				t.Fatalf("%q is not in the valid lock", c.old)
			}
			_, err := Parse([]byte(changed))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, wanted an error that says %q", err, c.want)
			}
		})
	}
}

func TestAStackIsTheOneItIsFromButForWhatItNames(t *testing.T) {
	lock, err := Parse([]byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	one, _ := lock.Stack("one")
	two, _ := lock.Stack("two")
	want := *one
	want.Name, want.From, want.Description, want.ObjectStore = "two", "one", "e", "other"
	if want.Nodes != 1 {
		t.Errorf("a stack that says nothing of nodes has %d, wanted 1", want.Nodes)
	}
	want.Versions = map[string]string{"kubernetes": "v1", "kyverno": "v2", "volsync": "v1"}
	if !reflect.DeepEqual(*two, want) {
		t.Errorf("got %+v, wanted %+v", *two, want)
	}
	if one.Versions["kyverno"] != "v1" {
		t.Error("the stack that another is from was changed")
	}
}

func TestAnEntryStandsForOnePerRelease(t *testing.T) {
	lock, err := Parse([]byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	if names, want := lock.StackNames(), []string{"one", "two", "one-on-2", "bare"}; !slices.Equal(names, want) {
		t.Errorf("the stacks are %v, wanted %v", names, want)
	}
	derived, _ := lock.Stack("one-on-2")
	if derived.Node != "node-2" || derived.Versions["kubernetes"] != "v1.2" || derived.ObjectStore != "s3" || derived.Each != "" {
		t.Errorf("the stack on release 2 is %+v", *derived)
	}
	for name, want := range map[string]Image{
		"node-1": {Name: "node-1", Reference: "n:v1.1", Digest: "sha256:" + hex64},
		"node-2": {Name: "node-2", Reference: "n:v1.2"},
	} {
		image, ok := lock.Image(name)
		if !ok {
			t.Fatalf("there is no image %s", name)
		}
		got := *image
		if *got.Build.Files[0].Text != strings.TrimPrefix(want.Reference, "n:") {
			t.Errorf("%s holds %q", name, *got.Build.Files[0].Text)
		}
		if got.Build = nil; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, wanted %+v", got, want)
		}
	}
}

func TestAStackSaysWhatItHas(t *testing.T) {
	lock, err := Parse([]byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	one, _ := lock.Stack("one-on-2")
	bare, _ := lock.Stack("bare")
	if !one.HasKyverno() || bare.HasKyverno() {
		t.Errorf("with Kyverno: %s %v, %s %v", one.Name, one.HasKyverno(), bare.Name, bare.HasKyverno())
	}
	if one.Nodes != 1 || bare.Nodes != 2 {
		t.Errorf("nodes: %s %d, %s %d", one.Name, one.Nodes, bare.Name, bare.Nodes)
	}
	for name, c := range map[string]struct {
		of    *Stack
		class string
		want  StorageClass
	}{
		"inherited": {one, "", StorageClass{Name: "plain"}},
		"default":   {bare, "", StorageClass{Name: "csi", Snapshots: true}},
		"by name":   {bare, "plain", StorageClass{Name: "plain"}},
		"no such":   {bare, "other", StorageClass{}},
	} {
		if got, ok := c.of.Storage.Class(c.class); got != c.want || ok != (c.want.Name != "") {
			t.Errorf("%s: got %+v, %v, wanted %+v", name, got, ok, c.want)
		}
	}
	if got := bare.Storage.Snapshotted(); !slices.Equal(got, []string{"csi"}) {
		t.Errorf("snapshots of %v", got)
	}
}

// A stack must not promise a class that its manifests do not bring, nor call another one the default.
func TestTheClassesOfAStackAreThoseOfItsManifests(t *testing.T) {
	lock, err := Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	const driver = "manifests/csi"
	brought := map[string]Storage{"": {Classes: []StorageClass{{Name: "standard"}}}, driver: classesIn(t, driver+"/classes.yaml")}
	for _, s := range lock.Stacks {
		from := ""
		if slices.ContainsFunc(s.Manifests, func(name string) bool { m, _ := lock.Manifest(name); return m.Overlay == driver }) {
			from = driver
		}
		if want := brought[from]; !reflect.DeepEqual(s.Storage, want) {
			t.Errorf("stack %s: storage is %+v, its manifests bring %+v", s.Name, s.Storage, want)
		}
	}
}

// classesIn are the classes of a file, the default ones first. The class standard is the node's own, which takes no snapshots.
func classesIn(t *testing.T, file string) (found Storage) {
	t.Helper()
	raw, err := fixtures.Files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Split(string(raw), "\n---\n") {
		var class struct {
			Kind     string
			Metadata struct {
				Name        string
				Annotations map[string]string
			}
			Provisioner string
		}
		if err := yaml.Unmarshal([]byte(text), &class); err != nil {
			t.Fatal(err)
		}
		name := class.Metadata.Name
		switch class.Kind {
		case "StorageClass":
			one := StorageClass{Name: name, Snapshots: class.Provisioner != ""}
			if class.Metadata.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
				found.Classes = slices.Insert(found.Classes, 0, one)
			} else {
				found.Classes = append(found.Classes, one)
			}
		case "VolumeSnapshotClass":
			if class.Metadata.Annotations["snapshot.storage.kubernetes.io/is-default-class"] == "true" {
				found.SnapshotClasses = slices.Insert(found.SnapshotClasses, 0, name)
			} else {
				found.SnapshotClasses = append(found.SnapshotClasses, name)
			}
		}
	}
	return found
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte("stacks: [{name: \"a\\nb\"}]\nimages: [{}, {name: x, build: {files: [{}]}}]\n"))
	position := regexp.MustCompile(`^stacks\.yaml:[1-9][0-9]*:[1-9][0-9]*: \S`)
	f.Fuzz(func(t *testing.T, raw []byte) {
		lock, err := Parse(raw)
		if err == nil && !slices.Contains(lock.StackNames(), lock.DefaultStack) {
			t.Error("a lock without its default stack was taken")
		}
		if err == nil {
			return
		}
		for line := range strings.Lines(err.Error()) {
			if !position.MatchString(line) {
				t.Errorf("no position or no reason: %q", line)
			}
		}
	})
}

// A node pulls nothing: what the driver's manifests run must be in the node, under the same tag.
func TestTheImagesOfTheDriverAreInTheNode(t *testing.T) {
	lock, err := Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	var run []string
	for file, found := range map[string]*regexp.Regexp{
		"manifests/csi/driver.yaml":                   regexp.MustCompile(`(?m)^ +image: (\S+:)(\S+)$`),
		"manifests/csi/controller/kustomization.yaml": regexp.MustCompile(`(?m)^- \{name: (\S+), newTag: (\S+)\}$`),
	} {
		raw, err := fixtures.Files.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range found.FindAllStringSubmatch(string(raw), -1) {
			run = append(run, strings.TrimSuffix(match[1], ":")+":"+match[2])
		}
	}
	slices.Sort(run)
	looked := 0
	for _, s := range lock.Stacks {
		if len(s.Storage.SnapshotClasses) == 0 {
			continue
		}
		looked++
		var preloaded []string
		for _, name := range s.Preload {
			if image, _ := lock.Image(name); strings.Contains(image.Reference, "csi-") || strings.Contains(image.Reference, "snapshot-") {
				preloaded = append(preloaded, image.Reference)
			}
		}
		slices.Sort(preloaded)
		if !slices.Equal(preloaded, run) || len(run) == 0 {
			t.Errorf("stack %s: %q are preloaded, its manifests run %q", s.Name, preloaded, run)
		}
	}
	if looked == 0 {
		t.Error("looked at no stack with snapshots")
	}
}
