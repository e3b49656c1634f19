// Package images turns the lock's images into images that exist: found in the cache or the engine, pulled by digest, or
// built from Go modules and Debian packages. The stack's images are baked into its node image, so that a cluster boots
// without importing anything.
package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/stack"
)

// Mode says where images may come from (IMAGES=).
type Mode string

// The modes. Auto prefers the cache, then a registry, then building.
const (
	Auto  Mode = "auto"
	Pull  Mode = "pull"
	Build Mode = "build"
)

// Modes lists the modes.
func Modes() []Mode { return []Mode{Auto, Pull, Build} }

// registryPatience is how long a registry may take to answer before it counts as out of reach.
const registryPatience = 4 * time.Second

// Source is where one image comes from.
type Source string

// The sources, as a plan names them: nothing is pulled or built by it.
const (
	FromCache    Source = "cached"
	FromRegistry Source = "would be pulled"
	FromBuild    Source = "would be built"
)

// Maker makes images.
type Maker struct {
	Lock     *stack.Lock
	Mode     Mode
	Cache    *cache.Dir
	Fixtures fs.FS
	Engine   *engine.Engine
	Modules  *gomod.Builder
	Log      *progress.Log

	mu         sync.Mutex
	registries map[string]error  // host → why it is out of reach, nil where it answers
	programs   map[string]string // package → compiled binary
	keys       map[string]string // image → hash of what it is made from
}

// New makes a Maker for the lock.
func New(lock *stack.Lock, mode Mode, dir *cache.Dir, fixtures fs.FS, eng *engine.Engine, log *progress.Log) *Maker {
	return &Maker{
		Lock: lock, Mode: mode, Cache: dir, Fixtures: fixtures, Engine: eng, Log: log,
		Modules:    &gomod.Builder{Cache: dir, Fixtures: fixtures},
		registries: map[string]error{}, programs: map[string]string{}, keys: map[string]string{},
	}
}

// registry says whether the registry of the image answers. All that the lock names are asked once, at the same time.
func (m *Maker) registry(ctx context.Context, image *stack.Image) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, asked := m.registries[registryOf(image)]; !asked {
		var group sync.WaitGroup
		var answers sync.Map
		for i := range m.Lock.Images {
			host := registryOf(&m.Lock.Images[i])
			if _, known := m.registries[host]; m.Lock.Images[i].Digest == "" || known {
				continue
			}
			m.registries[host] = nil
			group.Go(func() { answers.Store(host, ask(ctx, host)) })
		}
		group.Wait()
		var silent []string
		answers.Range(func(host, err any) bool {
			if err, failed := err.(error); failed {
				m.registries[host.(string)] = err
				silent = append(silent, host.(string))
			}
			return true
		})
		if slices.Sort(silent); len(silent) > 0 && m.Mode == Auto {
			m.Log.Printf("images: no answer from %s: their images are built instead, where the lock has a build", strings.Join(silent, ", "))
		}
	}
	if err := m.registries[registryOf(image)]; err != nil {
		return fmt.Errorf("registry %s is out of reach: %w", registryOf(image), err)
	}
	return nil
}

// registryOf is the host that serves the image's reference.
func registryOf(image *stack.Image) string {
	reference, err := name.ParseReference(image.Reference)
	if err != nil {
		return image.Reference // then asking it fails, and says so
	}
	return reference.Context().RegistryStr()
}

