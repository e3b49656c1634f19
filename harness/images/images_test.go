package images

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/stack"
)

func maker(t *testing.T, mode Mode, images ...stack.Image) *Maker {
	t.Helper()
	t.Setenv("SMART_RESTORE_CACHE", t.TempDir())
	t.Setenv("PATH", t.TempDir()) // no docker, no go: nothing is in an engine, nothing can be asked
	dir, err := cache.Open()
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{"config": {Data: []byte("fixture")}}
	return New(&stack.Lock{Images: images}, mode, dir, files, &engine.Engine{}, nil)
}

func pointer(s string) *string { return &s }

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

var build = &stack.ImageBuild{Files: []stack.File{{To: "/x", Text: pointer("x")}}}

func TestSource(t *testing.T) {
	down := errors.New("down")
	both := stack.Image{Name: "i", Reference: "example.org/i:1", Digest: digest, Build: build}
	onlyPulled := stack.Image{Name: "i", Reference: "example.org/i:1", Digest: digest}
	onlyBuilt := stack.Image{Name: "i", Reference: "example.org/i:1", Build: build}
	ours := stack.Image{Name: "i", Reference: "localhost/smart-restore/i:content", Build: build}
	for name, c := range map[string]struct {
		mode     Mode
		image    stack.Image
		registry error
		want     Source
		problem  string
	}{
		"auto pulls where the registry answers":     {Auto, both, nil, FromRegistry, ""},
		"auto builds where it does not":             {Auto, both, down, FromBuild, ""},
		"auto builds what has no digest":            {Auto, onlyBuilt, nil, FromBuild, ""},
		"auto pulls what has no build":              {Auto, onlyPulled, nil, FromRegistry, ""},
		"auto says what it can neither":             {Auto, onlyPulled, down, "", "image i: the lock has no build for example.org/i:1, and registry example.org is out of reach: down; make it reachable, or use a stack without the image"},
		"build asks nobody":                         {Build, both, nil, FromBuild, ""},
		"build says what it cannot":                 {Build, onlyPulled, nil, "", "image i: the lock has no build for example.org/i:1, only a digest, and IMAGES=build asks no registry; use IMAGES=auto, or a stack without it"},
		"pull pulls":                                {Pull, both, nil, FromRegistry, ""},
		"pull pulls what has no build":              {Pull, onlyPulled, nil, FromRegistry, ""},
		"pull says that the registry is down":       {Pull, both, down, "", "image i: IMAGES=pull builds nothing, and registry example.org is out of reach: down; make it reachable, or use IMAGES=auto, which builds the image"},
		"pull says what then cannot be had":         {Pull, onlyPulled, down, "", "registry example.org is out of reach: down; make it reachable, or use a stack without the image"},
		"pull says what has no digest":              {Pull, onlyBuilt, nil, "", "has no digest"},
		"pull builds what is made from this source": {Pull, ours, nil, FromBuild, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := maker(t, c.mode, c.image)
			m.registries["example.org"] = c.registry
			got, err := m.source(t.Context(), &c.image)
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Errorf("got %v, wanted an error that says %q", err, c.problem)
				}
				return
			}
			if got != c.want || err != nil {
				t.Errorf("got %s, %v, wanted %s", got, err, c.want)
			}
		})
	}
}

// pulledOnly is a lock whose S3 server, and an image of its node, are only pulled.
func pulledOnly(t *testing.T, mode Mode) (*Maker, *stack.Stack) {
	t.Helper()
	m := maker(t, mode,
		stack.Image{Name: "node", Reference: "example.org/node:1", Build: build},
		stack.Image{Name: "baked", Reference: "example.org/baked:1", Digest: digest},
		stack.Image{Name: "server", Reference: "example.org/server:1", Digest: digest},
		stack.Image{Name: GatewayImage, Reference: "localhost/gateway:1", Build: build},
		stack.Image{Name: AgentImage, Reference: "localhost/agent:1", Build: build})
	m.Lock.ObjectStores = []stack.ObjectStore{{Name: "s3", Image: "server"}}
	return m, &stack.Stack{Name: "s", Node: "node", Preload: []string{"baked"}, ObjectStore: "s3"}
}

