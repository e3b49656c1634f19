package images

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/text"
)

// ContentTag in a lock's reference stands for the image's own hash: such an image is made from this repository.
const ContentTag = "content"

// built is an image of ours: a docker archive in the cache.
type built struct {
	key       string
	archive   string
	reference string
}

// archiveKind is the cache's folder of archives.
const archiveKind = "images"

// archiveName is what an archive is called there.
func archiveName(key string) string { return key + ".tar" }

// key hashes everything the image is made from, and compiles this project's own programs for that.
func (m *Maker) key(ctx context.Context, image *stack.Image) (string, error) {
	m.mu.Lock()
	known, ok := m.keys[image.Name]
	m.mu.Unlock()
	if ok {
		return known, nil
	}
	parts := []any{"image/2", image.Reference, image.Build}
	if image.Build.PackageSet != "" {
		set, _ := m.Lock.PackageSet(image.Build.PackageSet)
		parts = append(parts, set)
	}
	for _, f := range image.Build.Files {
		switch {
		case f.Of != "":
			build, _ := m.Lock.Build(f.Of)
			key, err := m.Modules.Key(build)
			if err != nil {
				return "", err
			}
			parts = append(parts, key)
		case f.Program != "":
			binary, err := m.program(ctx, f.Program)
			if err != nil {
				return "", err
			}
			content, err := os.ReadFile(binary)
			if err != nil {
				return "", err
			}
			parts = append(parts, content)
		case f.Fixture != "":
			content, err := fs.ReadFile(m.Fixtures, f.Fixture)
			if err != nil {
				return "", err
			}
			parts = append(parts, content)
		}
	}
	key := cache.Key(parts...)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[image.Name] = key
	return key, nil
}

func (m *Maker) isBuilt(ctx context.Context, image *stack.Image) bool {
	key, err := m.key(ctx, image)
	return err == nil && m.Cache.Has(archiveKind, archiveName(key))
}

// build makes the image's archive, or finds it in the cache.
func (m *Maker) build(ctx context.Context, image *stack.Image) (*built, error) {
	key, err := m.key(ctx, image)
	if err != nil {
		return nil, err
	}
	result := &built{key: key, reference: image.Reference}
	if base, tag, ok := strings.Cut(image.Reference, ":"); ok && tag == ContentTag {
		result.reference = base + ":" + key[:12]
	}
	result.archive, err = m.Cache.Make(ctx, archiveKind, archiveName(key), func(archive string) error {
		layer := archive + ".layer"
		defer func() { _ = os.Remove(layer) }()
		if err := m.writeLayer(ctx, layer, image.Build); err != nil {
			return err
		}
		return writeArchive(archive, layer, result.reference, image.Build)
	})
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image.Name, err)
	}
	return result, nil
}

// writeLayer writes the image's whole file system as one layer. One, because a baked node unpacks it inside a
// container, where overlayfs cannot stack layers on top of the engine's own overlay.
func (m *Maker) writeLayer(ctx context.Context, file string, build *stack.ImageBuild) (err error) {
	var entries []layerEntry
	for _, f := range build.Files {
		expanded, err := m.expand(ctx, f)
		if err != nil {
			return fmt.Errorf("file %s: %w", f.To, err)
		}
		entries = append(entries, expanded...)
	}
	// A path may come several times; the last one counts, and any of them more than a package's file.
	last := map[string]int{}
	for i, e := range entries {
		last[e.header.Name] = i
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	if build.PackageSet != "" {
		set, _ := m.Lock.PackageSet(build.PackageSet)
		root, err := m.packages(ctx, set)
		if err != nil {
			return err
		}
		if err := copyTar(w, root, last); err != nil {
			return fmt.Errorf("package set %s: %w", set.Name, err)
		}
	} else if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return err // what every program may expect, where no package brings it
	}
	for i, e := range entries {
		if last[e.header.Name] != i {
			continue
		}
		if err := e.write(w); err != nil {
			return fmt.Errorf("file %s: %w", e.header.Name, err)
		}
	}
	return w.Close()
}

func copyTar(w *tar.Writer, from string, without map[string]int) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	r := tar.NewReader(in)
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, replaced := without[path.Clean(header.Name)]; replaced && header.Typeflag != tar.TypeDir {
			continue
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil { //nolint:gosec // a tar of our own making, not compressed
			return err
		}
	}
}

// layerEntry is one path of a layer: its header (Name relative to the root, clean) and where its content comes from.
type layerEntry struct {
	header  tar.Header
	content []byte
	file    string // on disk, instead of content
}

