package session

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/explore"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/explore/picture"
	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/replay"
	"github.com/smart-restore/conformance/harness/verdict"
)

// recordedHistories are those that the model of make explore is held against, from the root of the checkout.
const recordedHistories = "fixtures/histories/*.yaml"

// recording is a history, and what it comes to without a cluster.
type recording struct {
	file     string
	events   []history.Event
	foreseen *explore.Foreseen
}

// calibration is what became of one.
type calibration struct {
	name   string
	ok     bool
	text   string
	events []history.Event
	result picture.Result
}

// Calibrate holds the model of make explore against a cluster: recorded histories, all or those named, are played in both, and what there is
// after each event is compared. A difference is a fault of the model, or of how a history is played.
func (s *Session) Calibrate(ctx context.Context, files []string) (err error) {
	if err := external.Refuse(s.Settings.External, "explore-calibrate"); err != nil {
		return err
	}
	p, all, err := s.foresee(ctx, files)
	if err != nil {
		return err
	}
	if s.history, err = filepath.Abs(all[0].file); err != nil { // there is a spec that plays it
		return err
	}
	s.pictured = true
	if err := s.makeReady(ctx); err != nil {
		return err
	}
	folder, err := s.newArtifacts()
	if err != nil {
		return err
	}
	down, err := s.keepOne(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, down()) }()
	var done []calibration
	for i, one := range all {
		s.Log.Printf("%d of %d: %s", i+1, len(all), one.file)
		c, err := s.calibrate(ctx, p, one, folder)
		if err != nil {
			return fmt.Errorf("%s: %w", one.file, err)
		}
		s.Log.Printf("%s: %s", c.name, c.text)
		done = append(done, c)
	}
	var table bytes.Buffer
	differs := printCalibrations(&table, done)
	return s.conclude(filepath.Join(folder, "calibration.txt"), table.Bytes(), !differs)
}

// Foreseen prints what is foreseen of recorded histories, all or those named. It needs no cluster.
func (s *Session) Foreseen(ctx context.Context, files []string) error {
	_, all, err := s.foresee(ctx, files)
	for _, one := range all {
		fmt.Fprintf(s.Out, "%s\n", one.file)
		for i, e := range one.events {
			fmt.Fprintf(s.Out, "%2d. %s\n", i+1, e.Words())
			if i < len(one.foreseen.Pictures) {
				one.foreseen.Pictures[i].Text(s.Out)
			}
		}
		if v := one.foreseen.Violation; v != nil {
			fmt.Fprintf(s.Out, "    %s: %s\n", invariantsOf(v), v.Text)
		}
	}
	return err
}

// foresee reads histories, all or those named, and plays them with POLICY without a cluster.
func (s *Session) foresee(ctx context.Context, files []string) (p *policy.Policy, all []recording, err error) {
	if p, err = s.loadPolicy(); err != nil {
		return nil, nil, err
	}
	if all, err = readRecordings(p, files); err != nil {
		return nil, nil, err
	}
	simulator, _, err := s.readySimulator(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i := range all {
		one := &all[i]
		if one.foreseen, err = explore.Foresee(ctx, p, simulator, one.events); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", one.file, err)
		}
		for j, taken := range one.foreseen.Pictures { // the others are not made on the cluster
			one.foreseen.Pictures[j] = taken.Within(replay.Namespaces(one.events))
		}
	}
	return p, all, nil
}

// readRecordings reads histories that a policy is played in, from these files or all.
func readRecordings(p *policy.Policy, files []string) (all []recording, err error) {
	given, err := check.Setting(p)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		if files, err = filepath.Glob(recordedHistories); err == nil && len(files) == 0 {
			err = fmt.Errorf("there is no %s here: name the files, or go to the root of a checkout", recordedHistories)
		}
		if err != nil {
			return nil, err
		}
	}
	var problems []error
	for _, file := range files {
		f, err := explore.Read(file, given.Faults)
		if err == nil {
			if err = errors.Join(replay.Check(f.Events), history.Pictured(f.Events)); err == nil {
				all = append(all, recording{file: file, events: f.Events})
				continue
			}
			err = fmt.Errorf("%s: %w", file, err)
		}
		problems = append(problems, err)
	}
	return all, errors.Join(problems...)
}

