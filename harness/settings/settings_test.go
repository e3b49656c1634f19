package settings

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func defaults(t *testing.T) (string, map[string]string) {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "policies", "smart-restore"), 0o755); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, s := range All() {
		values[s.Name] = s.Default
	}
	return root, values
}

func TestDefaultsAreGood(t *testing.T) {
	root, values := defaults(t)
	s, err := parse(root, values, []string{"one"}, []string{"auto"})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(root, "policies", "smart-restore"); s.Policy != want {
		t.Errorf("policy %s, wanted %s", s.Policy, want)
	}
	if s.S3Endpoint.URL != "" || s.Procs < 1 || s.Keep != KeepNever {
		t.Errorf("unexpected defaults: %+v", s)
	}
}

func TestBadValuesAreRefusedWithWhatIsAllowed(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"STACK", "nope", "allowed are one"},
		{"IMAGES", "sometimes", "allowed are auto"},
		{"KEEP", "maybe", "never, failure, always"},
		{"POLICY", "no/such/file", "cannot be read"},
		{"UPGRADES_FROM", "no/such/file", "cannot be read"},
		{"FOCUS", "(", "no regular expression"},
		{"LABELS", "core &&", "no label filter"},
		{"ALLOW_CLUSTER", "prod", "set KUBE_CONTEXT, too"},
		{"BASE_SECRET_FROM", "a/b", "set KUBE_CONTEXT, too"},
		{"PLAN", "1", "set KUBE_CONTEXT, too"},
		{"PLAN", "perhaps", "allowed are 1, true"},
		{"PROCS", "0", "from 1 to 64"},
		{"PROCS", "many", "from 1 to 64"},
		{"TIME_SCALE", "0.5", "from 1 to 10"},
		{"TIME_SCALE", "NaN", "from 1 to 10"},
		{"TIME_SCALE", "slow", "from 1 to 10"},
		{"S3_ENDPOINT", "nas", "no URL"},
		{"S3_ENDPOINT", "https://kubernetes.default", "of the cluster's own"},
		{"S3_ENDPOINT", "ftp://192.168.1.1", "want http"},
		{"S3_ENDPOINT", "http://user:secret@192.168.1.1", "host and port only"},
		{"S3_ENDPOINT", "http://192.168.1.1/bucket", "host and port only"},
		{"S3_ENDPOINT", "http://nas_lan:9000", "want an IPv4 address"},
		{"S3_ENDPOINT", "http://[::1]:9000", "want an IPv4 address"},
		{"S3_ENDPOINT", "http://192.168.1.1:99999", "want 1 to 65535"},
		{"S3_ENDPOINT", "http://127.0.0.1:9000", "Kyverno refuses"},
		{"S3_ENDPOINT", "http://10.96.0.10:9000", "pods and services"},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			root, values := defaults(t)
			values[c.name] = c.value
			_, err := parse(root, values, []string{"one"}, []string{"auto"})
			if err == nil || !strings.Contains(err.Error(), c.name+"=") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, wanted an error that names %s and says %q", err, c.name, c.want)
			}
		})
	}
}

func TestWhatIsGivenBeatsTheEnvironment(t *testing.T) {
	root, _ := defaults(t)
	t.Setenv("FOCUS", "core/fresh")
	t.Setenv("LABELS", "core")
	s, err := FromEnvironment(root, map[string]string{"FOCUS": "core/restore"}, []string{"one"}, []string{"auto"})
	if err != nil || s.Focus != "core/restore" || s.Labels != "core" {
		t.Errorf("got %+v, %v", s, err)
	}
}

// --focus "" clears a FOCUS of the environment; an empty POLICY is the default one.
func TestAnEmptySettingThatIsGivenBeatsTheEnvironment(t *testing.T) {
	root, _ := defaults(t)
	t.Setenv("FOCUS", "core/fresh")
	t.Setenv("POLICY", "no/such/file")
	s, err := FromEnvironment(root, map[string]string{"FOCUS": "", "POLICY": ""}, []string{"one"}, []string{"auto"})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(root, "policies", "smart-restore"); s.Focus != "" || s.Policy != want {
		t.Errorf("FOCUS=%q POLICY=%s, want none and %s", s.Focus, s.Policy, want)
	}
}

