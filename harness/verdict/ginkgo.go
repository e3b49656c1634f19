package verdict

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

// SuiteInfo is what Ginkgo's report says beyond the single specs.
type SuiteInfo struct {
	Started, Ended time.Time
	// TotalSpecs and SelectedSpecs are as Ginkgo counted them before the run.
	TotalSpecs, SelectedSpecs int
	Procs                     int
	// NotSelected are the IDs of specs that a filter left out.
	NotSelected []string
	// Partial says why this run was not of all specs, or not a run at all;
	// empty for a full one.
	Partial []string
	// Irregular says which selected specs were not simply run once, from their
	// beginning to their end.
	Irregular []string
	// SetupError is why the suite could not be set up; no spec ran then, and
	// Ginkgo lists none.
	SetupError string
	// Errors are what else went wrong outside specs: clean-up, an interrupt, a
	// process that died.
	Errors []string
	// Evidence is what set-up and clean-up recorded.
	Evidence []Evidence
}

// FromGinkgo reads Ginkgo's JSON report and judges each spec that was selected.
// Results are sorted by level and ID. An error means that r holds no such
// report; whatever a report says about a bad run is in Results and SuiteInfo.
//
// Ginkgo's state "skipped" stands for three things: left out by a filter, which
// is not selected; skipped by the spec itself, and never reached (an interrupt,
// an abort), which are unknown. It has a message in the second case alone, so
// the first and the third are told apart by applying the filters again.
func FromGinkgo(r io.Reader) ([]Result, SuiteInfo, error) {
	var reports []types.Report
	if err := json.NewDecoder(r).Decode(&reports); err != nil {
		return nil, SuiteInfo{}, fmt.Errorf("the JSON report of Ginkgo: %w", err)
	}
	if len(reports) == 0 {
		return nil, SuiteInfo{}, errors.New("the JSON report of Ginkgo holds no suite")
	}
	var results []Result
	var info SuiteInfo
	for _, report := range reports {
		results = append(results, readSuite(report, &info)...)
	}
	slices.SortStableFunc(results, func(a, b Result) int { return Compare(a.Requirement, b.Requirement) })
	for i := 1; i < len(results); i++ {
		if results[i].ID == results[i-1].ID {
			info.fail("two specs claim the requirement " + results[i].ID)
		}
	}
	slices.Sort(info.NotSelected)
	return results, info, nil
}

func (info *SuiteInfo) fail(message string) {
	if !slices.Contains(info.Errors, message) {
		info.Errors = append(info.Errors, message)
	}
}

