package decisions

import (
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/verdict"
)

func made(policy string, decisions ...verdict.Decision) *verdict.Report {
	r := &verdict.Report{Implementation: verdict.Implementation{Policy: policy}, Stack: verdict.Stack{Name: "one"}}
	for _, d := range decisions {
		result := verdict.Result{Requirement: verdict.Requirement{ID: "core/" + d.Situation}, Verdict: verdict.Pass}
		if d.Outcome != d.Wanted {
			result.Verdict = verdict.Fail
		}
		result.Evidence = []verdict.Evidence{{Kind: "step", Text: "x"}, {Kind: verdict.KindOutcome, Text: d.Situation, Data: d.Data()}}
		r.Requirements = append(r.Requirements, result)
	}
	return r
}

func decision(situation string, wanted, outcome verdict.Outcome) verdict.Decision {
	return verdict.Decision{Situation: situation, Wanted: wanted, Outcome: outcome, AdmittedSeconds: 0.25}
}

func TestTableIsInOrder(t *testing.T) {
	r := made("p", decision("s3-down/500", verdict.None, verdict.None), decision("backup", verdict.Restore, verdict.Restore), decision("fresh", verdict.None, verdict.None))
	r.Requirements[0].Evidence = append(r.Requirements[0].Evidence, verdict.Evidence{Kind: verdict.KindOutcome, Text: "of no decision", Data: map[string]any{"situation": 3}})
	var got []string
	for _, row := range Table(r) {
		got = append(got, row.Situation+" by "+row.Requirement)
	}
	if text := strings.Join(got, ", "); text != "fresh by core/fresh, backup by core/backup, s3-down/500 by core/s3-down/500" {
		t.Error(text)
	}
}

func TestCompare(t *testing.T) {
	const s = "s3-down/500"
	right, wrong := decision(s, verdict.None, verdict.None), decision(s, verdict.None, verdict.Restore)
	late, blocked, unseen := decision(s, verdict.None, verdict.LateRestore), decision(s, verdict.None, verdict.Blocked), decision(s, verdict.None, verdict.Unseen)
	for name, c := range map[string]struct {
		base, candidate []verdict.Decision
		want            Change
		worse           bool
	}{
		"both right":             {[]verdict.Decision{right}, []verdict.Decision{right}, Same, false},
		"both wrong, alike":      {[]verdict.Decision{wrong}, []verdict.Decision{wrong}, Same, false},
		"wrong in another way":   {[]verdict.Decision{wrong}, []verdict.Decision{late}, Different, false},
		"becomes wrong":          {[]verdict.Decision{right}, []verdict.Decision{wrong}, Worse, true},
		"becomes blocked":        {[]verdict.Decision{right}, []verdict.Decision{blocked}, Worse, true},
		"becomes right":          {[]verdict.Decision{late}, []verdict.Decision{right}, Better, false},
		"becomes unseen":         {[]verdict.Decision{right}, []verdict.Decision{unseen}, NotSeen, true},
		"is not looked at":       {[]verdict.Decision{right}, nil, NotSeen, true},
		"was wrong, not looked":  {[]verdict.Decision{wrong}, nil, Different, false},
		"is new, and right":      {nil, []verdict.Decision{right}, Better, false},
		"is new, and not right":  {nil, []verdict.Decision{wrong}, Different, false},
		"was blocked, gets late": {[]verdict.Decision{blocked}, []verdict.Decision{late}, Different, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := Compare(made("base", c.base...), made("candidate", c.candidate...))
			if len(d.Pairs) != 1 || d.Pairs[0].Change != c.want || d.Worse() != c.worse {
				t.Errorf("%+v, worse %v; wanted %d, %v", d.Pairs, d.Worse(), c.want, c.worse)
			}
		})
	}
}

// A requirement without a decision counts, too.
func TestCompareVerdicts(t *testing.T) {
	report := func(v verdict.Verdict) *verdict.Report {
		r := made("p")
		if v != "" {
			r.Requirements = []verdict.Result{{Requirement: verdict.Requirement{ID: "safety/late"}, Verdict: v}}
		}
		return r
	}
	for _, c := range []struct {
		base, candidate verdict.Verdict
		moved           int
		worse           bool
	}{
		{verdict.Pass, verdict.Pass, 0, false},
		{verdict.Pass, verdict.Fail, 1, true},
		{verdict.Pass, verdict.Unknown, 1, true},
		{verdict.Pass, verdict.NotPromised, 1, true},
		{verdict.Pass, "", 1, true},
		{verdict.Fail, verdict.Pass, 1, false},
		{verdict.Fail, verdict.Unknown, 1, false},
		{verdict.NotPromised, verdict.Pass, 1, false},
		{"", verdict.Fail, 1, false},
	} {
		d := Compare(report(c.base), report(c.candidate))
		if len(d.Moved) != c.moved || d.Worse() != c.worse {
			t.Errorf("%q to %q: %+v, worse %v", c.base, c.candidate, d.Moved, d.Worse())
		}
	}
}

func TestTextAndMarkdown(t *testing.T) {
	base := made("policies/a|b", decision("fresh", verdict.None, verdict.None), decision("s3-down/500", verdict.None, verdict.None))
	candidate := made("policies/<new>", decision("fresh", verdict.None, verdict.None),
		verdict.Decision{Situation: "s3-down/500", Wanted: verdict.None, Outcome: verdict.LateRestore, AdmittedSeconds: 3.456, RestoreSeconds: 27.2})
	candidate.Partial = []string{"focus <b>@all"}
	candidate.Stack.Name = "two"
	d := Compare(base, candidate)
	var text, markdown strings.Builder
	if err := d.Text(&text); err != nil {
		t.Fatal(err)
	}
	if err := d.Markdown(&markdown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"s3-down/500  none    none  0.25 s    late restore, after 27 s ✕  3.46 s    WORSE\n", "core/s3-down/500  pass → fail  WORSE",
		"different stacks, one and two", "partial: focus", "the candidate is worse in 2.",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	for _, want := range []string{
		"| `s3-down/500` | none | none | 0.25 s | **late restore, after 27 s ✕** | 3.46 s | 🔴 worse |", "`policies/a\\|b`", "&lt;b&gt;@\u200ball",
	} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("no %q in\n%s", want, markdown.String())
		}
	}
	if strings.Contains(markdown.String(), "| `fresh` | none | none | 0.25 s | **") {
		t.Error("what is the same is marked")
	}
}
