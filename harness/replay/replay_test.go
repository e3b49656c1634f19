package replay

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"

	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/policy"
)

func TestWhatNoClusterCanBeAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		event history.Event
		want  string
	}{
		"a plain one":                   {history.Event{Do: "create", PVC: "shop/data", How: "clean"}, ""},
		"another way of the same event": {history.Event{Do: "killed", PVC: "shop/data", How: "at-work"}, ""},
		"a moment":                      {history.Event{Do: "killed", PVC: "shop/data", How: "in-forget"}, "event 2, a mover of shop/data is killed: in forget, is not played on a cluster: no moment"},
		"a clone":                       {history.Event{Do: "create", PVC: "shop/data", How: "data-source"}, "it needs a PVC to be cloned from"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check([]history.Event{{Do: "wait"}, c.event})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

// An event that is no longer one would be played by nobody.
func TestUnplayableEventsAreEvents(t *testing.T) {
	for what := range unplayable {
		do, how, _ := strings.Cut(what, " ")
		if err := (history.Event{Do: do, PVC: "shop/data", How: how}).Check(nil); err != nil && !strings.Contains(err.Error(), "PVC") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNamespaces(t *testing.T) {
	for name, c := range map[string]struct {
		events []history.Event
		want   []string
	}{
		"of nobody's":    {[]history.Event{{Do: "wait"}}, []string{"shop"}},
		"the first":      {[]history.Event{{Do: "create", PVC: "shop/data-2"}}, []string{"shop"}},
		"both":           {[]history.Event{{Do: "create", PVC: "office/data"}, {Do: "create", PVC: "shop/data"}}, []string{"shop", "office"}},
		"the second one": {[]history.Event{{Do: "create", PVC: "office/data"}}, []string{"shop", "office"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Namespaces(c.events); !slices.Equal(got, c.want) {
				t.Errorf("got %v, wanted %v", got, c.want)
			}
		})
	}
}

func TestReadsTheEventsOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "history.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: conformance.smart-restore.io/history/v1\nkind: History\npolicy: p\nevents:\n- {do: create, pvc: shop/data, how: clean}\n- {do: wait}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	events, err := Read(file)
	if want := []history.Event{{Do: "create", PVC: "shop/data", How: "clean"}, {Do: "wait"}}; err != nil || !slices.Equal(events, want) {
		t.Errorf("got %v, %v, wanted %v", events, err, want)
	}
	if _, err := Read(file + "-not"); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestDescends(t *testing.T) {
	p := &player{parents: map[string]string{"b": "a", "c": "b", "x": ""}}
	for name, c := range map[string]struct {
		content, of string
		want        bool
	}{
		"itself":              {"b", "b", true},
		"made of it":          {"c", "a", true},
		"older":               {"a", "c", false},
		"something else":      {"x", "a", false},
		"nothing":             {"", "a", false},
		"never seen":          {"z", "a", false},
		"of nothing, nothing": {"", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := p.descends(c.content, c.of); got != c.want {
				t.Errorf("got %v, wanted %v", got, c.want)
			}
		})
	}
}

// A PVC that the policy is not for need not be backed up: what its contract selects PVCs by says which are.
func TestOfWhichPVCsABackupIsAskedFor(t *testing.T) {
	type values = map[string]string
	labelled := policy.PVC{Label: "backup", Value: "hourly"}
	annotated := policy.PVC{Annotations: values{"example.com/backup": "please"}}
	optOut := policy.PVC{OptOut: values{"example.com/never": "true"}}
	labelledOptOut := policy.PVC{Label: "backup", Value: "hourly", OptOut: values{"example.com/never": "true"}}
	for name, c := range map[string]struct {
		by                  policy.PVC
		labels, annotations values
		selected            bool
	}{
		"labelled":                          {labelled, values{"backup": "hourly"}, nil, true},
		"labelled with another value":       {labelled, values{"backup": "daily"}, nil, false},
		"not labelled":                      {labelled, nil, nil, false},
		"annotated":                         {annotated, nil, values{"example.com/backup": "please"}, true},
		"annotated with another value":      {annotated, nil, values{"example.com/backup": "no"}, false},
		"not annotated":                     {annotated, nil, nil, false},
		"not opted out":                     {optOut, nil, nil, true},
		"opted out":                         {optOut, nil, values{"example.com/never": "true"}, false},
		"labelled, and not opted out":       {labelledOptOut, values{"backup": "hourly"}, nil, true},
		"labelled, and opted out":           {labelledOptOut, values{"backup": "hourly"}, values{"example.com/never": "true"}, false},
		"neither labelled, nor opted out":   {labelledOptOut, nil, nil, false},
		"of templates, which select no PVC": {policy.PVC{}, nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			pvc := &corev1.PersistentVolumeClaim{}
			pvc.Namespace, pvc.Name, pvc.Labels, pvc.Annotations = "ns", "data", c.labels, c.annotations
			p := among(t, pvc)
			s := p.subjects["shop/data"]
			s.Env.Testbed.Contract.PVC, s.wrote = c.by, "shop/data, written by its app"
			want := map[bool]string{true: "e/backup"}[c.selected]
			if got := p.silent(t.Context(), s); got != want {
				t.Errorf("broken is %q, want %q", got, want)
			}
		})
	}
}

// What a contract does not promise of PVCs that are labelled later, or created while Kyverno is away, is asked of none of them.
func TestOfWhichPVCsNothingIsPromised(t *testing.T) {
	away := func(_ context.Context, p *player) { p.back["background"] = func(context.Context) {} }
	do := func(what, how string) func(context.Context, *player) {
		return func(ctx context.Context, p *player) { p.do(ctx, history.Event{Do: what, PVC: "shop/data", How: how}) }
	}
	for name, c := range map[string]struct {
		happens  []func(context.Context, *player)
		promises []string
		want     string
	}{
		"created":                                  {[]func(context.Context, *player){do("create", "clean")}, nil, "e/backup"},
		"labelled later":                           {[]func(context.Context, *player){do("create", "unlabelled"), do("label", "")}, nil, ""},
		"labelled later, as promised":              {[]func(context.Context, *player){do("create", "unlabelled"), do("label", "")}, []string{"relabel"}, "e/backup"},
		"while Kyverno is away":                    {[]func(context.Context, *player){away, do("create", "clean")}, nil, ""},
		"while Kyverno is away, as promised":       {[]func(context.Context, *player){away, do("create", "clean")}, []string{"catches-up"}, "e/backup"},
		"labelled later in another life":           {[]func(context.Context, *player){do("create", "unlabelled"), do("label", ""), do("delete", "app-first"), do("create", "clean")}, nil, "e/backup"},
		"labelled while Kyverno is away, promised": {[]func(context.Context, *player){do("create", "unlabelled"), away, do("label", "")}, []string{"relabel"}, "e/backup"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := among(t)
				s := p.subjects["shop/data"]
				contract := &s.Env.Testbed.Contract
				contract.PVC, contract.Features = policy.PVC{Label: "backup", Value: "hourly"}, c.promises
				for _, happen := range c.happens {
					happen(t.Context(), p)
				}
				s.wrote = "shop/data, written by its app"
				if got := p.silent(t.Context(), s); got != c.want {
					t.Errorf("broken is %q, want %q", got, c.want)
				}
			})
		})
	}
}
