package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/verdict"
)

// Track is the runs of one policy on one stack.
type Track struct {
	Policy, Stack string
	Runs          []Run // oldest first
	Rows          []*Row
}

// Row is what became of one requirement.
type Row struct {
	verdict.Requirement
	// Results has one of each run; nil: the run did not try it.
	Results []*verdict.Result
	Failing *Since
	Flakes  []Flake
}

// Since says when a requirement began to fail. It is of those that did not hold in the last run that tried them.
type Since struct {
	Run  int // of the track: the first after which it never held
	Held int // the last run in which it held; -1: in none that is here
	// Changed is what is not as it was in that run.
	Changed []string
	Last    *verdict.Result
}

// Flake is what runs said of a requirement that were alike in policy, suite and stack.
type Flake struct {
	Runs                []int
	Pass, Fail, Unknown int
}

// Tracks sorts runs by policy and stack: those of the newest run first.
func Tracks(runs []Run) []*Track {
	byName := map[[2]string]*Track{}
	for _, run := range runs {
		name := [2]string{cmp.Or(run.Implementation.Name, run.Implementation.Policy), cmp.Or(run.Stack.Name, run.Stack.ExternalCluster.Name)}
		if byName[name] == nil {
			byName[name] = &Track{Policy: name[0], Stack: name[1]}
		}
		byName[name].Runs = append(byName[name].Runs, run)
	}
	tracks := slices.Collect(maps.Values(byName))
	for _, t := range tracks {
		t.fill()
	}
	slices.SortFunc(tracks, func(a, b *Track) int {
		return cmp.Or(b.newest().Run.Started.Compare(a.newest().Run.Started), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Stack, b.Stack))
	})
	return tracks
}

func (t *Track) newest() Run { return t.Runs[len(t.Runs)-1] }

func (t *Track) fill() {
	rows := map[string]*Row{}
	for i, run := range t.Runs {
		for j, result := range run.Requirements {
			row := rows[result.ID]
			if row == nil {
				row = &Row{Results: make([]*verdict.Result, len(t.Runs))}
				rows[result.ID] = row
			}
			row.Requirement = result.Requirement // the newest sentence
			if tried(result) {
				row.Results[i] = &run.Requirements[j]
			}
		}
	}
	t.Rows = slices.SortedFunc(maps.Values(rows), func(a, b *Row) int { return verdict.Compare(a.Requirement, b.Requirement) })
	for _, row := range t.Rows {
		row.Failing, row.Flakes = t.since(row), t.flakes(row)
	}
}

// tried says that the run came to the requirement: of one that it never reached nothing was seen to change.
func tried(r verdict.Result) bool { return r.Verdict != verdict.Unknown || !r.Started.IsZero() }

func (t *Track) since(row *Row) *Since {
	var s *Since
	for i := len(row.Results) - 1; i >= 0; i-- {
		switch r := row.Results[i]; {
		case r == nil || r.Verdict == verdict.NotPromised && s != nil:
		case r.Fails() && s == nil:
			s = &Since{Run: i, Held: -1, Last: r}
		case r.Fails():
			s.Run = i
		case s == nil:
			return nil
		default:
			s.Held = i
			s.Changed = changed(t.Runs[i], t.Runs[s.Run])
			return s
		}
	}
	return s
}

// uncommitted says that a run's suite is not known by its commit: two such need not be the same.
func uncommitted(suite string) bool { return suite == "" || strings.HasSuffix(suite, "+") }

// changed is what differs between two runs, in words.
func changed(a, b Run) (what []string) {
	say := func(name, before, after string) {
		if before != after {
			what = append(what, fmt.Sprintf("%s %s → %s", name, cmp.Or(before, "none"), cmp.Or(after, "none")))
		}
	}
	say("policy", short(a.Implementation.SHA256), short(b.Implementation.SHA256))
	say("features", strings.Join(a.Implementation.Features.Declared, ", "), strings.Join(b.Implementation.Features.Declared, ", "))
	if a.Run.Suite == b.Run.Suite && uncommitted(a.Run.Suite) {
		what = append(what, "perhaps the suite, which was not as committed")
	}
	say("suite", a.Run.Suite, b.Run.Suite)
	before, after := components(a), components(b)
	for _, name := range slices.Sorted(maps.Keys(merged(before, after))) {
		say(name, before[name], after[name])
	}
	return what
}

func merged(a, b map[string]string) map[string]string {
	both := maps.Clone(a)
	maps.Copy(both, b)
	return both
}

func short(sum string) string { return sum[:min(len(sum), 8)] }

// components are what a run's stack was made of, by name.
func components(run Run) map[string]string {
	parts := map[string]string{"endpoint": run.Stack.Endpoint, "nodes": fmt.Sprint(max(1, run.Stack.Nodes)), "cluster": run.Stack.ExternalCluster.Name}
	maps.Copy(parts, run.Stack.Requested)
	for name, c := range run.Stack.Observed {
		parts[name] = c.Version
	}
	return parts
}

// flakes are the groups of like runs whose verdicts differ.
func (t *Track) flakes(row *Row) (flakes []Flake) {
	for i, run := range t.Runs {
		if r := row.Results[i]; r == nil || r.Verdict == verdict.NotPromised || uncommitted(run.Run.Suite) {
			continue
		}
		j := slices.IndexFunc(flakes, func(f Flake) bool { return len(changed(t.Runs[f.Runs[0]], run)) == 0 })
		if j < 0 {
			j = len(flakes)
			flakes = append(flakes, Flake{})
		}
		f := &flakes[j]
		f.Runs = append(f.Runs, i)
		switch row.Results[i].Verdict {
		case verdict.Pass:
			f.Pass++
		case verdict.Fail:
			f.Fail++
		default:
			f.Unknown++
		}
	}
	return slices.DeleteFunc(flakes, func(f Flake) bool { return max(f.Pass, f.Fail, f.Unknown) == len(f.Runs) })
}

// Seconds are how long a requirement took to be seen to hold, run by run.
func (r *Row) Seconds() (seconds []float64) {
	for _, result := range r.Results {
		if result != nil && result.Verdict == verdict.Pass {
			seconds = append(seconds, result.DurationSeconds)
		}
	}
	return seconds
}

// Took is how long each requirement took to be seen to hold, in seconds: the median of all runs.
func Took(runs []Run) map[string]float64 {
	all := map[string][]float64{}
	for _, run := range runs {
		for _, result := range run.Requirements {
			if result.Verdict == verdict.Pass {
				all[result.ID] = append(all[result.ID], result.DurationSeconds)
			}
		}
	}
	took := map[string]float64{}
	for id, seconds := range all {
		took[id] = Median(seconds)
	}
	return took
}

// Median is the middle of some numbers; 0 of none.
func Median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
