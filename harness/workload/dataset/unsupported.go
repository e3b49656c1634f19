//go:build !linux

package dataset

import (
	"errors"
	"fmt"
)

// Write needs Linux.
func Write(root string, spec Spec) error {
	return fmt.Errorf("dataset: write %s: %w", root, errors.ErrUnsupported)
}

// Scan needs Linux.
func Scan(root string) (Manifest, error) {
	return Manifest{}, fmt.Errorf("dataset: scan %s: %w", root, errors.ErrUnsupported)
}
