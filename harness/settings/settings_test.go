package settings

import (
	"os"
	"path/filepath"
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
		{"FOCUS", "(", "no regular expression"},
		{"LABELS", "core &&", "no label filter"},
		{"ALLOW_CLUSTER", "prod", "say which with KUBE_CONTEXT"},
		{"BASE_SECRET_FROM", "a/b", "say which with KUBE_CONTEXT"},
		{"PLAN", "1", "say which with KUBE_CONTEXT"},
		{"PLAN", "perhaps", "allowed are 1, true"},
		{"PROCS", "0", "from 1 to 64"},
		{"PROCS", "many", "from 1 to 64"},
		{"S3_ENDPOINT", "nas", "no URL"},
		{"S3_ENDPOINT", "https://192.168.1.1:9000", "https is not supported"},
		{"S3_ENDPOINT", "ftp://192.168.1.1", "wanted http"},
		{"S3_ENDPOINT", "http://user:secret@192.168.1.1", "host and port only"},
		{"S3_ENDPOINT", "http://192.168.1.1/bucket", "host and port only"},
		{"S3_ENDPOINT", "http://nas.lan:9000", "wanted an IPv4 address"},
		{"S3_ENDPOINT", "http://[::1]:9000", "wanted an IPv4 address"},
		{"S3_ENDPOINT", "http://192.168.1.1:99999", "wanted an IPv4 address"},
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

func TestFlagsAreNamedLikeSettings(t *testing.T) {
	var flags []string
	for _, s := range All() {
		flags = append(flags, s.Flag())
	}
	if want := "stack images policy s3-endpoint focus labels procs keep artifacts context kubeconfig allow-cluster base-secret-from plan"; strings.Join(flags, " ") != want {
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
