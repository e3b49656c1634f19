package session

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/explore"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/explore/picture"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/replay"
	"github.com/smart-restore/conformance/harness/verdict"
)

func TestRateCalibration(t *testing.T) {
	one, two := history.Event{Do: "create", PVC: "shop/data", How: "clean"}, history.Event{Do: "hour"}
	fresh := picture.Picture{"shop/data": {Claim: picture.There, Decision: "fresh", Latest: picture.None}}
	backedUp := picture.Picture{"shop/data": {Claim: picture.There, Decision: "fresh", Latest: picture.Nothing}}
	said := func(v verdict.Verdict, text string) *verdict.Report {
		return &verdict.Report{Requirements: []verdict.Result{{Requirement: verdict.Requirement{ID: replaySpec}, Verdict: v, Message: text}}}
	}
	violation := &history.Violation{Invariant: "a", Event: 2}
	for name, c := range map[string]struct {
		foreseen  []picture.Picture
		violation *history.Violation
		shown     []picture.Picture
		report    *verdict.Report
		ok        bool
		want      []string
	}{
		"as foreseen": {[]picture.Picture{fresh, backedUp}, nil, []picture.Picture{fresh, backedUp}, said(verdict.Pass, ""), true, []string{"2 events, 6 fields the same, 8 not looked at", "1 as foreseen, 0 not"}},
		"a difference": {[]picture.Picture{fresh, backedUp}, nil, []picture.Picture{fresh, fresh}, said(verdict.Pass, ""), false, []string{
			"1 differences", "one, event 2 (the next full hour comes, and 5 minutes): latest snapshot of shop/data: foreseen: nothing; the cluster: none",
		}},
		"a difference counts where the spec failed, too": {[]picture.Picture{fresh, backedUp}, nil, []picture.Picture{backedUp}, said(verdict.Fail, "it was lost"), false, []string{"one, event 1 "}},
		"broken on the cluster alone":                    {[]picture.Picture{fresh, backedUp}, nil, []picture.Picture{fresh, backedUp}, said(verdict.Fail, "it was lost"), false, []string{"foreseen: every invariant holds; the cluster: fail it was lost"}},
		"foreseen to be broken, and is not":              {[]picture.Picture{fresh}, violation, []picture.Picture{fresh, backedUp}, said(verdict.Pass, ""), false, []string{"foreseen: a is broken in event 2; the cluster: pass"}},
		"broken, as foreseen":                            {[]picture.Picture{fresh}, violation, []picture.Picture{fresh}, said(verdict.Fail, "it was lost"), true, []string{"1 as foreseen"}},
		"unknown":                                        {[]picture.Picture{fresh, backedUp}, nil, []picture.Picture{fresh}, said(verdict.Unknown, "the API server was away"), false, []string{"unknown: the API server was away"}},
		"it was not played":                              {[]picture.Picture{fresh, backedUp}, nil, nil, &verdict.Report{SetupError: "no stack"}, false, []string{"unknown: no stack"}},
		"the suite failed":                               {[]picture.Picture{fresh, backedUp}, nil, []picture.Picture{fresh, backedUp}, &verdict.Report{Requirements: said(verdict.Pass, "").Requirements, SuiteErrors: []string{"a secret was found"}}, false, []string{"unknown: a secret was found"}},
		"nothing was seen of an event":                   {[]picture.Picture{fresh, backedUp}, nil, []picture.Picture{fresh}, said(verdict.Pass, ""), false, []string{"nothing was compared of the events [2]"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := rateCalibration("one", recording{events: []history.Event{one, two}, foreseen: &explore.Foreseen{Pictures: c.foreseen, Violation: c.violation}}, c.shown, c.report)
			var text strings.Builder
			if differs := printCalibrations(&text, []calibration{got}); differs == c.ok {
				t.Errorf("ok: %v", !differs)
			}
			for _, want := range c.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("no %q in\n%s", want, &text)
				}
			}
		})
	}
}

func TestPicturesAreRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pictures.jsonl")
	if all, err := readPictures(file); err != nil || all != nil {
		t.Errorf("of none: %v, %v", all, err)
	}
	for content, want := range map[string]int{`{"shop/data":{"claim":"there"}}` + "\n" + `{"shop/data":{"claim":"none"}}` + "\n": 2, `{"shop/da`: -1} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := readPictures(file)
		if want < 0 && err == nil || want >= 0 && (err != nil || len(all) != want) {
			t.Errorf("%s: %v, %v", content, all, err)
		}
	}
}

func goodRecordings(t *testing.T) []recording {
	t.Helper()
	t.Chdir(filepath.Join("..", ".."))
	p, err := policy.Load(goodPolicy, endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := readRecordings(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The model is held against a cluster in each sort of event that can be played there, and in each way.
func TestRecordedHistoriesHaveEveryEvent(t *testing.T) {
	happens := map[string]bool{}
	all := goodRecordings(t)
	for _, one := range all {
		if len(one.events) < 3 || len(one.events) > 8 {
			t.Errorf("%s has %d events: wanted 3 to 8", one.file, len(one.events))
		}
		for _, e := range one.events {
			happens[e.Do+" "+e.How] = true
			if e.Do == "s3-down" {
				happens[e.Do] = true
			}
		}
	}
	if len(all) < 30 {
		t.Errorf("there are %d histories: wanted 30", len(all))
	}
	for _, e := range history.Sorts() {
		happened := happens[e.Do+" "+e.How] || e.Do == "s3-down" && happens[e.Do]
		if playable := replay.Check([]history.Event{e}) == nil; playable && !happened {
			t.Errorf("no history has the event %s %s", e.Do, e.How)
		}
	}
}

func TestRecordingsThatCannotBePlayed(t *testing.T) {
	folder := t.TempDir()
	p, err := policy.Load(filepath.Join("..", "..", goodPolicy), endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for name, events := range map[string]string{"clone": "[{do: create, pvc: shop/data, how: data-source}]", "over": "[{do: wait}, {do: killed, pvc: shop/data, how: at-work}]", "made-up": "[{do: explode}]"} {
		file := filepath.Join(folder, name+".yaml")
		files = append(files, file)
		if err := os.WriteFile(file, []byte("apiVersion: conformance.smart-restore.io/history/v1\nkind: History\npolicy: p\nevents: "+events+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = readRecordings(p, append(files, filepath.Join(folder, "none.yaml")))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that none.yaml is not there", err)
	}
	for _, want := range []string{"a PVC to be cloned from", "no mover is at work", `there is no event "explode"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