func ask(ctx context.Context, host string) error {
	registry, err := name.NewRegistry(host)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, registry.Scheme()+"://"+host+"/v2/", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// source decides where an image comes from. It asks a registry only where the answer matters.
func (m *Maker) source(ctx context.Context, image *stack.Image) (Source, error) {
	canPull, canBuild := image.Digest != "", image.Build != nil
	if canBuild && m.Mode != Pull && m.isBuilt(ctx, image) {
		return FromCache, nil
	}
	if canPull && m.Mode != Build && m.Engine.HasImage(ctx, image.Pinned()) {
		return FromCache, nil
	}
	switch m.Mode {
	case Build:
		if !canBuild {
			return "", fmt.Errorf("image %s: the lock has no build for %s, only a digest, and IMAGES=build asks no registry; use IMAGES=auto, or a stack without it", image.Name, image.Reference)
		}
		return FromBuild, nil
	case Pull:
		if !canPull && canBuild && strings.HasPrefix(image.Reference, "localhost/") {
			return FromBuild, nil // made from this repository: there is nowhere to pull it from
		}
		if !canPull {
			return "", fmt.Errorf("image %s: the lock has no digest for %s, and IMAGES=pull builds nothing; use IMAGES=auto", image.Name, image.Reference)
		}
		if err := m.registry(ctx, image); err != nil {
			advice := "make it reachable, or use a stack without the image"
			if canBuild {
				advice = "make it reachable, or use IMAGES=auto, which builds the image"
			}
			return "", fmt.Errorf("image %s: IMAGES=pull builds nothing, and %w; %s", image.Name, err, advice)
		}
		return FromRegistry, nil
	default:
		if canPull {
			err := m.registry(ctx, image)
			if err == nil {
				return FromRegistry, nil
			}
			if !canBuild {
				return "", fmt.Errorf("image %s: the lock has no build for %s, and %w; make it reachable, or use a stack without the image", image.Name, image.Reference, err)
			}
		}
		return FromBuild, nil
	}
}

// PlanRow is one image of a plan.
type PlanRow struct {
	Image     string
	Reference string
	Source    Source
	From      string // what it is made of, or the digest
	Takes     string // roughly; empty for what is cached
}

// How long a step takes on two cores, as a plan says it. A registry's speed is not known.
const (
	takesMinutes = "minutes"
	takesSeconds = "seconds"
	takesUnknown = "as long as the registry takes"
)

// Plan says what a stack consists of, and where each piece would come from now. It makes nothing.
func (m *Maker) Plan(ctx context.Context, s *stack.Stack) ([]PlanRow, error) {
	var rows []PlanRow
	var problems []error
	for _, name := range m.stackImages(s) {
		image, _ := m.Lock.Image(name)
		source, err := m.source(ctx, image)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		row := PlanRow{Image: name, Reference: image.Reference, Source: source, From: image.Digest}
		switch source {
		case FromRegistry:
			row.Takes = takesUnknown
		case FromBuild:
			row.From, row.Takes = m.recipe(image.Build)
		case FromCache:
			if image.Build != nil && m.isBuilt(ctx, image) {
				row.From, _ = m.recipe(image.Build)
			}
		}
		rows = append(rows, row)
	}
	return rows, errors.Join(problems...)
}

// WritePlan writes a plan as a table, and what it comes to.
func WritePlan(w io.Writer, rows []PlanRow) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "IMAGE\tSTATE\tREFERENCE\tFROM\tTAKES") // errors show in Flush
	count := map[Source]int{}
	for _, row := range rows {
		count[row.Source]++
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", row.Image, row.Source, row.Reference, cmp.Or(row.From, "-"), cmp.Or(row.Takes, "-"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d images: %d cached, %d would be pulled, %d would be built\n", len(rows), count[FromCache], count[FromRegistry], count[FromBuild])
	return err
}

// stackImages lists every image the stack is made of, those baked into a built node included.
func (m *Maker) stackImages(s *stack.Stack) []string {
	node, _ := m.Lock.Image(s.Node)
	return slices.Concat([]string{s.Node}, preloadOf(s, node, false), []string{m.objectStore(s), GatewayImage, AgentImage})
}

// recipe says what an image is made of, each part with its state, and how long that takes.
func (m *Maker) recipe(build *stack.ImageBuild) (from, takes string) {
	takes = takesSeconds
	var parts []string
	add := func(part string, cached bool) {
		if cached {
			part += " (cached)"
		} else {
			takes = takesMinutes
		}
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	if build.PackageSet != "" {
		set, _ := m.Lock.PackageSet(build.PackageSet)
		add("Debian packages "+build.PackageSet, m.Cache.Has(packagesKind, packagesName(set)))
	}
	for _, f := range build.Files {
		switch {
		case f.Binary != "":
			compiled, _ := m.Lock.Build(f.Of)
			add("Go build "+f.Of, m.Modules.Has(compiled))
		case f.Module != "" && !slices.ContainsFunc(parts, func(part string) bool { return strings.HasPrefix(part, "Go build "+f.Of) }):
			if part := "files of Go module " + f.Of; !slices.Contains(parts, part) {
				parts = append(parts, part)
			}
		case f.Program != "":
			if part := "this repository's " + f.Program; !slices.Contains(parts, part) {
				parts = append(parts, part)
			}
		}
	}
	return strings.Join(parts, ", "), takes
}
