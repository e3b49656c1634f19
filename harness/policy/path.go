package policy

import (
	"os"
	"path/filepath"
)

// Shown is a path as it is shown to people and written into reports: relative to the current folder if it is below that,
// otherwise as it is.
func Shown(path string) string {
	folder, err := os.Getwd()
	if err != nil {
		return path
	}
	if below, ok := Below(folder, path); ok {
		return below
	}
	return path
}

// Below is a path relative to a folder, and whether it is below it. A relative path is one of the current folder.
func Below(folder, path string) (string, bool) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	below, err := filepath.Rel(folder, whole)
	return below, err == nil && filepath.IsLocal(below)
}