func readSuite(report types.Report, info *SuiteInfo) []Result {
	if info.Started.IsZero() || report.StartTime.Before(info.Started) {
		info.Started = report.StartTime
	}
	if report.EndTime.After(info.Ended) {
		info.Ended = report.EndTime
	}
	info.TotalSpecs += report.PreRunStats.TotalSpecs
	info.SelectedSpecs += report.PreRunStats.SpecsThatWillRun
	info.Procs = max(info.Procs, report.SuiteConfig.ParallelTotal)

	specs := report.SpecReports.WithLeafNodeType(types.NodeTypeIt)
	readSuiteNodes(report, info)
	f := newFilter(report)
	info.Partial = append(info.Partial, f.reasons...)

	ended := "the run ended before it"
	if len(report.SpecialSuiteFailureReasons) > 0 {
		ended += " (" + strings.Join(report.SpecialSuiteFailureReasons, "; ") + ")"
	}
	var results []Result
	var unclear []types.SpecReport // skipped without a word
	selected, pending := 0, 0
	for _, spec := range specs {
		result, errs := readSpec(spec, report.SuitePath)
		for _, e := range errs {
			info.fail(e)
		}
		switch {
		case spec.State == types.SpecStatePending:
			pending++
			if !f.selects(spec) {
				info.NotSelected = append(info.NotSelected, result.ID)
				continue
			}
			result.unknown("pending: the spec is marked as not ready")
		case spec.State == types.SpecStateSkipped && spec.Failure.Message == "":
			if !f.selects(spec) {
				info.NotSelected = append(info.NotSelected, result.ID)
				continue
			}
			if report.SuiteHasProgrammaticFocus {
				unclear = append(unclear, spec)
				continue
			}
			selected++
			result.unknown("did not run: " + ended)
		case report.SuiteConfig.DryRun:
			selected++
			result.Message = ""
			result.unknown("did not run: this was a dry run")
		default:
			selected++
		}
		results = append(results, result)
	}
	// A report does not show which specs a focus in the code (FIt) left out;
	// only how many should have run.
	for _, spec := range unclear {
		result, _ := readSpec(spec, report.SuitePath)
		if selected >= report.PreRunStats.SpecsThatWillRun {
			info.NotSelected = append(info.NotSelected, result.ID)
			continue
		}
		result.unknown("did not run: left out by a focus in the code, or " + ended)
		results = append(results, result)
	}

	info.Irregular = append(info.Irregular, irregular(specs, results)...)
	for _, reason := range report.SpecialSuiteFailureReasons {
		if info.SetupError == "" || !strings.Contains(reason, "BeforeSuite") {
			info.fail(reason)
		}
	}
	if missing := report.PreRunStats.SpecsThatWillRun - selected - len(unclear); missing > 0 && info.SetupError == "" {
		info.fail(fmt.Sprintf("%d of %d selected specs left no report: a Ginkgo process may have died, see ginkgo.log", missing, report.PreRunStats.SpecsThatWillRun))
	}
	failed := slices.ContainsFunc(results, func(r Result) bool { return r.Verdict != Pass && r.Verdict != NotPromised })
	if !report.SuiteSucceeded && !failed && info.SetupError == "" && len(info.Errors) == 0 {
		info.fail("Ginkgo says that the suite failed, and gives no reason")
	}
	return results
}

