package mutants

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/smart-restore/conformance/harness/text"
)

// Changed are the lines of files that a diff added or changed, by the file's absolute path.
type Changed map[string][][2]int // from, to

// Since finds what changed below a folder since a commit: what is committed, and what is not yet. A file that git does not know is new.
func Since(ctx context.Context, folder, ref string) (Changed, error) {
	root, err := git(ctx, folder, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("--changed-since=%s: %s is in no git repository that can be read: %w", ref, folder, err)
	}
	top := strings.TrimSpace(root)
	if strings.HasPrefix(ref, "-") {
		return nil, fmt.Errorf("--changed-since=%s: wanted is a commit, such as origin/main", ref)
	}
	base, err := git(ctx, folder, "merge-base", ref, "HEAD")
	if err != nil {
		return nil, fmt.Errorf("--changed-since=%s: wanted is a commit that HEAD has an ancestor in common with, such as origin/main; in a shallow clone, fetch more of the history (with actions/checkout, fetch-depth: 0): %w", ref, err)
	}
	diff, err := git(ctx, folder, "-c", "core.quotepath=off", "diff", "--unified=0", "--no-color", "--no-ext-diff", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/", strings.TrimSpace(base), "--", ".")
	if err != nil {
		return nil, err
	}
	changed := linesIn(diff, top)
	untracked, err := git(ctx, folder, "ls-files", "--others", "--exclude-standard", "-z", "--full-name", "--", ".")
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Split(strings.TrimSuffix(untracked, "\x00"), "\x00") {
		if name != "" {
			changed[filepath.Join(top, filepath.FromSlash(name))] = [][2]int{{1, 1 << 30}}
		}
	}
	return changed, nil
}

var hunk = regexp.MustCompile(`^@@ -[0-9,]+ \+([0-9]+)(?:,([0-9]+))? @@`)

// linesIn reads a diff without context.
func linesIn(diff, top string) Changed {
	changed := Changed{}
	file := ""
	for line := range strings.Lines(diff) {
		line = strings.TrimRight(line, "\n")
		if name, is := strings.CutPrefix(line, "+++ b/"); is {
			file = filepath.Join(top, filepath.FromSlash(strings.TrimSuffix(name, "\t")))
			continue
		}
		at := hunk.FindStringSubmatch(line)
		if at == nil {
			continue
		}
		from, _ := strconv.Atoi(at[1])
		n := 1
		if at[2] != "" {
			n, _ = strconv.Atoi(at[2])
		}
		if n > 0 { // nothing was only taken away
			changed[file] = append(changed[file], [2]int{from, from + n - 1})
		}
	}
	return changed
}

// Has says whether a mutant is of a line that changed.
func (c Changed) Has(m Mutant) bool {
	file, err := filepath.Abs(m.File)
	if err != nil {
		return false
	}
	if real, err := filepath.EvalSymlinks(file); err == nil { // as git has it
		file = real
	}
	for _, lines := range c[file] {
		if m.Line >= lines[0] && m.Line <= lines[1] {
			return true
		}
	}
	return false
}

func git(ctx context.Context, folder string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", folder}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if line := text.FirstLines(said.String(), 1); line != "" {
			err = errors.New(strings.TrimSpace(line))
		}
		return "", err
	}
	return out.String(), nil
}
