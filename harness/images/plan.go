// Package images turns the lock's images into images that exist: found in the cache or the engine, pulled by digest, or
// built from Go modules and Debian packages. The stack's images are baked into its node image, so that a cluster boots
// without importing anything.
package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
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

// The sources.
const (
	FromCache    Source = "cached"
	FromRegistry Source = "pulled"
	FromBuild    Source = "built"
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
			m.Log.Printf("images: no answer from %s: what they would serve is built", strings.Join(silent, ", "))
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
			return "", fmt.Errorf("image %s: the lock has no build for it, and IMAGES=build asks no registry", image.Name)
		}
		return FromBuild, nil
	case Pull:
		if !canPull && canBuild && strings.HasPrefix(image.Reference, "localhost/") {
			return FromBuild, nil // made from this repository: there is nowhere to pull it from
		}
		if !canPull {
			return "", fmt.Errorf("image %s: the lock has no digest for %s, and IMAGES=pull builds nothing; use IMAGES=auto", image.Name, image.Reference)
		}
		return FromRegistry, m.registry(ctx, image)
	default:
		if canPull {
			err := m.registry(ctx, image)
			if err == nil {
				return FromRegistry, nil
			}
			if !canBuild {
				return "", fmt.Errorf("image %s: no build in the lock, and %w", image.Name, err)
			}
		}
		return FromBuild, nil
	}
}

// PlanRow is one line of what `make images` shows.
type PlanRow struct {
	Image     string
	Reference string
	Source    Source
	Detail    string
}

// Plan says what a stack consists of and where each piece would come from now. It makes nothing.
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
		row := PlanRow{Image: name, Reference: image.Reference, Source: source}
		if source == FromRegistry {
			row.Detail = image.Digest
		} else if image.Build != nil {
			row.Detail = describe(image.Build)
		}
		rows = append(rows, row)
	}
	return rows, errors.Join(problems...)
}

// stackImages lists every image the stack is made of, those baked into a built node included.
func (m *Maker) stackImages(s *stack.Stack) []string {
	node, _ := m.Lock.Image(s.Node)
	return slices.Concat([]string{s.Node}, preloadOf(s, node, false), []string{m.objectStore(s), GatewayImage, AgentImage})
}

func describe(build *stack.ImageBuild) string {
	var parts []string
	if build.PackageSet != "" {
		parts = append(parts, "Debian packages: "+build.PackageSet)
	}
	for _, f := range build.Files {
		origin := ""
		switch {
		case f.Of != "":
			origin = "Go module: " + f.Of
		case f.Program != "":
			origin = f.Program
		}
		if origin != "" && !slices.Contains(parts, origin) {
			parts = append(parts, origin)
		}
	}
	return strings.Join(parts, ", ")
}
