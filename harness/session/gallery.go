package session

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/report/promises"
)

// Gallery checks small setups, those of every contract in the folders, and prints a line for each and what is wrong that its contract does
// not expect.
func (s *Session) Gallery(ctx context.Context, folders []string) error {
	setups, err := s.loadGallery(ctx, folders)
	if err != nil {
		return err
	}
	simulator, stackName, err := s.simulatorFor(setups)(ctx)
	if err != nil {
		return err
	}
	ok := true
	for _, p := range setups {
		report, err := check.Run(ctx, p, stackName, simulator)
		if err != nil {
			return fmt.Errorf("POLICY=%s: %w", p.Path, err)
		}
		fmt.Fprintln(s.Out, report.Line())
		if report.Unplayed != "" {
			fmt.Fprintf(s.Out, "    unknown: nothing could be said: %s\n", report.Unplayed)
		}
		for _, t := range report.Findings {
			if t.Verdict == check.Finding && t.Follows == 0 {
				fmt.Fprintf(s.Out, "    %s: %s%s\n", t.Requirement, t.Where(), t.Text)
			}
		}
		ok = ok && report.OK()
	}
	if !ok {
		fmt.Fprintln(s.Out, "make check POLICY=... shows all of one setup. Mend it, or say under expectedFailures in its contract what it does not hold, and why.")
		return ErrNotProven
	}
	return nil
}

// WriteGallery writes what the setups in the folders are, and what each does not hold, into a Markdown file.
func (s *Session) WriteGallery(ctx context.Context, folders []string, file string) error {
	text, err := s.gallery(ctx, folders, file)
	if err != nil {
		return err
	}
	return promises.GalleryBlock.WriteInto(file, text)
}

func (s *Session) gallery(ctx context.Context, folders []string, file string) (string, error) {
	loaded, err := s.loadGallery(ctx, folders)
	if err != nil {
		return "", err
	}
	var setups []promises.Setup
	for _, p := range loaded {
		setups = append(setups, promises.Setup{Contract: p.Contract, Folder: filepath.ToSlash(filepath.Dir(p.Path))})
	}
	specs, err := s.promisable(ctx)
	if err != nil {
		return "", err
	}
	from, errFile := filepath.Abs(filepath.Dir(file))
	here, errHere := filepath.Abs(".")
	if err := errors.Join(errFile, errHere); err != nil {
		return "", err
	}
	root, err := filepath.Rel(from, here)
	if err != nil {
		return "", err
	}
	return promises.Gallery(setups, specs, s.Lock.Stacks, filepath.ToSlash(root))
}

// loadGallery loads the setups in the folders. A setup has its folder's name, or one that begins so.
func (s *Session) loadGallery(ctx context.Context, folders []string) ([]*policy.Policy, error) {
	var paths []string
	for _, folder := range folders {
		contracts, err := filepath.Glob(filepath.Join(folder, "*conformance.yaml"))
		if err != nil {
			return nil, err
		}
		if len(contracts) == 0 {
			return nil, fmt.Errorf("%s has no conformance.yaml: add one, by policies/BRING-YOUR-OWN.md", folder)
		}
		slices.Sort(contracts)
		paths = append(paths, contracts...)
	}
	setups, err := s.loadToCheck(ctx, paths)
	for _, p := range setups {
		if folder := filepath.Base(filepath.Dir(p.Path)); !strings.HasPrefix(p.Contract.Name, folder) {
			return nil, fmt.Errorf("%s: the setup is called %s: call it %s, as its folder is, or a name that begins so", p.Path, p.Contract.Name, folder)
		}
	}
	return setups, err
}