func TestWhatCannotBeHadIsSaidBeforeAnythingIsMade(t *testing.T) {
	for mode, want := range map[Mode]string{Build: "IMAGES=build asks no registry", Auto: "registry example.org is out of reach"} {
		m, s := pulledOnly(t, mode)
		m.registries["example.org"] = errors.New("down")
		_, err := m.Make(t.Context(), s, "run")
		for _, text := range []string{"image baked: ", "image server: ", want} {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("IMAGES=%s: want an error that says %q, found %v", mode, text, err)
			}
		}
		if made, err := filepath.Glob(m.Cache.Path(archiveKind, archiveName("*"))); len(made) > 0 || err != nil {
			t.Errorf("IMAGES=%s: want nothing made, found %v, %v", mode, made, err)
		}
	}
}

func TestPrebuildMakesWhatCanBeBuiltAndSaysWhatCannot(t *testing.T) {
	m, s := pulledOnly(t, Build)
	var said strings.Builder
	m.Log = progress.New(&said)
	if err := m.Prebuild(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node", GatewayImage, AgentImage} {
		if image, _ := m.Lock.Image(name); !m.isBuilt(t.Context(), image) {
			t.Errorf("want %s built, found it missing", name)
		}
	}
	for _, name := range []string{"baked", "server"} {
		if !strings.Contains(said.String(), name+" has no build: it is pulled when the stack is started") {
			t.Errorf("want it said of %s, found\n%s", name, said.String())
		}
	}
}

// pullScript is an engine that has no image until it is pulled. It notes what it pulls, and refuses where it is told to.
const pullScript = `#!/bin/sh
case $1 in
image) [ -e "$PULLED" ];;
pull) [ -z "$REFUSED" ] || { echo manifest unknown >&2; exit 1; }; echo "$3" > "$PULLED";;
esac
`

func TestAnImageIsPulledByItsDigest(t *testing.T) {
	const pinned = "example.org/i:1@" + digest
	onlyPulled := stack.Image{Name: "i", Reference: "example.org/i:1", Digest: digest}
	both := onlyPulled
	both.Build = build
	for name, c := range map[string]struct {
		image   stack.Image
		refused string
		problem string
		advice  bool
	}{
		"pulled":                         {image: onlyPulled},
		"refused":                        {image: onlyPulled, refused: "yes", problem: "manifest unknown"},
		"refused, but it could be built": {image: both, refused: "yes", problem: "manifest unknown", advice: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := maker(t, Auto, c.image)
			m.registries["example.org"] = nil
			bin, pulled := t.TempDir(), filepath.Join(t.TempDir(), "pulled")
			if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(pullScript), 0o700); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", bin)
			t.Setenv("PULLED", pulled)
			t.Setenv("REFUSED", c.refused)
			reference, err := m.inEngine(t.Context(), "i")
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) || strings.Contains(err.Error(), "IMAGES=build builds it instead") != c.advice {
					t.Errorf("want an error that says %q, with advice: %t, found %v", c.problem, c.advice, err)
				}
				return
			}
			if err != nil || reference != pinned {
				t.Errorf("want %s, found %q, %v", pinned, reference, err)
			}
			if got, err := os.ReadFile(pulled); string(got) != pinned+"\n" {
				t.Errorf("want %s pulled, found %q, %v", pinned, got, err)
			}
		})
	}
}

func TestABuiltImageIsCachedByItsContents(t *testing.T) {
	image := stack.Image{Name: "i", Reference: "example.org/i:1", Build: &stack.ImageBuild{
		Files: []stack.File{
			{To: "/etc/a", Text: pointer("first")},
			{To: "/etc/a", Text: pointer("last wins"), Mode: "0600"},
			{To: "/etc/link", Symlink: "a"},
			{To: "/etc/config", Fixture: "config"},
			{To: "/var/empty", Directory: true},
		},
		Entrypoint: []string{"/x"},
	}}
	m := maker(t, Build, image)
	one, err := m.build(t.Context(), &image)
	if err != nil {
		t.Fatal(err)
	}
	if source, err := m.source(t.Context(), &image); source != FromCache || err != nil {
		t.Errorf("after the build: %s, %v", source, err)
	}
	layer := layerOf(t, one.archive)
	if layer["etc/a"] != "last wins" || layer["etc/link"] != "→ a" || layer["etc/config"] != "fixture" {
		t.Errorf("the layer holds %v", layer)
	}
	changed := image
	changed.Name, changed.Build = "j", &stack.ImageBuild{Files: slices.Clone(image.Build.Files)}
	changed.Build.Files[1].Text = pointer("other")
	two, err := m.build(t.Context(), &changed)
	if err != nil || two.key == one.key {
		t.Errorf("another content has the same key (%v)", err)
	}
}

