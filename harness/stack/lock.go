// Package stack reads the lock: which versions, images, builds and manifests make up each stack the suite can start.
package stack

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/strict"
)

// APIVersion and Kind are those of the lock file.
const (
	APIVersion = "conformance.smart-restore.io/v1alpha1"
	Kind       = "StackLock"
)

const lockFile = "stacks.yaml"

// Lock is the whole lock file. Names are unique within each list, and every name used is defined.
type Lock struct {
	APIVersion   string  `json:"apiVersion"`
	Kind         string  `json:"kind"`
	DefaultStack string  `json:"defaultStack"`
	Stacks       []Stack `json:"stacks"`
	// Releases are tables of versions, for entries that stand for one entry per version.
	Releases     map[string][]Release `json:"releases,omitempty"`
	ObjectStores []ObjectStore        `json:"objectStores"`
	Builds       []Build              `json:"builds"`
	PackageSets  []PackageSet         `json:"packageSets"`
	Images       []Image              `json:"images"`
	Manifests    []Manifest           `json:"manifests"`

	doc   *strict.Document          // for positions
	rowOf map[entryName]releaseName // of entries with each: the row that they are of
}

// Stack is one combination of versions that can be started as a whole (STACK=name). With From, it inherits every field that
// it does not set from that stack.
type Stack struct {
	PerRelease
	Name        string            `json:"name"`
	From        string            `json:"from,omitempty"` // a stack without from
	Description string            `json:"description"`
	Versions    map[string]string `json:"versions"`        // component → wanted version; the report has the observed one
	Node        string            `json:"node"`            // image
	Nodes       int               `json:"nodes,omitempty"` // how many the cluster has; 0 in the file is 1
	Preload     []string          `json:"preload"`         // images baked into the node
	Restic      string            `json:"restic"`          // the preloaded image that has restic
	ObjectStore string            `json:"objectStore"`
	Manifests   []string          `json:"manifests"` // installed together
	// UpgradesFrom is the manifest of another version of Kyverno, which specs put in the place of the stack's own.
	UpgradesFrom string  `json:"upgradesFrom,omitempty"`
	Storage      Storage `json:"storage"`
}

// Storage is what volumes a stack has.
type Storage struct {
	Classes         []StorageClass `json:"classes"`                   // the first is the cluster's default
	SnapshotClasses []string       `json:"snapshotClasses,omitempty"` // the first is the cluster's default
}

// StorageClass is a class of volumes.
type StorageClass struct {
	Name      string `json:"name"`
	Snapshots bool   `json:"snapshots,omitempty"` // its volumes can be snapshotted and cloned
}

// KyvernoModule is the module of the manifests that install Kyverno.
const KyvernoModule = "github.com/kyverno/kyverno"

// HasKyverno says whether Kyverno is part of the stack.
func (s *Stack) HasKyverno() bool { return s.Versions["kyverno"] != "" }

// ExternalSecretsModule is the module of the manifests that install the External Secrets Operator.
const ExternalSecretsModule = "github.com/external-secrets/external-secrets" //nolint:gosec // no credential

// HasExternalSecrets says whether the External Secrets Operator is part of the stack.
func (s *Stack) HasExternalSecrets() bool { return s.Versions["external-secrets"] != "" }

// ArgoCDModule is the module of the manifests that install Argo CD.
const ArgoCDModule = "github.com/argoproj/argo-cd/v3"

// HasArgoCD says whether Argo CD is part of the stack.
func (s *Stack) HasArgoCD() bool { return s.Versions["argo-cd"] != "" }

// Class finds a storage class by name; the empty name is the default one.
func (s *Storage) Class(name string) (StorageClass, bool) {
	i := slices.IndexFunc(s.Classes, func(c StorageClass) bool { return name == "" || c.Name == name })
	if i < 0 {
		return StorageClass{}, false
	}
	return s.Classes[i], true
}

// Snapshotted are the names of the storage classes whose volumes can be snapshotted.
func (s *Storage) Snapshotted() (names []string) {
	for _, c := range s.Classes {
		if c.Snapshots {
			names = append(names, c.Name)
		}
	}
	return names
}