// calibrate plays one on the kept stack.
func (s *Session) calibrate(ctx context.Context, p *policy.Policy, one recording, folder string) (c calibration, err error) {
	if s.history, err = filepath.Abs(one.file); err != nil {
		return c, err
	}
	name := strings.TrimSuffix(filepath.Base(one.file), filepath.Ext(one.file))
	dir := artifacts.Dir(filepath.Join(folder, name))
	report, err := s.judge(ctx, p, []string{replaySpec}, "", string(dir))
	if err != nil && !errors.Is(err, ErrNotProven) {
		return c, err
	}
	shown, err := readPictures(dir.Pictures())
	if err != nil {
		return c, err
	}
	return rateCalibration(name, one, shown, report), nil
}

// readPictures reads what was written down after each event. None: it was not played so far.
func readPictures(file string) (all []picture.Picture, err error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, len(raw)+1)
	for err == nil && lines.Scan() {
		var one picture.Picture
		err = json.Unmarshal(lines.Bytes(), &one)
		all = append(all, one)
	}
	return all, errors.Join(err, lines.Err())
}

// rateCalibration says whether the cluster did what was foreseen.
func rateCalibration(name string, one recording, shown []picture.Picture, report *verdict.Report) calibration {
	c := calibration{name: name, events: one.events}
	played := len(one.events)
	if v := one.foreseen.Violation; v != nil {
		played = v.Event - 1 // of that event there is no picture
	}
	c.result = picture.Compare(played, one.foreseen.Pictures, shown)
	wanted, got, text := verdict.Pass, verdict.Unknown, report.SetupError
	if one.foreseen.Violation != nil {
		wanted = verdict.Fail
	}
	for _, result := range report.Requirements {
		if result.ID == replaySpec {
			got, text = result.Verdict, result.Message
		}
	}
	if len(report.SuiteErrors) > 0 {
		got, text = verdict.Unknown, report.SuiteErrors[0]
	}
	switch {
	case len(c.result.Differences) > 0:
		c.text = fmt.Sprintf("%d differences", len(c.result.Differences))
	case got == verdict.Unknown:
		c.text = "unknown: " + verdict.FirstLine(text)
	case got != wanted:
		c.text = fmt.Sprintf("foreseen: %s; the cluster: %s %s", invariantsOf(one.foreseen.Violation), got, verdict.FirstLine(text))
	case len(c.result.Unseen) > 0:
		c.text = fmt.Sprintf("nothing was compared of the events %v", c.result.Unseen)
	default:
		c.ok, c.text = true, fmt.Sprintf("%d events, %d fields the same, %d not looked at", len(one.events), c.result.Compared, c.result.NotLookedAt)
	}
	return c
}

func invariantsOf(v *history.Violation) string {
	if v == nil {
		return "every invariant holds"
	}
	return fmt.Sprintf("%s is broken in event %d", v.Invariant, v.Event)
}

// printCalibrations prints a table, with each difference below it, and reports whether any history is not as it was foreseen.
func printCalibrations(w io.Writer, all []calibration) (differs bool) {
	var rows []rated
	for _, c := range all {
		rows = append(rows, rated{c.ok, []string{c.name, c.text}})
	}
	differs = printRated(w, "as foreseen", "NOT", "not", rows)
	for _, c := range all {
		for _, d := range c.result.Differences {
			fmt.Fprintf(w, "%s, event %d (%s): %s of %s: foreseen: %s; the cluster: %s\n", c.name, d.Event, c.events[d.Event-1].Words(), d.Field, d.PVC, d.Foreseen, d.Shown)
		}
	}
	return differs
}