func TestTheContentTagBecomesTheHash(t *testing.T) {
	image := stack.Image{Name: "i", Reference: "localhost/i:content", Build: build}
	b, err := maker(t, Build, image).build(t.Context(), &image)
	if err != nil || b.reference != "localhost/i:"+b.key[:12] {
		t.Errorf("got %+v, %v", b, err)
	}
}

// layerOf reads the single layer of a docker archive: path → content, or → target of a link.
func layerOf(t *testing.T, archive string) map[string]string {
	t.Helper()
	content := map[string]string{}
	var layers int
	eachFile(t, open(t, archive), func(header *tar.Header, r io.Reader) {
		if !strings.HasSuffix(header.Name, ".tar.gz") {
			return
		}
		layers++
		path := filepath.Join(t.TempDir(), "layer")
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		unzipped, err := gzip.NewReader(open(t, path))
		if err != nil {
			t.Fatal(err)
		}
		eachFile(t, unzipped, func(header *tar.Header, r io.Reader) {
			raw, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := content[header.Name]; twice {
				t.Errorf("%s is there twice, which docker load refuses", header.Name)
			}
			content[header.Name] = string(raw)
			if header.Linkname != "" {
				content[header.Name] = "→ " + header.Linkname
			}
		})
	})
	if layers != 1 {
		t.Fatalf("%d layers, wanted one", layers)
	}
	return content
}

func open(t *testing.T, path string) io.Reader {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func eachFile(t *testing.T, r io.Reader, do func(*tar.Header, io.Reader)) {
	t.Helper()
	files := tar.NewReader(r)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		do(header, files)
	}
}