// ObjectStore is an S3 server that serves plain HTTP, without TLS, as a NAS in a home network does.
type ObjectStore struct {
	Name         string            `json:"name"`
	Image        string            `json:"image"`
	Args         []string          `json:"args"` // $(port) stands for the port to listen at
	Env          map[string]string `json:"env,omitempty"`
	AccessKeyEnv string            `json:"accessKeyEnv"` // the environment variable that takes the root user's access key
	SecretKeyEnv string            `json:"secretKeyEnv"` // … and its secret key
}

const portPlace = "$(port)"

// ArgsFor returns the server's arguments for a port.
func (o *ObjectStore) ArgsFor(port string) []string {
	args := slices.Clone(o.Args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], portPlace, port)
	}
	return args
}

// Build compiles packages of one Go module graph, pinned by builds/<Name>.mod and .sum. With no packages it only
// provides the files of its modules.
type Build struct {
	PerRelease
	Name     string            `json:"name"`
	Packages []string          `json:"packages,omitempty"`
	Binaries map[string]string `json:"binaries,omitempty"` // package → file name, where it is not the package's last element
	LDFlags  string            `json:"ldflags,omitempty"`
}

// PackageSet is a root file system unpacked from Debian packages.
type PackageSet struct {
	Name     string   `json:"name"`
	Suite    string   `json:"suite"`
	Variant  string   `json:"variant"` // mmdebstrap's: minbase (configured) or extract (unpacked only)
	Packages []string `json:"packages"`
	Remove   []string `json:"remove,omitempty"` // shell globs below the root
}

// Image is one container image: pulled by digest, built, or either.
type Image struct {
	PerRelease
	Name      string      `json:"name"`
	Reference string      `json:"reference"`
	Digest    string      `json:"digest,omitempty"` // sha256:<64 hex digits>
	Build     *ImageBuild `json:"build,omitempty"`
}

// ImageBuild is the recipe of an image: a package set, files on top of it, and the image's configuration.
type ImageBuild struct {
	PackageSet string   `json:"packageSet,omitempty"`
	Files      []File   `json:"files"`
	Preload    []string `json:"preload,omitempty"` // images baked into this one (a node)
	Entrypoint []string `json:"entrypoint,omitempty"`
	Env        []string `json:"env,omitempty"`
	User       string   `json:"user,omitempty"`
	StopSignal string   `json:"stopSignal,omitempty"`
}

// File puts one thing into an image. Exactly one source is set.
type File struct {
	To   string `json:"to"`
	Mode string `json:"mode,omitempty"` // octal; default 0755 for binaries and programs, 0644 for the rest

	Binary    string  `json:"binary,omitempty"`  // a binary of the build Of
	Module    string  `json:"module,omitempty"`  // a module of the build Of; Path is a file or folder in it
	Program   string  `json:"program,omitempty"` // a main package of this project
	Fixture   string  `json:"fixture,omitempty"` // a file of fixtures/
	Symlink   string  `json:"symlink,omitempty"` // the link's target
	Text      *string `json:"text,omitempty"`    // the content itself
	Directory bool    `json:"directory,omitempty"`

	Of   string `json:"of,omitempty"`
	Path string `json:"path,omitempty"`
}

// Manifest is a set of Kubernetes objects from a file or kustomization of a pinned module, with an optional overlay: a
// kustomization in fixtures/ that names the upstream as "upstream" (a folder) or "upstream.yaml" (a file).
type Manifest struct {
	PerRelease
	Name    string `json:"name"`
	Module  string `json:"module"`
	Of      string `json:"of"`
	Path    string `json:"path"`
	Overlay string `json:"overlay,omitempty"`
	Tag     string `json:"tag,omitempty"` // of its images that upstream tags "latest"
}