func (e *layerEntry) write(w *tar.Writer) error {
	if e.file == "" {
		if err := w.WriteHeader(&e.header); err != nil {
			return err
		}
		_, err := w.Write(e.content)
		return err
	}
	in, err := os.Open(e.file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	e.header.Size = info.Size()
	if err := w.WriteHeader(&e.header); err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}

// expand turns a file of a recipe into the paths it stands for: one, or those of a module's folder.
func (m *Maker) expand(ctx context.Context, f stack.File) ([]layerEntry, error) {
	mode := int64(0o644)
	if f.Binary != "" || f.Program != "" {
		mode = 0o755
	}
	if f.Mode != "" {
		parsed, err := strconv.ParseInt(f.Mode, 8, 32)
		if err != nil {
			return nil, err
		}
		mode = parsed
	}
	to := strings.TrimPrefix(f.To, "/")
	header := tar.Header{Typeflag: tar.TypeReg, Name: to, Mode: mode}
	one := func(e layerEntry) []layerEntry { return []layerEntry{e} }
	withContent := func(content []byte) []layerEntry {
		header.Size = int64(len(content))
		return one(layerEntry{header: header, content: content})
	}
	switch {
	case f.Directory:
		return one(layerEntry{header: tar.Header{Typeflag: tar.TypeDir, Name: to + "/", Mode: 0o755}}), nil
	case f.Symlink != "":
		return one(layerEntry{header: tar.Header{Typeflag: tar.TypeSymlink, Name: to, Linkname: f.Symlink, Mode: 0o777}}), nil
	case f.Text != nil:
		return withContent([]byte(*f.Text)), nil
	case f.Fixture != "":
		content, err := fs.ReadFile(m.Fixtures, f.Fixture)
		return withContent(content), err
	case f.Program != "":
		binary, err := m.program(ctx, f.Program)
		return one(layerEntry{header: header, file: binary}), err
	case f.Binary != "":
		build, _ := m.Lock.Build(f.Of)
		dir, err := m.Modules.Build(ctx, build, func(int) {})
		return one(layerEntry{header: header, file: filepath.Join(dir, f.Binary)}), err
	}
	module, err := m.Modules.ModuleDir(ctx, f.Of, f.Module)
	if err != nil {
		return nil, err
	}
	var entries []layerEntry
	root := filepath.Join(module, f.Path)
	err = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		below, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		header.Name = path.Join(to, filepath.ToSlash(below))
		entries = append(entries, layerEntry{header: header, file: file})
		return nil
	})
	return entries, err
}

// writeArchive writes a docker archive of one layer, as `docker load` and `ctr images import` read it.
func writeArchive(archive, layerFile, reference string, build *stack.ImageBuild) error {
	layer, err := tarball.LayerFromFile(layerFile, tarball.WithCompressionLevel(0))
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", goArch()
	env := build.Env
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		env = append(slices.Clone(env), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	config.Config = v1.Config{Entrypoint: build.Entrypoint, Env: env, User: build.User, StopSignal: build.StopSignal}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(archive, tag, image)
}

// packagesKind is the cache's folder of package sets.
const packagesKind = "packages"

// packagesName is what a package set is called there.
func packagesName(set *stack.PackageSet) string {
	return cache.Key("packages/1", set, goArch()) + ".tar"
}

// packages unpacks a package set into a tar of a root file system, or finds it in the cache. Debian serves the current
// version of each package: what was unpacked is listed beside it.
func (m *Maker) packages(ctx context.Context, set *stack.PackageSet) (string, error) {
	return m.Cache.Make(ctx, packagesKind, packagesName(set), func(out string) error {
		if err := ensureMmdebstrap(ctx); err != nil {
			return err
		}
		list := strings.TrimSuffix(m.Cache.Path(packagesKind, packagesName(set)), ".tar") + ".txt"
		args := []string{
			"--quiet", "--variant=" + set.Variant, "--format=tar", "--skip=output/dev",
			"--include=" + strings.Join(set.Packages, ","),
			"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		}
		if set.Variant == "extract" { // nothing is configured, so dpkg knows of nothing
			args = append(args, `--extract-hook=ls "$1"/var/cache/apt/archives > `+shellQuote(list))
		} else {
			args = append(args, `--customize-hook=dpkg-query --admindir="$1"/var/lib/dpkg -Wf '${Package} ${Version}\n' > `+shellQuote(list))
		}
		for _, glob := range set.Remove {
			args = append(args, `--customize-hook=rm -rf "$1"/`+glob)
		}
		args = append(args, set.Suite, out)
		cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
		// Asked to end, it removes its mounts and its temporary folder; killed, it could not.
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 15 * time.Second
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("mmdebstrap of %s: %w\n%s", set.Name, err, text.LastLines(string(said), 15))
		}
		return nil
	})
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// ensureMmdebstrap installs what unpacks Debian packages, if it is missing and this process may.
func ensureMmdebstrap(ctx context.Context) error {
	if _, err := exec.LookPath("mmdebstrap"); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return errors.New("building images needs mmdebstrap, which is not on the PATH: install it, or run as root on Debian or Ubuntu, or use a registry (IMAGES=pull)")
	}
	return aptInstall(ctx, "mmdebstrap", "debian-archive-keyring")
}

// aptInstall installs packages, and removes none. It is interrupted while it downloads only: dpkg that is stopped half-way
// leaves packages half-configured.
func aptInstall(ctx context.Context, packages ...string) error {
	install := []string{"install", "-qy", "--no-install-recommends", "--no-remove"}
	for _, step := range []struct {
		args []string
		ctx  context.Context
	}{
		{[]string{"update", "-q"}, ctx},
		{slices.Concat(install, []string{"--download-only"}, packages), ctx},
		{slices.Concat(install, packages), context.WithoutCancel(ctx)},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		cmd := exec.CommandContext(step.ctx, "apt-get", step.args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 15 * time.Second
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C reaches this process only
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(step.args, " "), cmp.Or(ctx.Err(), err), text.LastLines(string(said), 10))
		}
	}
	return nil
}