// irregular says which specs were not simply run once, from their beginning
// to their end: those that a filter left out are not among them.
func irregular(specs types.SpecReports, results []Result) (reasons []string) {
	named := map[string][]string{}
	say := func(reason string, spec types.SpecReport) {
		id := identify(spec).ID
		if slices.ContainsFunc(results, func(r Result) bool { return r.ID == id && r.Verdict != NotPromised }) {
			named[reason] = append(named[reason], id)
		}
	}
	for _, spec := range specs {
		switch {
		case spec.State == types.SpecStatePending:
			say("marked as not ready", spec)
		case spec.State == types.SpecStateSkipped && spec.Failure.Message != "":
			say("skipped by the spec itself", spec)
		case spec.State == types.SpecStateSkipped:
			say("never reached", spec)
		case spec.State.Is(types.SpecStateInterrupted | types.SpecStateAborted):
			say("interrupted", spec)
		}
		if spec.NumAttempts > 1 {
			say(fmt.Sprintf("tried %d times", spec.NumAttempts), spec)
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(named)) {
		reasons = append(reasons, reason+": "+strings.Join(named[reason], ", "))
	}
	return reasons
}

// readSuiteNodes takes in set-up and clean-up: one report a process.
func readSuiteNodes(report types.Report, info *SuiteInfo) {
	const setup = types.NodeTypeBeforeSuite | types.NodeTypeSynchronizedBeforeSuite | types.NodeTypeReportBeforeSuite
	// What one process failed at the others only repeat.
	echoes := []string{
		heading(types.GinkgoErrors.SynchronizedBeforeSuiteFailedOnProc1()),
		heading(types.GinkgoErrors.SynchronizedBeforeSuiteDisappearedOnProc1()),
	}
	var causes, followUps []string
	for _, node := range report.SpecReports {
		if node.LeafNodeType.Is(types.NodeTypeIt) {
			continue
		}
		evidence, _ := readEvidence(node)
		info.Evidence = append(info.Evidence, evidence...)
		message := failureMessage(node.Failure)
		skipped := node.State.Is(types.SpecStateSkipped) && message != ""
		if !node.Failed() && !skipped {
			continue
		}
		if message == "" {
			message = node.State.String()
		}
		if !node.LeafNodeType.Is(setup) {
			info.fail(fmt.Sprintf("%s (%s): %s", node.LeafNodeType, location(node, report.SuitePath), message))
			continue
		}
		echo := node.State.Is(types.SpecStateInterrupted|types.SpecStateAborted) ||
			slices.ContainsFunc(echoes, func(e string) bool { return strings.Contains(message, e) })
		if skipped {
			message = "skipped: " + message
		}
		switch {
		case echo && !slices.Contains(followUps, message):
			followUps = append(followUps, message)
		case !echo && !slices.Contains(causes, message):
			causes = append(causes, message)
		}
	}
	if len(causes) == 0 {
		causes = followUps
	}
	if len(causes) > 0 {
		if info.SetupError != "" {
			causes = append([]string{info.SetupError}, causes...)
		}
		info.SetupError = strings.Join(causes, "\n")
	}
}

func heading(err error) string {
	var e types.GinkgoError
	if errors.As(err, &e) {
		return e.Heading
	}
	return err.Error()
}

// record is what a spec recorded, in its order.
type record struct {
	requirement *Requirement
	fails       []types.ReportEntry
	unknowns    []types.ReportEntry
	suiteErrors []string
	notPromised string
	body        string // BodyReturned, BodyLeft, or none: it never ended
	unreadable  []string
}

// readRecord takes the entries of a spec. What a clean-up records after the body is no verdict any more.
func readRecord(spec types.SpecReport) (rec record) {
	for _, entry := range spec.ReportEntries {
		switch entry.Name {
		case NameRequirement:
			var r Requirement
			if err := decodeEntry(entry, &r); err != nil || r.ID == "" {
				rec.unreadable = append(rec.unreadable, "the requirement")
				continue
			}
			r.Level = cmp.Or(r.Level, LevelOf(r.ID))
			rec.requirement, rec.body = &r, "" // an attempt begins
		case NameBody:
			rec.body = entryText(entry)
		case NameNotPromised:
			rec.notPromised = entryText(entry)
		case NameSuiteError:
			rec.suiteErrors = append(rec.suiteErrors, entryText(entry))
		case NameFail, NameUnknown:
			switch {
			case rec.body != "":
				rec.suiteErrors = append(rec.suiteErrors, "recorded after the body: "+entry.Name+": "+entryText(entry))
			case entry.Name == NameFail:
				rec.fails = append(rec.fails, entry)
			default:
				rec.unknowns = append(rec.unknowns, entry)
			}
		}
	}
	return rec
}

// cleanUpNodes are the nodes that run after a spec's body.
const cleanUpNodes = types.NodeTypeCleanupAfterEach | types.NodeTypeCleanupAfterAll | types.NodeTypeJustAfterEach |
	types.NodeTypeAfterEach | types.NodeTypeAfterAll | types.NodeTypeReportAfterEach

// bodyState is how the body ended, as Ginkgo says, which lets a clean-up that fails change a spec's state.
func bodyState(spec types.SpecReport) types.SpecState {
	if spec.Failed() && spec.Failure.FailureNodeType.Is(cleanUpNodes) {
		return types.SpecStatePassed
	}
	return spec.State
}

// readSpec judges a spec by what it recorded: fail beats unknown, unknown beats pass, and nothing but a record of it is a
// fail. The errors are what went wrong that is not about the requirement.
func readSpec(spec types.SpecReport, suitePath string) (result Result, suiteErrors []string) {
	rec, state := readRecord(spec), bodyState(spec)
	result = Result{
		Requirement:     identify(spec),
		Started:         spec.StartTime,
		Ended:           spec.EndTime,
		DurationSeconds: seconds(spec.RunTime),
		Location:        location(spec, suitePath),
	}
	if rec.requirement != nil {
		result.Requirement = *rec.requirement
	}
	result.Rerun = RerunLine(result.ID)
	evidence, bad := readEvidence(spec)
	result.Evidence = evidence
	rec.unreadable = append(rec.unreadable, bad...)
	if spec.MaxFlakeAttempts > 1 && spec.NumAttempts > 1 {
		result.Evidence = append(result.Evidence, Evidence{
			Time: spec.EndTime, Kind: "ginkgo", Text: fmt.Sprintf("took %d attempts of %d", spec.NumAttempts, spec.MaxFlakeAttempts),
		})
	}
	said := ""
	if state == spec.State {
		said = failureMessage(spec.Failure)
	}

	switch unreadable := "could not be read back: " + strings.Join(rec.unreadable, ", "); {
	case len(rec.fails) > 0:
		result.Verdict, result.Message, result.FailedAt = Fail, texts(rec.fails, "\nalso: "), rec.fails[0].Time
		if len(rec.unknowns) > 0 {
			result.Message += "\nand could not see: " + texts(rec.unknowns, "; ")
		}
		if len(rec.unreadable) > 0 {
			result.Message += "\n" + unreadable
		}
	case len(rec.unknowns) > 0:
		result.FailedAt = rec.unknowns[0].Time
		result.unknown(texts(rec.unknowns, "; "))
	case state == types.SpecStateSkipped && rec.notPromised != "":
		result.Verdict, result.Message = NotPromised, rec.notPromised
	case state == types.SpecStateSkipped && said != "":
		result.unknown("skipped: " + said)
	case state.Is(types.SpecStateSkipped | types.SpecStatePending):
		result.Verdict = Unknown // readSuite knows why
	case len(rec.unreadable) > 0:
		result.unknown(unreadable)
	case state == types.SpecStatePassed && rec.body == BodyReturned:
		result.Verdict = Pass
	case state == types.SpecStatePassed:
		result.unknown("the spec did not record that it came to its end")
	default:
		result.unknown(withoutVerdict(state, said))
	}
	if result.FailedAt.IsZero() && state == spec.State && spec.Failed() {
		result.FailedAt = spec.Failure.TimelineLocation.Time
	}
	return result, rec.errorsOf(spec, result)
}

// texts are the texts of entries, each of them once.
func texts(entries []types.ReportEntry, between string) string {
	var all []string
	for _, entry := range entries {
		if text := entryText(entry); !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return strings.Join(all, between)
}

// withoutVerdict says how a body ended that recorded no verdict.
func withoutVerdict(state types.SpecState, said string) string {
	how := map[types.SpecState]string{
		types.SpecStatePanicked:    "the spec panicked",
		types.SpecStateTimedout:    "the spec ran out of time",
		types.SpecStateInterrupted: "the spec was interrupted",
		types.SpecStateAborted:     "the spec aborted the suite",
		types.SpecStateFailed:      "the spec ended without a verdict",
	}[state]
	if how == "" {
		return "Ginkgo's state: " + state.String()
	}
	if said != "" {
		how += ": " + said
	}
	return how
}

// errorsOf are a spec's suite errors, each with the spec's ID.
func (rec record) errorsOf(spec types.SpecReport, result Result) (errs []string) {
	say := func(text string) { errs = append(errs, result.ID+": "+text) }
	for _, text := range rec.suiteErrors {
		say(text)
	}
	recorded := func(panicked string) bool { // with more about it than Ginkgo knows
		return panicked != "" && slices.ContainsFunc(rec.suiteErrors, func(e string) bool { return strings.Contains(e, panicked) })
	}
	if !spec.Failed() {
		return errs
	}
	verdictless := len(rec.fails)+len(rec.unknowns) == 0
	first := types.AdditionalFailure{State: spec.State, Failure: spec.Failure}
	for i, f := range append([]types.AdditionalFailure{first}, spec.AdditionalFailures...) {
		text := failureMessage(f.Failure)
		switch inCleanUp := f.Failure.FailureNodeType.Is(cleanUpNodes); {
		case recorded(f.Failure.ForwardedPanic):
		case inCleanUp:
			say("clean-up failed: " + cmp.Or(text, f.State.String()))
		case f.State == types.SpecStatePanicked:
			say(withoutVerdict(f.State, text))
		case f.State == types.SpecStateFailed && (verdictless || i > 0):
			say("failed without recording a verdict: " + cmp.Or(text, "no reason was given"))
		}
		if ran := rec.requirement != nil; i == 0 && ran && rec.body == "" && f.State.Is(types.SpecStateTimedout|types.SpecStateInterrupted) {
			say("leaked: its body went on after its time was up and the grace period was over, and may have disturbed specs that ran later")
		}
	}
	return errs
}

// unknown makes the verdict unknown for a reason, and keeps what else is said.
func (r *Result) unknown(reason string) {
	r.Verdict = Unknown
	if r.Message != "" && !strings.Contains(reason, r.Message) {
		reason += "\n" + r.Message
	}
	r.Message = reason
}

// readEvidence returns a spec's evidence by time, and what was no evidence.
func readEvidence(spec types.SpecReport) (evidence []Evidence, unreadable []string) {
	for i, entry := range spec.ReportEntries {
		if entry.Name != NameEvidence {
			continue
		}
		var e Evidence
		if err := decodeEntry(entry, &e); err != nil {
			unreadable = append(unreadable, fmt.Sprintf("evidence %d (%v)", i+1, err))
			continue
		}
		if e.Time.IsZero() {
			e.Time = entry.Time
		}
		evidence = append(evidence, e)
	}
	slices.SortStableFunc(evidence, func(a, b Evidence) int { return a.Time.Compare(b.Time) })
	return evidence, unreadable
}

// entryText is the text of an entry that is nothing else.
func entryText(entry types.ReportEntry) string {
	text := entry.StringRepresentation()
	if s := ""; json.Unmarshal([]byte(entry.Value.AsJSON), &s) == nil {
		text = s
	}
	return cmp.Or(strings.TrimSpace(text), "no reason was given")
}

// decodeEntry decodes an entry's value: JSON in a string, or an object that
// was handed to Ginkgo as it is.
func decodeEntry(entry types.ReportEntry, into any) error {
	text := entry.Value.AsJSON
	var inner string
	if json.Unmarshal([]byte(text), &inner) == nil {
		text = inner
	}
	return json.Unmarshal([]byte(text), into)
}

var requirementID = regexp.MustCompile(`^(` + strings.Join(levels, "|") + `)/[A-Za-z0-9][A-Za-z0-9._/-]*$`)

// identify finds a spec's requirement where its body did not get to record it:
// a text or label of the spec that is, or begins with, an ID.
func identify(spec types.SpecReport) Requirement {
	texts := append([]string{spec.LeafNodeText}, spec.ContainerHierarchyTexts...)
	for _, text := range append(texts, spec.Labels()...) {
		id, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
		id = strings.TrimRight(id, ":,;")
		if !requirementID.MatchString(id) {
			continue
		}
		r := Requirement{ID: id, Level: LevelOf(id), Sentence: strings.TrimLeft(rest, " :–—-")}
		if r.Sentence == "" && text != spec.LeafNodeText {
			r.Sentence = spec.LeafNodeText
		}
		return r
	}
	return Requirement{ID: spec.FullText()}
}

// failureMessage is all that Ginkgo says about a failure.
func failureMessage(f types.Failure) string {
	message := f.Message
	switch f.ForwardedPanic {
	case "":
	case "<nil>": // what recover returns then
		message += ": its goroutine was ended without a panic (runtime.Goexit)"
	default:
		message += ": " + f.ForwardedPanic
	}
	// A time-out says where the spec was stuck only here.
	if f.AdditionalFailure != nil {
		message += "\n" + f.AdditionalFailure.Failure.Message
	}
	return strings.TrimSpace(message)
}

// checkout is the folder that this program was compiled from, and the specs with
// it, with a slash at its end.
var checkout = func() string {
	_, file, _, _ := runtime.Caller(0)
	root, _ := strings.CutSuffix(filepath.ToSlash(file), "harness/verdict/ginkgo.go")
	return root
}()

// location is where a spec failed or, if it did not, where it is written,
// relative to the checkout or to the folder that holds the suite's.
func location(spec types.SpecReport, suitePath string) string {
	at := spec.LeafNodeLocation
	// A clean-up is not where the requirement is judged, nor is the recorder, through which panics pass.
	failed := spec.Failure.Location
	if spec.Failed() && failed.FileName != "" && !spec.Failure.FailureNodeType.Is(cleanUpNodes) && !strings.Contains(failed.FileName, "/harness/recorder/recorder.go") {
		at = failed
	}
	if at.FileName == "" {
		return ""
	}
	file := at.FileName
	if rest, ours := strings.CutPrefix(file, checkout); ours {
		file = rest
	} else if rel, err := filepath.Rel(filepath.Dir(suitePath), file); suitePath != "" && err == nil && filepath.IsLocal(rel) {
		file = filepath.ToSlash(rel)
	}
	return fmt.Sprintf("%s:%d", file, at.LineNumber)
}

// filter is Ginkgo's choice of specs, applied again to its report.
type filter struct {
	reasons []string
	checks  []func(types.SpecReport) bool
}

func newFilter(report types.Report) filter {
	var f filter
	c := report.SuiteConfig
	add := func(reason string, check func(types.SpecReport) bool) {
		f.reasons = append(f.reasons, reason)
		if check != nil { // nil: Ginkgo took a filter that does not parse here
			f.checks = append(f.checks, check)
		}
	}
	matching := func(patterns []string, want bool) func(types.SpecReport) bool {
		re, err := regexp.Compile(strings.Join(patterns, "|"))
		if err != nil {
			return nil
		}
		return func(spec types.SpecReport) bool {
			return re.MatchString(report.SuiteDescription+" "+spec.FullText()) == want
		}
	}
	files := func(patterns []string, want bool) func(types.SpecReport) bool {
		filters, err := types.ParseFileFilters(patterns)
		if err != nil {
			return nil
		}
		return func(spec types.SpecReport) bool {
			return filters.Matches(append(slices.Clone(spec.ContainerHierarchyLocations), spec.LeafNodeLocation)) == want
		}
	}
	if c.LabelFilter != "" {
		var check func(types.SpecReport) bool
		if labels, err := types.ParseLabelFilter(c.LabelFilter); err == nil {
			check = func(spec types.SpecReport) bool {
				return labels(append(slices.Clone(report.SuiteLabels), spec.Labels()...))
			}
		}
		add("labels "+c.LabelFilter, check)
	}
	if c.SemVerFilter != "" {
		add("versions "+c.SemVerFilter, func(spec types.SpecReport) bool {
			ok, err := spec.MatchesSemVerFilter(c.SemVerFilter)
			return ok || err != nil
		})
	}
	if p := c.FocusStrings; len(p) > 0 {
		add("focus "+strings.Join(p, "|"), matching(p, true))
	}
	if p := c.SkipStrings; len(p) > 0 {
		add("skip "+strings.Join(p, "|"), matching(p, false))
	}
	if p := c.FocusFiles; len(p) > 0 {
		add("files "+strings.Join(p, "|"), files(p, true))
	}
	if p := c.SkipFiles; len(p) > 0 {
		add("without files "+strings.Join(p, "|"), files(p, false))
	}
	if report.SuiteHasProgrammaticFocus {
		add("a focus in the code", nil)
	}
	if c.DryRun {
		add("dry run", nil)
	}
	return f
}

// selects reports whether the filters let a spec run. What cannot be decided
// counts as selected: a gap is to show.
func (f filter) selects(spec types.SpecReport) bool {
	for _, check := range f.checks {
		if !check(spec) {
			return false
		}
	}
	return true
}
