package alerts

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// stack is what VolSync 0.14 and Kyverno 1.19 say, written down after their sources.
func stack(t *testing.T) []Scrape {
	t.Helper()
	return []Scrape{
		{At: now, Target: map[string]string{"namespace": "volsync-system", "pod": "volsync-0"}, Text: file(t, "testdata", "volsync.txt")},
		{At: now, Target: map[string]string{"namespace": "kyverno", "pod": "kyverno-0"}, Text: file(t, "testdata", "kyverno.txt")},
	}
}

func file(t *testing.T, path ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func shipped(t *testing.T, policy string) *Rules {
	t.Helper()
	rules, err := Read(filepath.Join("..", "..", "policies", policy, "alerts", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func tell(t *testing.T, rules *Rules, scrapes ...Scrape) (said []string) {
	t.Helper()
	told, err := rules.Tell(t.Context(), now, scrapes...)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range told {
		said = append(said, strings.TrimSpace(one.Alert+" "+one.Labels["persistentvolumeclaim"]))
	}
	slices.Sort(said)
	return said
}

// ships are the policies that bring alerting rules of their own, with what the names of their alerts begin with and the name that each gives
// to the ReplicationDestination of the PVC stuck.
var ships = map[string]struct{ alerts, stuck string }{
	"smart-restore": {"SmartRestore", "stuck-5a1b2c3d"},
	"populator":     {"Populator", "stuck-1764201600-42"},
}

// What ships tells of each PVC that is not backed up or not restored, and of no other: not of one that is, not of one whose restore
// somebody overrode, and not of a ReplicationSource or a ReplicationDestination that is no policy's.
func TestWhatShipsTellsOfEachCase(t *testing.T) {
	for policy, its := range ships {
		rules := shipped(t, policy)
		var want []string
		for _, pvc := range []string{"held", "lapsed", "never", "stuck", "unknown"} {
			want = append(want, its.alerts+"NoBackup "+pvc)
		}
		want = append(want, its.alerts+"NotRestored stuck")
		if got := tell(t, rules, stack(t)...); !slices.Equal(got, want) {
			t.Errorf("%s: got  %q\nwant %q", policy, got, want)
		}
		told, err := rules.Tell(t.Context(), now, stack(t)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range told {
			if !one.Has("apps", one.Labels["persistentvolumeclaim"]) || one.Has("volsync-system") || one.Has("volsync-0") || one.Labels["severity"] == "" || one.For <= 0 || one.For > 2*time.Hour {
				t.Errorf("%s: %s", policy, one)
			}
			if one.Alert == its.alerts+"NotRestored" && one.Labels["obj_name"] != its.stuck {
				t.Errorf("%s: %s is about another's ReplicationDestination", policy, one)
			}
		}
	}
}

// A restore is told of also where the series of its ReplicationSource are not looked at.
func TestWithout(t *testing.T) {
	for policy, its := range ships {
		scrapes := stack(t)
		scrapes[0].Without = func(labels map[string]string) bool {
			return labels["role"] == "source" && labels["obj_name"] == "stuck-5a1b2c3d"
		}
		got := tell(t, shipped(t, policy), scrapes...)
		if slices.Contains(got, its.alerts+"NoBackup stuck") || !slices.Contains(got, its.alerts+"NotRestored stuck") || !slices.Contains(got, its.alerts+"NoBackup held") {
			t.Errorf("%s: %q", policy, got)
		}
	}
}

func TestSays(t *testing.T) {
	lines, err := stack(t)[0].Says("volsync_volume_out_of_sync", func(labels map[string]string) bool { return labels["obj_name"] == "stuck-5a1b2c3d" })
	const want = `{__name__="volsync_volume_out_of_sync", method="restic", obj_name="stuck-5a1b2c3d", obj_namespace="apps", role="destination"} 1`
	if err != nil || len(lines) != 2 || lines[0] != want {
		t.Errorf("%q, %v", lines, err)
	}
}

func TestWhatShipsTellsThatNothingIsSeen(t *testing.T) {
	for policy, its := range ships {
		unseen := its.alerts + "Unseen"
		for name, seen := range map[string][]int{"no VolSync": {1}, "no Kyverno": {0}, "neither": nil} {
			var scrapes []Scrape
			for _, i := range seen {
				scrapes = append(scrapes, stack(t)[i])
			}
			if got := tell(t, shipped(t, policy), scrapes...); !slices.Contains(got, unseen) {
				t.Errorf("%s, %s: %q", policy, name, got)
			}
		}
		old := stack(t)
		for i := range old {
			old[i].At = now.Add(-lookback - time.Second)
		}
		if got := tell(t, shipped(t, policy), old...); !slices.Equal(got, []string{unseen, unseen}) && !slices.Equal(got, []string{unseen}) {
			t.Errorf("%s, metrics that are too old: %q", policy, got)
		}
	}
}

func TestTell(t *testing.T) {
	const text = "up{pod=\"own\",b=\"2\"} 3\n"
	for name, c := range map[string]struct {
		rules string
		want  string // the first alert; empty: there is none
	}{
		"true":                      {"- {alert: A, expr: up > 2, for: 10m, labels: {severity: page}}", "A{b=2, exported_pod=own, pod=target, severity=page} for 10m0s"},
		"false":                     {"- {alert: A, expr: up > 3}", ""},
		"a scalar":                  {"- {alert: A, expr: 1}", "A{} for 0s"},
		"by a rule that records":    {"- {record: sum:up, expr: sum(up)}\n  - {alert: A, expr: 'sum:up == 3'}", "A{} for 0s"},
		"of a time in which it was": {"- {alert: A, expr: 'changes(up[10m]) > 0'}", "A{b=2, exported_pod=own, pod=target} for 0s"},
		"before":                    {"- {alert: A, expr: 'up offset 5m == 1'}", "A{b=2, exported_pod=own, pod=target} for 0s"},
	} {
		rules, err := Parse("r.yaml", []byte("groups:\n- name: g\n  rules:\n  "+c.rules+"\n"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		target := map[string]string{"pod": "target"}
		told, err := rules.Tell(t.Context(), now, Scrape{At: now, Target: target, Text: []byte(text)},
			Scrape{At: now.Add(-5 * time.Minute), Target: target, Text: []byte(strings.Replace(text, "3", "1", 1))})
		got := ""
		if len(told) > 0 {
			got = told[0].String()
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q, wanted %q; %v", name, got, c.want, err)
		}
	}
}

func TestTellDoesNotGuess(t *testing.T) {
	rules, err := Parse("r.yaml", []byte("groups:\n- name: g\n  rules:\n  - {alert: A, expr: a + on() b}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"not metrics at all {": "metrics of map[pod:x]",
		"a{x=\"1\"} 1\na{x=\"2\"} 1\nb{x=\"1\"} 1\nb{x=\"2\"} 1\n": "A: ",
	} {
		if told, err := rules.Tell(t.Context(), now, Scrape{At: now, Target: map[string]string{"pod": "x"}, Text: []byte(text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, told, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: x}\n"
	for name, c := range map[string]struct{ text, want string }{
		"no rule at all":              {"groups: []\n", "r.yaml:1:1: no rule in it is an alert"},
		"only a rule that records":    {"groups:\n- name: g\n  rules:\n  - {record: a, expr: up}\n", "r.yaml:1:1: no rule in it is an alert"},
		"nothing":                     {"", "no rule in it is an alert"},
		"no YAML":                     {"groups: [\n", "r.yaml:"},
		"an expression that is none":  {"groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up ==\n", "r.yaml:5:11: "},
		"a field that is none":        {"groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, while: 1h}\n", "line 4: field while not found"},
		"another object":              {"apiVersion: v1\nkind: ConfigMap\n", "r.yaml:2:7: it is a ConfigMap"},
		"no spec":                     {head, "r.yaml:2:7: wanted is a spec"},
		"a spec that is a list":       {head + "spec: []\n", "r.yaml:2:7: wanted is a spec"},
		"an expression, in an object": {head + "spec:\n  groups:\n  - name: g\n    rules:\n    - alert: A\n      expr: up ==\nstatus: {}\n", "r.yaml:9:13: "},
		"a template that is none":     {"groups:\n- name: g\n  rules:\n  - {alert: A, expr: up, annotations: {summary: '{{ $x }}'}}\n", "r.yaml:group \"g\", rule 1"},
	} {
		if rules, err := Parse("r.yaml", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; wanted %q", name, rules, err, c.want)
		}
	}
}

// What is beside the spec of a PrometheusRule is none of Prometheus' business, before it and after it.
func TestParseTakesAnObject(t *testing.T) {
	for _, text := range []string{
		"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: x\nspec:\n  groups:\n  - name: g\n    rules:\n    - {alert: A, expr: up}\n",
		"spec:\n  groups:\n  - name: g\n    rules:\n    - {alert: A, expr: up}\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: x\n",
	} {
		rules, err := Parse("r.yaml", []byte(text))
		if err != nil || !slices.Equal(rules.Names(), []string{"A"}) {
			t.Errorf("%v, %v", rules, err)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "no.yaml")); err == nil {
		t.Error("a file that is not there")
	}
}
