package stack

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// entryName names an entry of one of the lock's lists.
type entryName struct{ list, name string }

// releaseName names a row of one of the lock's tables.
type releaseName struct{ table, name string }

// contentTag ends the reference of an image that is made from this repository: every stack has it.
const contentTag = ":content"

// checkUse finds what no stack uses: it would be pinned and kept up to date for nobody, and nothing would test it. A row of
// releases is named rather than each of its entries.
func (l *Lock) checkUse() error {
	used := l.inUse()
	usedRows := map[releaseName]bool{}
	for entry := range used {
		if row, ok := l.rowOf[entry]; ok {
			usedRows[row] = true
		}
	}
	var problems []error
	for _, table := range slices.Sorted(maps.Keys(l.Releases)) {
		for i, row := range l.Releases[table] {
			if !usedRows[releaseName{table, row["name"]}] {
				problems = append(problems, l.doc.At(fmt.Sprintf("releases: %s: no stack uses the row %q: put it under names of the stacks that it is for, or remove it",
					table, row["name"]), "releases", table, i))
			}
		}
	}
	report := func(list string, names []string) {
		for _, name := range names {
			row, ofRow := l.rowOf[entryName{list, name}]
			if !used[entryName{list, name}] && (!ofRow || usedRows[row]) {
				problems = append(problems, l.wrong(list, name, "no stack uses it: remove it, or name it where a stack does"))
			}
		}
	}
	report("objectStores", namesOf(l.ObjectStores, objectStoreName))
	report("builds", namesOf(l.Builds, buildName))
	report("packageSets", namesOf(l.PackageSets, packageSetName))
	report("images", namesOf(l.Images, imageName))
	report("manifests", namesOf(l.Manifests, manifestName))
	return errors.Join(problems...)
}

// inUse is everything that a stack is made of.
func (l *Lock) inUse() map[entryName]bool {
	used := map[entryName]bool{}
	var image func(name string)
	image = func(name string) {
		found, ok := l.Image(name)
		if !ok || used[entryName{"images", name}] {
			return
		}
		used[entryName{"images", name}] = true
		if found.Build == nil {
			return
		}
		used[entryName{"packageSets", found.Build.PackageSet}] = true
		for _, f := range found.Build.Files {
			used[entryName{"builds", f.Of}] = true
		}
		for _, preloaded := range found.Build.Preload {
			image(preloaded)
		}
	}
	for i := range l.Images {
		if strings.HasSuffix(l.Images[i].Reference, contentTag) {
			image(l.Images[i].Name)
		}
	}
	for _, s := range l.Stacks {
		used[entryName{"stacks", s.Name}] = true
		for _, name := range slices.Concat([]string{s.Node, s.Restic}, s.Preload) {
			image(name)
		}
		if store, ok := l.ObjectStore(s.ObjectStore); ok {
			used[entryName{"objectStores", store.Name}] = true
			image(store.Image)
		}
		for _, name := range append(slices.Clone(s.Manifests), s.UpgradesFrom) {
			if manifest, ok := l.Manifest(name); ok {
				used[entryName{"manifests", name}] = true
				used[entryName{"builds", manifest.Of}] = true
			}
		}
	}
	return used
}

func namesOf[T any](list []T, nameOf func(T) string) []string {
	names := make([]string, 0, len(list))
	for _, entry := range list {
		names = append(names, nameOf(entry))
	}
	return names
}