func TestThePlanSaysWhatWouldBeBuilt(t *testing.T) {
	image := stack.Image{Name: "made", Reference: "example.org/made:1", Build: &stack.ImageBuild{
		PackageSet: "shell",
		Files:      []stack.File{{To: "/x", Text: pointer("x")}},
	}}
	light := stack.Image{Name: "light", Reference: "example.org/light:1", Build: build}
	pulled := stack.Image{Name: "pulled", Reference: "example.org/pulled:1", Digest: digest}
	program := stack.Image{Name: "gateway", Reference: "localhost/gateway:1", Build: build}
	agent := stack.Image{Name: "agent", Reference: "localhost/agent:1", Build: build}
	s := &stack.Stack{Name: "s", Node: "made", Preload: []string{"light", "pulled"}, ObjectStore: "store"}
	m := maker(t, Auto, image, light, pulled, program, agent)
	m.registries["example.org"] = nil
	m.Lock.PackageSets = []stack.PackageSet{{Name: "shell", Suite: "s", Variant: "extract", Packages: []string{"bash"}}}
	m.Lock.ObjectStores = []stack.ObjectStore{{Name: "store", Image: "light"}}
	if _, err := m.build(t.Context(), &program); err != nil {
		t.Fatal(err)
	}
	rows, err := m.Plan(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := WritePlan(&out, rows); err != nil {
		t.Fatal(err)
	}
	const want = `IMAGE    STATE            REFERENCE             FROM                                                                     TAKES
made     would be built   example.org/made:1    Debian packages shell                                                    minutes
light    would be built   example.org/light:1   -                                                                        seconds
pulled   would be pulled  example.org/pulled:1  sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef  as long as the registry takes
light    would be built   example.org/light:1   -                                                                        seconds
gateway  cached           localhost/gateway:1   -                                                                        -
agent    would be built   localhost/agent:1     -                                                                        seconds

6 images: 1 cached, 1 would be pulled, 4 would be built
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	// Once its packages are unpacked, putting it together takes seconds.
	path := m.Cache.Path(packagesKind, packagesName(&m.Lock.PackageSets[0]))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if from, takes := m.recipe(image.Build); from != "Debian packages shell (cached)" || takes != takesSeconds {
		t.Errorf("got %q, %q", from, takes)
	}
}

// aptScript writes down its calls. Its download lasts until it is ended, its installation long enough to be ended.
const aptScript = `#!/bin/sh
echo "$*" >>"$CALLS"
case $* in *--download-only*) [ -z "$AT" ] || { echo here >"$AT"; exec sleep 60; } ;; *update*) ;; *) [ -z "$AT_INSTALL" ] || { echo here >"$AT_INSTALL"; sleep 0.2; }; echo installed >>"$CALLS" ;; esac
`

func TestAptIsInterruptedWhileItDownloadsOnly(t *testing.T) {
	const update = "update -q\n"
	const download = "install -qy --no-install-recommends --no-remove --download-only a b\n"
	const install = "install -qy --no-install-recommends --no-remove a b\ninstalled\n"
	for name, c := range map[string]struct {
		at, want string
		canceled bool
	}{
		"not at all":          {"", update + download + install, false},
		"while it downloads":  {"AT", update + download, true},
		"while it is in dpkg": {"AT_INSTALL", update + download + install, false},
	} {
		t.Run(name, func(t *testing.T) {
			bin, calls, at := t.TempDir(), filepath.Join(t.TempDir(), "calls"), filepath.Join(t.TempDir(), "at")
			if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte(aptScript), 0o700); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			t.Setenv("CALLS", calls)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.at != "" {
				t.Setenv(c.at, at)
				if err := syscall.Mkfifo(at, 0o600); err != nil {
					t.Fatal(err)
				}
				go func() {
					_, _ = os.ReadFile(at) // waits for the script
					cancel()
				}()
			}
			err := aptInstall(ctx, "a", "b")
			if errors.Is(err, context.Canceled) != c.canceled || err != nil && !c.canceled {
				t.Errorf("got %v", err)
			}
			if got, err := os.ReadFile(calls); string(got) != c.want {
				t.Errorf("the calls are\n%s\nwant\n%s (%v)", got, c.want, err)
			}
		})
	}
}

// dockerScript answers as an engine with three of our images, of which one is used by a container; removals are written down.
const dockerScript = `#!/bin/sh
case $1 in
images) echo "$OURS"; echo smart-restore/i:earlier; echo smart-restore/i:used;;
ps) case $* in *i:used*) echo container;; esac;;
rmi) echo "$2" >> "$REMOVED";;
esac
`

func TestPruneRemovesWhatNoStackIsMadeOf(t *testing.T) {
	image := stack.Image{Name: "i", Reference: "example.org/i:1", Build: build}
	m := maker(t, Build, image)
	current, err := m.build(t.Context(), &image)
	if err != nil {
		t.Fatal(err)
	}
	earlier := m.Cache.Path("images", strings.Repeat("0", 64)+".tar")
	if err := os.WriteFile(earlier, []byte("123"), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, removed := t.TempDir(), filepath.Join(t.TempDir(), "removed")
	if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(dockerScript), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv("OURS", engineReference("i", current.key))
	t.Setenv("REMOVED", removed)
	got, err := m.Prune(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Archives, []string{earlier}) || got.Bytes != 3 ||
		!slices.Equal(got.Images, []string{"smart-restore/i:earlier"}) || !slices.Equal(got.InUse, []string{"smart-restore/i:used"}) {
		t.Errorf("got %+v", got)
	}
	if _, err := os.Stat(current.archive); err != nil {
		t.Errorf("what the lock has is gone: %v", err)
	}
	if _, err := os.Stat(earlier); err == nil {
		t.Error("the earlier archive is still there")
	}
	if calls, err := os.ReadFile(removed); err != nil || string(calls) != "smart-restore/i:earlier\n" {
		t.Errorf("removed from the engine: %q, %v", calls, err)
	}
}
