package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/stack"
)

// The images of this repository that every stack uses besides its own.
const (
	GatewayImage = "gateway"
	AgentImage   = "agent"
)

// BakePrefix begins the names of the containers that nodes are baked in; the run's ID follows, so that a later run can
// remove them. A label would be inherited by the image, and so by every node.
const BakePrefix = "smart-restore-bake-"

// Set is a stack's images, ready to be used.
type Set struct {
	Node        string // the engine's reference of the baked node image
	NodePulled  bool   // the node is upstream's, with its own control plane, CNI and provisioner
	ObjectStore string // the engine's reference
	Gateway     string // the engine's reference

	Agent        string // the reference that pods use
	AgentArchive string // the docker archive to import into the node

	Restic string // the reference that pods use of an image that has restic: the mover's
}

// Make makes every image of the stack, building and pulling what is not there yet. runID labels what it starts.
func (m *Maker) Make(ctx context.Context, s *stack.Stack, runID string) (*Set, error) {
	node, _ := m.Lock.Image(s.Node)
	nodeSource, err := m.nodeSource(ctx, s, node)
	if err != nil {
		return nil, err
	}
	preload := preloadOf(s, node, nodeSource == FromRegistry)
	names := append(slices.Clone(preload), m.objectStore(s))
	if nodeSource != FromRegistry {
		names = append([]string{s.Node}, names...)
	}
	if err := m.compile(ctx, names); err != nil {
		return nil, err
	}
	set := &Set{NodePulled: nodeSource == FromRegistry}
	if set.Node, err = m.bakedNode(ctx, s, node, set.NodePulled, preload, runID); err != nil {
		return nil, err
	}
	if set.ObjectStore, err = m.inEngine(ctx, m.objectStore(s)); err != nil {
		return nil, err
	}
	if set.Gateway, err = m.Gateway(ctx); err != nil {
		return nil, err
	}
	if set.Agent, set.AgentArchive, err = m.Agent(ctx); err != nil {
		return nil, err
	}
	restic, _ := m.Lock.Image(s.Restic)
	set.Restic = restic.Reference
	return set, nil
}

// objectStore names the image of the stack's S3 server. It runs beside the node: no node's content hangs on it.
func (m *Maker) objectStore(s *stack.Stack) string {
	server, _ := m.Lock.ObjectStore(s.ObjectStore)
	return server.Image
}

// preloadOf lists the images to bake into the stack's node. A pulled node has those of its own already.
func preloadOf(s *stack.Stack, node *stack.Image, pulled bool) []string {
	if pulled || node.Build == nil {
		return slices.Clone(s.Preload)
	}
	return slices.Concat(node.Build.Preload, s.Preload)
}

// nodeSource decides on the node, whose source decides what must be baked into it.
func (m *Maker) nodeSource(ctx context.Context, s *stack.Stack, node *stack.Image) (Source, error) {
	// A node that is baked already settles it, without asking anybody.
	for _, pulled := range []bool{false, true} {
		if pulled && (node.Digest == "" || m.Mode == Build) || !pulled && (node.Build == nil || m.Mode == Pull) {
			continue
		}
		if reference, err := m.bakedReference(ctx, node, pulled, preloadOf(s, node, pulled)); err == nil && m.Engine.HasImage(ctx, reference) {
			if pulled {
				return FromRegistry, nil
			}
			return FromCache, nil
		}
	}
	source, err := m.source(ctx, node)
	if source == FromCache && m.Mode != Build && m.Engine.HasImage(ctx, node.Pinned()) && !m.isBuilt(ctx, node) {
		source = FromRegistry
	}
	return source, err
}