// A child process that is given Environ has the same settings, whatever its parent's environment says.
func TestEnvironIsEverySetting(t *testing.T) {
	root, _ := defaults(t)
	for _, set := range []map[string]string{
		{
			"STACK": "one", "IMAGES": "auto", "POLICY": filepath.Join(root, "policies"), "S3_ENDPOINT": "http://192.168.1.1:9000", "FOCUS": "core/fresh",
			"LABELS": "core", "PROCS": "3", "KEEP": "always", "ARTIFACTS": filepath.Join(root, "a"), "KUBECONFIG": "k",
		},
		{"KUBE_CONTEXT": "home", "KUBECONFIG": "k", "ALLOW_CLUSTER": "c", "BASE_SECRET_FROM": "a/b", "PLAN": "1"},
	} {
		for _, setting := range All() {
			if _, ok := set[setting.Name]; !ok {
				set[setting.Name] = ""
			}
		}
		s, err := FromEnvironment(root, set, []string{"one"}, []string{"auto"})
		if err != nil {
			t.Fatal(err)
		}
		given := map[string]string{}
		for _, variable := range s.Environ(nil) {
			name, value, _ := strings.Cut(variable, "=")
			given[name] = value
		}
		for _, setting := range All() {
			value, ok := given[setting.Name]
			if !ok || set[setting.Name] != "" && value != set[setting.Name] {
				t.Errorf("%s=%q (given: %v), want %q", setting.Name, value, ok, set[setting.Name])
			}
			if got := s.Value(setting.Name); got != value {
				t.Errorf("Value(%s) = %q, want %q", setting.Name, got, value)
			}
			t.Setenv(setting.Name, "of the parent")
		}
		again, err := FromEnvironment(root, given, []string{"one"}, []string{"auto"})
		if err != nil || *again != *s {
			t.Errorf("got  %+v, %v\nwant %+v", again, err, s)
		}
		if got := s.Environ(map[string]string{"FOCUS": "x"}); !slices.Contains(got, "FOCUS=x") || slices.Contains(got, "FOCUS="+s.Focus) {
			t.Errorf("with FOCUS changed to x: %v", got)
		}
	}
}

// make and the CI script pass every setting on: one that they leave out would be ignored without a word.
func TestMakeAndCIPassEverySettingOn(t *testing.T) {
	for file, lines := range map[string]*regexp.Regexp{
		"Makefile": regexp.MustCompile(`(?m)^SETTINGS [:+]= (.*)$`), "scripts/ci": regexp.MustCompile(`(?m)^settings=(\S+)$`),
	} {
		raw, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		var passed []string
		for _, line := range lines.FindAllStringSubmatch(string(raw), -1) {
			passed = append(passed, strings.FieldsFunc(line[1], func(r rune) bool { return r == ' ' || r == ',' })...)
		}
		for _, setting := range All() {
			if !slices.Contains(passed, setting.Name) {
				t.Errorf("%s does not pass %s on", file, setting.Name)
			}
		}
	}
}

func TestFlagsAreNamedLikeSettings(t *testing.T) {
	var flags []string
	for _, s := range All() {
		flags = append(flags, s.Flag())
	}
	if want := "stack images policy s3-endpoint upgrades-from focus labels procs keep time-scale artifacts context kubeconfig allow-cluster base-secret-from plan"; strings.Join(flags, " ") != want {
		t.Errorf("the flags are %v, wanted %s", flags, want)
	}
}

func TestEveryProblemIsSaidAtOnce(t *testing.T) {
	root, values := defaults(t)
	values["STACK"], values["KEEP"] = "nope", "maybe"
	_, err := parse(root, values, []string{"one"}, []string{"auto"})
	if err == nil || !strings.Contains(err.Error(), "STACK") || !strings.Contains(err.Error(), "KEEP") {
		t.Errorf("got %v, wanted both problems", err)
	}
}