// Load reads stacks.yaml from files and checks it whole; every problem found is in the error.
func Load(files fs.FS) (*Lock, error) {
	raw, err := fs.ReadFile(files, lockFile)
	if err != nil {
		return nil, fmt.Errorf("stack lock: %w", err)
	}
	lock, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, b := range lock.Builds {
		for _, ext := range []string{".mod", ".sum"} {
			if _, err := fs.Stat(files, "builds/"+b.Name+ext); err != nil {
				problems = append(problems, fmt.Errorf("build %s: fixtures/builds/%s%s is missing (CONTRIBUTING.md, \"Add a stack\", says how to make it)", b.Name, b.Name, ext))
			}
		}
	}
	for _, image := range lock.Images {
		if image.Build == nil {
			continue
		}
		for _, f := range image.Build.Files {
			if f.Fixture == "" {
				continue
			}
			if _, err := fs.Stat(files, f.Fixture); err != nil {
				problems = append(problems, fmt.Errorf("image %s: fixtures/%s is missing", image.Name, f.Fixture))
			}
		}
	}
	for _, m := range lock.Manifests {
		if m.Overlay == "" {
			continue
		}
		if _, err := fs.Stat(files, path.Join(m.Overlay, "kustomization.yaml")); err != nil {
			problems = append(problems, fmt.Errorf("manifest %s: fixtures/%s/kustomization.yaml is missing", m.Name, m.Overlay))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("stack lock: %w", err)
	}
	return lock, nil
}

// Parse reads a lock strictly: unknown fields, duplicate names, dangling names and malformed values are errors, each with
// its position.
func Parse(raw []byte) (*Lock, error) {
	var lock Lock
	doc, err := strict.Read(lockFile, raw, &lock)
	if err != nil {
		return nil, err
	}
	lock.doc = doc
	if err := lock.expand(); err != nil { // everything else reads what it makes
		return nil, err
	}
	if err := errors.Join(lock.derive(), lock.validate()); err != nil {
		return nil, err
	}
	if err := lock.checkUse(); err != nil { // a name that is dangling would make other entries unused
		return nil, err
	}
	return &lock, nil
}

// The lock's lists, as errors name their entries.
var entryOf = map[string]string{
	"stacks": "stack", "objectStores": "object store", "builds": "build", "packageSets": "package set", "images": "image", "manifests": "manifest",
}

// wrong is what is wrong with an entry of one of the lists, at its position.
func (l *Lock) wrong(list, name, format string, args ...any) error {
	return l.doc.At(fmt.Sprintf("%s %q: ", entryOf[list], name)+fmt.Sprintf(format, args...), list, strict.Named(name))
}

// derive fills in what stacks inherit. A stack inherits from a stack without from only, so that no more than two entries have
// to be read to know a stack.
func (l *Lock) derive() error {
	var problems []error
	for i := range l.Stacks {
		s := &l.Stacks[i]
		if s.From == "" {
			continue
		}
		base, ok := find(l.Stacks, s.From, stackName)
		if !ok || base.From != "" {
			problems = append(problems, l.wrong("stacks", s.Name, "from: want a stack without from, found no such stack %q", s.From))
			continue
		}
		versions := maps.Clone(base.Versions)
		maps.Copy(versions, s.Versions)
		s.Versions = versions
		s.Node, s.Restic, s.ObjectStore = cmp.Or(s.Node, base.Node), cmp.Or(s.Restic, base.Restic), cmp.Or(s.ObjectStore, base.ObjectStore)
		s.Nodes, s.UpgradesFrom = cmp.Or(s.Nodes, base.Nodes), cmp.Or(s.UpgradesFrom, base.UpgradesFrom)
		if s.Preload == nil {
			s.Preload = slices.Clone(base.Preload)
		}
		if s.Manifests == nil {
			s.Manifests = slices.Clone(base.Manifests)
		}
		if s.Storage.Classes == nil {
			s.Storage.Classes = slices.Clone(base.Storage.Classes)
		}
		if s.Storage.SnapshotClasses == nil {
			s.Storage.SnapshotClasses = slices.Clone(base.Storage.SnapshotClasses)
		}
	}
	for i := range l.Stacks {
		l.Stacks[i].Nodes = cmp.Or(l.Stacks[i].Nodes, 1)
	}
	return errors.Join(problems...)
}

// Stack finds a stack by name; the empty name is the default one.
func (l *Lock) Stack(name string) (*Stack, error) {
	if name == "" {
		name = l.DefaultStack
	}
	for i := range l.Stacks {
		if l.Stacks[i].Name == name {
			return &l.Stacks[i], nil
		}
	}
	return nil, fmt.Errorf("unknown stack %q: the lock has %s", name, strings.Join(l.StackNames(), ", "))
}

// StackNames lists the stacks in the lock's order.
func (l *Lock) StackNames() []string {
	return namesOf(l.Stacks, stackName)
}

// Image finds an image by name. Names used inside a loaded lock always resolve.
func (l *Lock) Image(name string) (*Image, bool) { return find(l.Images, name, imageName) }

// ObjectStore finds an S3 server by name.
func (l *Lock) ObjectStore(name string) (*ObjectStore, bool) {
	return find(l.ObjectStores, name, objectStoreName)
}

// Build finds a build by name.
func (l *Lock) Build(name string) (*Build, bool) { return find(l.Builds, name, buildName) }

// PackageSet finds a package set by name.
func (l *Lock) PackageSet(name string) (*PackageSet, bool) {
	return find(l.PackageSets, name, packageSetName)
}

// Manifest finds a manifest by name.
func (l *Lock) Manifest(name string) (*Manifest, bool) { return find(l.Manifests, name, manifestName) }

// BinaryName is the file name that a package of the build compiles to.
func (b *Build) BinaryName(pkg string) string {
	if name, ok := b.Binaries[pkg]; ok {
		return name
	}
	return path.Base(pkg)
}

// Pinned is the image's reference with its digest, as a registry is asked for it; empty where no digest is known.
func (i *Image) Pinned() string {
	if i.Digest == "" {
		return ""
	}
	return i.Reference + "@" + i.Digest
}

func stackName(s Stack) string             { return s.Name }
func objectStoreName(o ObjectStore) string { return o.Name }
func imageName(i Image) string             { return i.Name }
func buildName(b Build) string             { return b.Name }
func packageSetName(p PackageSet) string   { return p.Name }
func manifestName(m Manifest) string       { return m.Name }

func find[T any](list []T, name string, nameOf func(T) string) (*T, bool) {
	i := slices.IndexFunc(list, func(t T) bool { return nameOf(t) == name })
	if i < 0 {
		return nil, false
	}
	return &list[i], true
}

func unique[T any](l *Lock, list string, entries []T, nameOf func(T) string) error {
	seen := map[string]bool{}
	var problems []error
	for i, entry := range entries {
		name := nameOf(entry)
		switch {
		case name == "":
			problems = append(problems, l.doc.At("this "+entryOf[list]+" has no name", list, i))
		case seen[name]:
			problems = append(problems, l.doc.At(fmt.Sprintf("%s %q is defined twice", entryOf[list], name), list, strict.Named(name)))
		}
		seen[name] = true
	}
	return errors.Join(problems...)
}

func (l *Lock) validate() error {
	var problems []error
	report := func(list, name, format string, args ...any) {
		problems = append(problems, l.wrong(list, name, format, args...))
	}
	if l.APIVersion != APIVersion || l.Kind != Kind {
		problems = append(problems, l.doc.At(fmt.Sprintf("kind and apiVersion are %q and %q, want %s and %s", l.Kind, l.APIVersion, Kind, APIVersion), "kind"))
	}
	problems = append(problems,
		unique(l, "stacks", l.Stacks, stackName),
		unique(l, "objectStores", l.ObjectStores, objectStoreName),
		unique(l, "builds", l.Builds, buildName),
		unique(l, "packageSets", l.PackageSets, packageSetName),
		unique(l, "images", l.Images, imageName),
		unique(l, "manifests", l.Manifests, manifestName))
	if _, err := l.Stack(""); err != nil {
		problems = append(problems, l.doc.At("defaultStack: "+err.Error(), "defaultStack"))
	}
	for _, s := range l.Stacks {
		for _, name := range slices.Concat([]string{s.Node, s.Restic}, s.Preload) {
			if _, ok := l.Image(name); !ok {
				report("stacks", s.Name, "there is no image %q", name)
			}
		}
		if _, ok := l.ObjectStore(s.ObjectStore); !ok {
			report("stacks", s.Name, "there is no object store %q", s.ObjectStore)
		}
		for _, name := range s.Manifests {
			if _, ok := l.Manifest(name); !ok {
				report("stacks", s.Name, "there is no manifest %q", name)
			}
		}
		if s.Versions["kubernetes"] == "" || s.Versions["volsync"] == "" {
			report("stacks", s.Name, "versions must name kubernetes and volsync")
		}
		if l.installs(s, KyvernoModule) != s.HasKyverno() {
			report("stacks", s.Name, "versions must name kyverno where a manifest of %s is among its manifests, and only there", KyvernoModule)
		}
		if l.installs(s, ExternalSecretsModule) != s.HasExternalSecrets() {
			report("stacks", s.Name, "versions must name external-secrets where a manifest of %s is among its manifests, and only there", ExternalSecretsModule)
		}
		if l.installs(s, ArgoCDModule) != s.HasArgoCD() {
			report("stacks", s.Name, "versions must name argo-cd where a manifest of %s is among its manifests, and only there", ArgoCDModule)
		}
		for _, problem := range l.upgradeProblems(s) {
			report("stacks", s.Name, "upgradesFrom: %s", problem)
		}
		if s.Nodes < 1 || s.Nodes > MaxNodes {
			report("stacks", s.Name, "nodes: want 1 to %d, found %d", MaxNodes, s.Nodes)
		}
		for _, problem := range s.Storage.problems() {
			report("stacks", s.Name, "storage: %s", problem)
		}
	}
	for _, o := range l.ObjectStores {
		if _, ok := l.Image(o.Image); !ok {
			report("objectStores", o.Name, "there is no image %q", o.Image)
		}
		if !strings.Contains(strings.Join(o.Args, " "), portPlace) || o.AccessKeyEnv == "" || o.SecretKeyEnv == "" {
			report("objectStores", o.Name, "args with %s, accessKeyEnv and secretKeyEnv are required", portPlace)
		}
	}
	for _, b := range l.Builds {
		for pkg := range maps.Keys(b.Binaries) {
			if !slices.Contains(b.Packages, pkg) {
				report("builds", b.Name, "binaries names %q, which is not among its packages", pkg)
			}
		}
	}
	for _, p := range l.PackageSets {
		if p.Suite == "" || len(p.Packages) == 0 || (p.Variant != "minbase" && p.Variant != "extract") {
			report("packageSets", p.Name, "suite, packages and variant (minbase or extract) are required")
		}
	}
	for i := range l.Images {
		for _, err := range l.validateImage(&l.Images[i]) {
			report("images", l.Images[i].Name, "%v", err)
		}
	}
	for _, m := range l.Manifests {
		if _, ok := l.Build(m.Of); !ok {
			report("manifests", m.Name, "there is no build %q", m.Of)
		}
		if m.Module == "" || m.Path == "" {
			report("manifests", m.Name, "module and path are required")
		}
	}
	return errors.Join(problems...)
}

// upgradeProblems are what keeps a stack from having another version of Kyverno in the place of its own.
func (l *Lock) upgradeProblems(s Stack) (problems []string) {
	if s.UpgradesFrom == "" {
		return nil
	}
	m, ok := l.Manifest(s.UpgradesFrom)
	if !ok || m.Module != KyvernoModule || slices.Contains(s.Manifests, s.UpgradesFrom) || !s.HasKyverno() {
		return []string{fmt.Sprintf("want a manifest of %s that is none of the stack's own, found %q", KyvernoModule, s.UpgradesFrom)}
	}
	of, perRelease := l.rowOf[entryName{"manifests", s.UpgradesFrom}]
	for i := range l.Images {
		name := l.Images[i].Name
		if row, ok := l.rowOf[entryName{"images", name}]; perRelease && ok && row == of && !slices.Contains(s.Preload, name) {
			problems = append(problems, fmt.Sprintf("the node needs the image %s, too: add it to preload", name))
		}
	}
	return problems
}

// MaxNodes is how many nodes a cluster may have: each has the next /24 of the pods' addresses, and all of them share this machine.
const MaxNodes = 3

// installs says whether a manifest of the stack is of the module.
func (l *Lock) installs(s Stack, module string) bool {
	return slices.ContainsFunc(s.Manifests, func(name string) bool {
		m, ok := l.Manifest(name)
		return ok && m.Module == module
	})
}

func (s *Storage) problems() (problems []string) {
	var names []string
	for _, c := range s.Classes {
		names = append(names, c.Name)
	}
	for what, names := range map[string][]string{"classes": names, "snapshotClasses": s.SnapshotClasses} {
		if sorted := slices.Sorted(slices.Values(names)); slices.Contains(names, "") || len(slices.Compact(sorted)) != len(names) {
			problems = append(problems, fmt.Sprintf("%s: want names, each once, found %q", what, names))
		}
	}
	if len(s.Classes) == 0 {
		problems = append(problems, "classes: want at least one, found none")
	}
	if len(s.Snapshotted()) > 0 != (len(s.SnapshotClasses) > 0) {
		problems = append(problems, "want snapshotClasses where a class has snapshots, and only there")
	}
	slices.Sort(problems)
	return problems
}

func (l *Lock) validateImage(image *Image) (problems []error) {
	report := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if image.Reference == "" || strings.Contains(image.Reference, "@") {
		report("reference %q must be name:tag; put the digest into digest", image.Reference)
	}
	if image.Digest == "" && image.Build == nil {
		report("want a digest to pull it by, a build, or both; found neither")
	}
	if hex, ok := strings.CutPrefix(image.Digest, "sha256:"); image.Digest != "" && (!ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "") {
		report("digest %q is not sha256:<64 hex digits>", image.Digest)
	}
	if image.Build == nil {
		return problems
	}
	if set := image.Build.PackageSet; set != "" {
		if _, ok := l.PackageSet(set); !ok {
			report("there is no package set %q", set)
		}
	}
	for _, name := range image.Build.Preload {
		if preloaded, ok := l.Image(name); !ok || preloaded.Build == nil {
			report("preload: there is no image %q with a build", name)
		}
	}
	for _, f := range image.Build.Files {
		if err := l.validateFile(f); err != nil {
			report("file %q: %w", f.To, err)
		}
	}
	return problems
}

func (l *Lock) validateFile(f File) error {
	if !path.IsAbs(f.To) || path.Clean(f.To) != f.To {
		return errors.New("to must be an absolute, clean path")
	}
	if f.Mode != "" && (len(f.Mode) != 4 || strings.Trim(f.Mode, "01234567") != "") {
		return fmt.Errorf("mode %q is not four octal digits", f.Mode)
	}
	sources := 0
	for _, set := range []bool{f.Binary != "", f.Module != "", f.Program != "", f.Fixture != "", f.Symlink != "", f.Text != nil, f.Directory} {
		if set {
			sources++
		}
	}
	if sources != 1 {
		return fmt.Errorf("it has %d sources, want exactly one of binary, module, program, fixture, symlink, text, directory", sources)
	}
	if f.Binary == "" && f.Module == "" {
		if f.Of != "" || f.Path != "" {
			return errors.New("of and path go with binary or module only")
		}
		return nil
	}
	build, ok := l.Build(f.Of)
	if !ok {
		return fmt.Errorf("there is no build %q", f.Of)
	}
	if f.Binary != "" && !slices.ContainsFunc(build.Packages, func(pkg string) bool { return build.BinaryName(pkg) == f.Binary }) {
		return fmt.Errorf("build %q has no binary %q", f.Of, f.Binary)
	}
	return nil
}