// compile runs every Go build and package set that the images need and the cache lacks, with its progress shown.
// Go builds run one after the other, each using all cores; packages are unpacked meanwhile. An image that can be had from nowhere is
// an error before anything is compiled.
func (m *Maker) compile(ctx context.Context, names []string) error {
	var builds []*stack.Build
	var sets []*stack.PackageSet
	var problems []error
	for _, name := range names {
		image, _ := m.Lock.Image(name)
		source, err := m.source(ctx, image)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if source != FromBuild {
			continue
		}
		if image.Build.PackageSet != "" {
			if set, _ := m.Lock.PackageSet(image.Build.PackageSet); !slices.Contains(sets, set) {
				sets = append(sets, set)
			}
		}
		for _, f := range image.Build.Files {
			if f.Binary == "" {
				continue
			}
			if build, _ := m.Lock.Build(f.Of); !slices.Contains(builds, build) && !m.Modules.Has(build) {
				builds = append(builds, build)
			}
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for i, build := range builds {
			task := m.Log.Task("images: compiling %s (%d of %d)", build.Name, i+1, len(builds))
			_, err := m.Modules.Build(ctx, build, func(packages int) { task.Status("%d packages compiled", packages) })
			if task.Done(err) != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for i, set := range sets {
			task := m.Log.Task("images: unpacking Debian packages %s (%d of %d)", set.Name, i+1, len(sets))
			_, err := m.packages(ctx, set)
			if task.Done(err) != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// Prebuild compiles and puts together everything of the stack that can be built, into the cache: a later Make of it finds
// that there. What can only be pulled is left to Make. It asks no registry and needs no engine.
func (m *Maker) Prebuild(ctx context.Context, s *stack.Stack) error {
	if m.Mode != Build {
		return fmt.Errorf("images are prebuilt with IMAGES=%s, not %s", Build, m.Mode)
	}
	names := slices.DeleteFunc(m.stackImages(s), func(name string) bool {
		image, _ := m.Lock.Image(name)
		if image.Build == nil {
			m.Log.Printf("images: %s has no build: it is pulled when the stack is started", name)
		}
		return image.Build == nil
	})
	if err := m.compile(ctx, names); err != nil {
		return err
	}
	task := m.Log.Task("images: putting %s together", s.Name)
	for i, name := range names {
		task.Status("%d of %d", i, len(names))
		image, _ := m.Lock.Image(name)
		if _, err := m.build(ctx, image); err != nil {
			return task.Done(err)
		}
	}
	return task.Done(nil)
}

// Agent makes the agent's image, which is imported into nodes as an archive, and returns its reference and archive.
func (m *Maker) Agent(ctx context.Context) (reference, archive string, err error) {
	image, _ := m.Lock.Image(AgentImage)
	built, err := m.build(ctx, image)
	if err != nil {
		return "", "", err
	}
	return built.reference, built.archive, nil
}

// AgentBinary compiles the agent and returns its path, which is good for this process only.
func (m *Maker) AgentBinary(ctx context.Context) (string, error) {
	return m.program(ctx, "harness/cmd/agent")
}

// Gateway makes the gateway's image available to the engine and returns its reference.
func (m *Maker) Gateway(ctx context.Context) (string, error) { return m.inEngine(ctx, GatewayImage) }

// inEngine makes an image available to the engine and returns the reference to start it by.
func (m *Maker) inEngine(ctx context.Context, name string) (string, error) {
	image, _ := m.Lock.Image(name)
	source, err := m.source(ctx, image)
	if err != nil {
		return "", err
	}
	if pinned := image.Pinned(); pinned != "" && m.Mode != Build && (source == FromRegistry || source == FromCache && m.Engine.HasImage(ctx, pinned)) {
		return pinned, m.pull(ctx, image)
	}
	built, err := m.build(ctx, image)
	if err != nil {
		return "", err
	}
	reference := engineReference(name, built.key)
	if m.Engine.HasImage(ctx, reference) {
		return reference, nil
	}
	task := m.Log.Task("images: loading %s into the engine", name)
	return reference, task.Done(m.load(ctx, built, reference))
}

const (
	engineReferences = "smart-restore/" // what all of ours begin with
	nodeBase         = "node-base"
)

// engineReference is our own name for a built image in the engine: upstream's name would pass for upstream's image.
func engineReference(name, key string) string { return engineReferences + name + ":" + key[:12] }

func (m *Maker) load(ctx context.Context, b *built, reference string) error {
	archive, err := os.Open(b.archive)
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }()
	if _, err := m.Engine.DockerWithInput(ctx, archive, "load", "--quiet"); err != nil {
		return err
	}
	if _, err := m.Engine.Docker(ctx, "tag", b.reference, reference); err != nil {
		return err
	}
	_, err = m.Engine.Docker(ctx, "rmi", "--no-prune", b.reference)
	return err
}

func (m *Maker) pull(ctx context.Context, image *stack.Image) error {
	if m.Engine.HasImage(ctx, image.Pinned()) {
		return nil
	}
	task := m.Log.Task("images: pulling %s", image.Pinned())
	_, err := m.Engine.Docker(ctx, "pull", "--quiet", image.Pinned())
	if err != nil && image.Build != nil {
		err = fmt.Errorf("image %s: %w; IMAGES=build builds it instead", image.Name, err)
	}
	return task.Done(err)
}

// bakedReference names the node image that holds exactly these images; it is the key of the bake.
func (m *Maker) bakedReference(ctx context.Context, node *stack.Image, pulled bool, preload []string) (string, error) {
	parts := []any{"bake/3", pulled}
	for _, name := range append([]string{node.Name}, preload...) {
		image, _ := m.Lock.Image(name)
		switch {
		case image.Build != nil && (name != node.Name || !pulled) && (image.Digest == "" || !m.Engine.HasImage(ctx, image.Pinned())):
			key, err := m.key(ctx, image)
			if err != nil {
				return "", err
			}
			parts = append(parts, key)
		default:
			parts = append(parts, image.Pinned())
		}
	}
	return engineReference("node", cache.Key(parts...)), nil
}

// bakedNode returns the stack's node image with all its images inside, baking it where the engine lacks it.
func (m *Maker) bakedNode(ctx context.Context, s *stack.Stack, node *stack.Image, pulled bool, preload []string, runID string) (string, error) {
	var archives []string
	anyPulled := pulled
	reference, err := m.bakedReference(ctx, node, pulled, preload)
	if err != nil {
		return "", err
	}
	if m.Engine.HasImage(ctx, reference) {
		return reference, nil
	}
	base := node.Pinned()
	if pulled {
		if err := m.pull(ctx, node); err != nil {
			return "", err
		}
	} else {
		task := m.Log.Task("images: putting the node's file system together")
		built, err := m.build(ctx, node)
		if err == nil {
			base = engineReference(nodeBase, built.key)
			if !m.Engine.HasImage(ctx, base) {
				err = m.load(ctx, built, base)
			}
		}
		if task.Done(err) != nil {
			return "", err
		}
	}
	for _, name := range preload {
		image, _ := m.Lock.Image(name)
		source, err := m.source(ctx, image)
		if err != nil {
			return "", err
		}
		if source == FromRegistry || source == FromCache && !m.isBuilt(ctx, image) {
			archive, err := m.savePulled(ctx, image)
			if err != nil {
				return "", err
			}
			defer func() { _ = os.Remove(archive) }()
			archives, anyPulled = append(archives, archive), true
			continue
		}
		built, err := m.build(ctx, image)
		if err != nil {
			return "", err
		}
		archives = append(archives, built.archive)
	}
	if reference, err = m.bakedReference(ctx, node, pulled, preload); err != nil { // now that pulled images are known
		return "", err
	}
	task := m.Log.Task("images: baking %d images into the node of %s", len(archives), s.Name)
	return reference, task.Done(m.bake(ctx, base, archives, anyPulled, reference, runID, task.Status))
}

// savePulled writes a pulled image as an archive that carries its tag.
func (m *Maker) savePulled(ctx context.Context, image *stack.Image) (string, error) {
	if err := m.pull(ctx, image); err != nil {
		return "", err
	}
	if _, err := m.Engine.Docker(ctx, "tag", image.Pinned(), image.Reference); err != nil {
		return "", err
	}
	dir, err := m.Cache.Temp()
	if err != nil {
		return "", err
	}
	archive := filepath.Join(dir, "image.tar")
	_, err = m.Engine.Docker(ctx, "save", "--output", archive, image.Reference)
	return archive, err
}

// bake imports the archives into the containerd of a base node and commits it.
func (m *Maker) bake(ctx context.Context, base string, archives []string, anyPulled bool, reference, runID string, status func(string, ...any)) (err error) {
	container, err := m.Engine.Docker(ctx, "run", "--detach", "--name", BakePrefix+runID, "--privileged", "--network", "none",
		"--tmpfs", "/tmp", "--tmpfs", "/run", "--entrypoint", "/bin/sleep", base, "infinity")
	if err != nil {
		return err
	}
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if _, removeErr := m.Engine.Docker(cleanup, "rm", "--force", "--volumes", container); err == nil {
			err = removeErr
		}
	}()
	if _, err := m.Engine.Docker(ctx, "exec", "--detach", container, "containerd", "--log-level", "error"); err != nil {
		return err
	}
	if _, err := m.Engine.Docker(ctx, "exec", container, "bash", "-c",
		`for i in $(seq 100); do ctr version >/dev/null 2>&1 && exit 0; sleep 0.1; done; ctr version`); err != nil {
		return fmt.Errorf("containerd in the node image does not answer: %w", err)
	}
	// Unpacked here, a built image starts without delay and its layers need not be kept. A pulled one has several
	// layers, which overlayfs cannot stack in here: kind's own images leave that to the node, too.
	how := []string{"--local", "--discard-unpacked-layers"}
	if anyPulled {
		how = []string{"--no-unpack"}
	}
	for i, archive := range archives {
		status("%d of %d imported", i, len(archives))
		in, err := os.Open(archive)
		if err != nil {
			return err
		}
		args := append([]string{"exec", "--interactive", container, "ctr", "--namespace", "k8s.io", "images", "import", "--digests"}, how...)
		_, err = m.Engine.DockerWithInput(ctx, in, append(args, "-")...)
		_ = in.Close()
		if err != nil {
			return fmt.Errorf("import %s: %w", filepath.Base(archive), err)
		}
	}
	if _, err := m.Engine.Docker(ctx, "exec", container, "bash", "-c", "ctr content prune references >/dev/null 2>&1; pkill -TERM containerd; for i in $(seq 100); do pgrep -x containerd >/dev/null || exit 0; sleep 0.1; done; exit 1"); err != nil {
		return fmt.Errorf("stop containerd in the node image: %w", err)
	}
	status("committing")
	_, err = m.Engine.Docker(ctx, "commit", "--change", `ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]`, container, reference)
	return err
}

func (m *Maker) program(ctx context.Context, pkg string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if path, ok := m.programs[pkg]; ok {
		return path, nil
	}
	path, err := m.Modules.Program(ctx, pkg)
	if err == nil {
		m.programs[pkg] = path
	}
	return path, err
}

func goArch() string { return runtime.GOARCH }
