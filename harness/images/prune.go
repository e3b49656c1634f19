package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/stack"
)

// Pruned is what Prune removed.
type Pruned struct {
	Archives []string // in the cache
	Bytes    int64    // of those
	Images   []string // in the engine
	InUse    []string // those that a container there keeps
}

// Prune removes the images that no stack of the lock is made of: an earlier content of them, or another version's. What was
// pulled stays, since it may be somebody else's. Where it cannot say what must stay, nothing is removed.
func (m *Maker) Prune(ctx context.Context) (Pruned, error) {
	archives, references, err := m.current(ctx)
	if err != nil {
		return Pruned{}, err
	}
	var pruned Pruned
	found, err := filepath.Glob(m.Cache.Path(archiveKind, archiveName("*")))
	if err != nil {
		return pruned, err
	}
	for _, archive := range found {
		if slices.Contains(archives, filepath.Base(archive)) {
			continue
		}
		info, err := os.Stat(archive)
		if err != nil {
			continue // another process has removed it
		}
		if err := os.Remove(archive); err != nil {
			return pruned, err
		}
		pruned.Archives, pruned.Bytes = append(pruned.Archives, archive), pruned.Bytes+info.Size()
	}
	inEngine, err := m.Engine.Docker(ctx, "images", "--filter", "reference="+engineReferences+"*", "--format", "{{.Repository}}:{{.Tag}}")
	if err != nil {
		return pruned, err
	}
	for _, reference := range strings.Fields(inEngine) {
		if slices.Contains(references, reference) {
			continue
		}
		users, err := m.Engine.Docker(ctx, "ps", "--all", "--quiet", "--filter", "ancestor="+reference)
		if err != nil {
			return pruned, err
		}
		if users != "" {
			pruned.InUse = append(pruned.InUse, reference)
			continue
		}
		if _, err := m.Engine.Docker(ctx, "rmi", reference); err != nil {
			return pruned, err
		}
		pruned.Images = append(pruned.Images, reference)
	}
	return pruned, nil
}

// current is what the lock's stacks are made of: names of archives in the cache, and references in the engine.
func (m *Maker) current(ctx context.Context) (archives, references []string, err error) {
	for i := range m.Lock.Images {
		image := &m.Lock.Images[i]
		if image.Build == nil {
			continue
		}
		key, err := m.key(ctx, image)
		if err != nil {
			return nil, nil, fmt.Errorf("image %s: %w", image.Name, err)
		}
		archives = append(archives, archiveName(key))
		references = append(references, engineReference(image.Name, key), engineReference(nodeBase, key))
	}
	for _, name := range m.Lock.StackNames() {
		s, err := m.Lock.Stack(name)
		if err != nil {
			return nil, nil, err
		}
		baked, err := m.bakedReferences(ctx, s)
		if err != nil {
			return nil, nil, fmt.Errorf("stack %s: %w", name, err)
		}
		references = append(references, baked...)
	}
	return archives, references, nil
}

// bakedReferences are the stack's node images, as baked into a node that was built, and into one that was pulled.
func (m *Maker) bakedReferences(ctx context.Context, s *stack.Stack) ([]string, error) {
	node, _ := m.Lock.Image(s.Node)
	var references []string
	for _, pulled := range []bool{false, true} {
		reference, err := m.bakedReference(ctx, node, pulled, preloadOf(s, node, pulled))
		if err != nil {
			return nil, err
		}
		references = append(references, reference)
	}
	return references, nil
}
