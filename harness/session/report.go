package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/explain"
	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/report/decisions"
	"github.com/smart-restore/conformance/harness/report/history"
	"github.com/smart-restore/conformance/harness/report/page"
	"github.com/smart-restore/conformance/harness/verdict"
)

// ErrWorse is the result of a comparison in which the candidate is worse.
var ErrWorse = errors.New("the candidate is worse than the base")

// ReadReport reads a report: a file, or that of a run's folder.
func ReadReport(path string) (*verdict.Report, string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", fmt.Errorf("report: %w", err)
	}
	if info.IsDir() {
		path = artifacts.Dir(path).ReportYAML()
	}
	report, err := verdict.Read(path)
	return report, filepath.Dir(path), err
}

// ToStepSummary appends to the summary of a GitHub workflow's step, where there is one.
func ToStepSummary(write func(io.Writer) error) error {
	path := os.Getenv("GITHUB_STEP_SUMMARY")
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}

// SuiteRevision is the suite's version or commit; empty where that is not known.
func SuiteRevision() string {
	source, err := gomod.FindSelf()
	if err != nil {
		return ""
	}
	return source.Revision()
}

// ShowReport reads a report back, prints its summary and renders its page anew. Its result is the run's.
func ShowReport(out io.Writer, path string) error {
	report, folder, err := ReadReport(path)
	if err != nil {
		return err
	}
	if err := page.Write(folder, report); err != nil {
		return err
	}
	if err := report.Summary(out, false); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nto be looked at: %s\n", filepath.Join(folder, page.File))
	if !report.OK() {
		return ErrNotProven
	}
	return nil
}

// Diff compares what two reports say of their policies.
func Diff(out io.Writer, basePath, candidatePath string, markdown bool) error {
	base, _, err := ReadReport(basePath)
	if err != nil {
		return fmt.Errorf("base: %w", err)
	}
	candidate, _, err := ReadReport(candidatePath)
	if err != nil {
		return fmt.Errorf("candidate: %w", err)
	}
	d := decisions.Compare(base, candidate)
	write := d.Text
	if markdown {
		write = d.Markdown
	}
	if err := write(out); err != nil {
		return err
	}
	if d.Worse() {
		return ErrWorse
	}
	return nil
}

// History puts the reports of all runs below a folder on one page: the file, or one in the folder. How long each requirement took goes
// into the file of seconds, where one is named.
func History(out io.Writer, folder, file, seconds string) error {
	found, err := history.Find(folder)
	if err != nil {
		return err
	}
	if file == "" {
		file = filepath.Join(folder, history.File)
	}
	if err := history.Write(folder, found, file); err != nil {
		return err
	}
	if err := history.Summary(out, found); err != nil {
		return err
	}
	if seconds != "" {
		raw, err := os.ReadFile(seconds)
		if err == nil {
			raw, err = explain.WithSeconds(raw, history.Took(found.Runs))
		}
		if err == nil {
			err = os.WriteFile(seconds, raw, 0o644)
		}
		if err != nil {
			return fmt.Errorf("--seconds=%s: %w", seconds, err)
		}
	}
	fmt.Fprintf(out, "\nto be looked at: %s\n", file)
	return nil
}

// RerunSettings are the settings with which a rerun of the report's run tries the same policy on the same stack. An external
// cluster has to be allowed by its name once more.
func RerunSettings(report *verdict.Report) map[string]string {
	given := map[string]string{
		"POLICY": report.Implementation.Policy, "STACK": report.Stack.Name, "S3_ENDPOINT": report.Selection.EndpointSetting, "IMAGES": report.Stack.Images,
		"FOCUS": "", "LABELS": "", "PLAN": "",
	}
	cluster := report.Stack.ExternalCluster
	given["KUBE_CONTEXT"], given["BASE_SECRET_FROM"] = cluster.Context, cluster.BaseSecretFrom
	if cluster.Name == "" {
		given["ALLOW_CLUSTER"] = ""
	} else {
		given["STACK"] = ""
	}
	return given
}

// toRerun are the requirements of a report that failed or were unknown.
func toRerun(report *verdict.Report) (ids []string) {
	for _, result := range report.Requirements {
		if result.Fails() {
			ids = append(ids, result.ID)
		}
	}
	return ids
}

// NeedsRerun says whether anything of the report's run is to be run again.
func NeedsRerun(report *verdict.Report) bool {
	return len(toRerun(report)) > 0 || report.SetupError != ""
}

// Rerun runs exactly what failed or was unknown in a report's run that NeedsRerun. The settings must be those of RerunSettings.
func (s *Session) Rerun(ctx context.Context, report *verdict.Report) error {
	if _, err := external.ChosenBy(s.Settings.External); err != nil {
		return err
	}
	ids := toRerun(report)
	sel := s.selected()
	if len(ids) > 0 {
		sel.only, sel.rerunOf = ids, report.Run.ID
		s.Log.Printf("again, of run %s: %s", report.Run.ID, strings.Join(ids, ", "))
	} else {
		sel.focus, sel.labels = report.Selection.Focus, report.Selection.Labels
		s.Log.Printf("run %s tried nothing, because its set-up failed: all that it selected", report.Run.ID)
	}
	specs, sel, err := s.listSpecs(ctx, sel)
	if err != nil {
		return err
	}
	var gone []string
	for _, id := range ids {
		if !slices.ContainsFunc(specs, func(sp spec) bool { return sp.ID == id }) {
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 {
		return fmt.Errorf("the suite has no %s any more: the report of run %s comes from another version of the suite", strings.Join(gone, ", "), report.Run.ID)
	}
	p, err := s.policyFor(specs, sel)
	if err != nil {
		return err
	}
	if p.SHA256 != report.Implementation.SHA256 {
		s.Log.Printf("the policy %s is not as it was in run %s: it has changed since", report.Implementation.Policy, report.Run.ID)
	}
	return s.e2e(ctx, specs, sel, p)
}
