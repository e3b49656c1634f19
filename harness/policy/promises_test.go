package policy

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
)

// foreign says everything that a contract can say about another policy than the plan's.
const foreign = `apiVersion: conformance.smart-restore.io/v1alpha1
kind: PolicyContract
name: foreign
description: It does it otherwise.
admissionSeconds: 7
pvc: {label: velero.example.org/protect, value: "yes", storageClass: nfs}
namespaceLabels: {backups.example.org/enabled: "true"}
s3: {endpoint: "https://10.0.0.5:9000", trust: policy, bucket: k8s-backups, path: "prod/{namespace}/{pvc}", cluster: prod, marker: prod.json, markerBody: "{}"}
baseSecret:
  name: s3-credentials
  namespace: backup-system
  keys: {accessKey: id, secretKey: key, resticPassword: password}
  data: {AWS_DEFAULT_REGION: us-east-1}
names: {replicationSource: "{pvc}-backup", replicationDestination: "{namespace}.{pvc}", secret: "r-{uid}"}
copyMethod: Snapshot
schedule: 30 2 * * *
features: [visible-decision]
decisions: {annotation: backups.example.org/state, restore: "yes", fresh: "no", unknown: perhaps.*}
retain: {daily: 14, within: 3d}
override: {annotation: example.org/accept, value: "as it is: {uid}", of: backups}
upgradesFrom: ../before
unknown: waits
restores: always
oracle:
  url: http://plumber.backup-system.svc:8080/exists/{namespace}/{pvc}
  answers: {backup: '{"exists": true}', none: '{"exists": false}', unknown: '{"exists": false}'}
  statuses: {backup: 201, none: 404, unknown: 503}
`

func TestAContractSaysOtherwiseThanThePlan(t *testing.T) {
	c := parsed(t, foreign)
	want := Contract{
		APIVersion: Default().APIVersion, Kind: Default().Kind, Name: "foreign", Description: "It does it otherwise.",
		AdmissionSeconds: 7, PVC: PVC{Label: "velero.example.org/protect", Value: "yes", StorageClass: "nfs"},
		NamespaceLabels: map[string]string{"backups.example.org/enabled": "true"},
		S3:              S3{Endpoint: "https://10.0.0.5:9000", Trust: TrustPolicy, Bucket: "k8s-backups", Path: "prod/{namespace}/{pvc}", Cluster: "prod", Marker: "prod.json", MarkerBody: "{}"},
		BaseSecret: BaseSecret{Name: "s3-credentials", Namespace: "backup-system",
			Keys: SecretKeys{AccessKey: "id", SecretKey: "key", ResticPassword: "password"}, Data: map[string]string{"AWS_DEFAULT_REGION": "us-east-1"}},
		Names:   Names{ReplicationSource: "{pvc}-backup", ReplicationDestination: "{namespace}.{pvc}", Secret: "r-{uid}"},
		Unknown: Waits, Restores: Always, BackupSource: BackupSource{When: WhenCreated}, CopyMethod: "Snapshot", Schedule: "30 2 * * *", Retain: Retain{Daily: 14, Within: "3d"},
		Features:  []string{"visible-decision"},
		Decisions: Decisions{Annotation: "backups.example.org/state", Restore: "yes", Fresh: "no", Unknown: "perhaps.*"},
		Override:  Override{Annotation: "example.org/accept", Value: "as it is: {uid}", Of: OfBackups}, UpgradesFrom: "../before",
		Oracle: Oracle{URL: "http://plumber.backup-system.svc:8080/exists/{namespace}/{pvc}",
			Answers: OracleAnswers{Backup: `{"exists": true}`, None: `{"exists": false}`, Unknown: `{"exists": false}`}, Statuses: OracleStatuses{Backup: 201, None: 404, Unknown: 503}},
	}
	got := c
	got.doc = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if kept := c.Retain.Named(); !reflect.DeepEqual(kept, []Kept{{"daily", "14"}, {"within", "3d"}}) {
		t.Errorf("retained: %v", kept)
	}
	// It goes to the specs' processes as JSON.
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Contract
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("there: %+v, %v", back, err)
	}
	err = c.CheckStack("one", stacksNamed("one"))
	if err == nil || !strings.Contains(err.Error(), "conformance.yaml:15:13: copyMethod Snapshot needs volumes that can be snapshotted; the stack one has none") {
		t.Errorf("a copy method that no stack has: %v", err)
	}
}

// An override is of a restore unless it says that it is of backups.
func TestWhatAnOverrideIsOf(t *testing.T) {
	for _, c := range []struct {
		override  string
		ofRestore bool
	}{
		{"", false},
		{"override: {annotation: a/b, value: x}\n", true},
		{"override: {annotation: a/b, value: x, of: restore}\n", true},
		{"override: {annotation: a/b, value: x, of: backups}\n", false},
	} {
		contract := parsed(t, "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: one\ndescription: one\n"+c.override)
		if got := contract.Override.OfRestore(); got != c.ofRestore {
			t.Errorf("%q: %v", c.override, got)
		}
	}
}

// What a contract leaves out is as in the plan, field by field.
func TestWhatASpecsLabelsAskOfAPolicy(t *testing.T) {
	c := Contract{Features: []string{"relabel"}}
	shared := Contract{BaseSecret: BaseSecret{Namespace: "backup"}}
	for _, test := range []struct {
		contract Contract
		labels   []string
		want     string
	}{
		{c, nil, ""},
		{c, []string{"resilience", "needs-gateway", "relabel", ChangesBaseSecret}, ""},
		{c, []string{"safety", "gated-start"}, "the policy does not promise gated-start"},
		{shared, []string{"resilience"}, ""},
		{Contract{CopyMethod: CopySnapshot}, []string{"resilience", JudgesCopies, NeedsSnapshots}, ""},
		{Contract{CopyMethod: "Clone"}, []string{"safety", JudgesMoments}, ""},
		{Contract{CopyMethod: CopyDirect}, []string{"safety", JudgesMoments}, "a backup reads the volume itself, file by file, while the app writes (copyMethod: Direct)"},
		{Contract{CopyMethod: CopyDirect}, []string{"resilience", JudgesCopies}, "nothing is backed up or restored by a VolumeSnapshot (copyMethod: Direct)"},
		{Contract{CopyMethod: CopyDirect}, []string{"resilience", NeedsSnapshots}, ""},
		{Contract{Features: []string{"populator"}}, []string{"safety", JudgesPopulator}, ""},
		{c, []string{"safety", JudgesPopulator}, "the policy does not promise populator"},
		{Contract{Restores: Always}, []string{"core", "s3-down", JudgesPolicy}, "only who asks S3 without credentials meets this fault: a ReplicationDestination comes with each PVC (restores: always), and nobody asks"},
		{Contract{Restores: Always, Oracle: Oracle{URL: "http://o.kyverno.svc/{namespace}/{pvc}"}}, []string{"core", "s3-down", JudgesPolicy, AboutAnOracle}, ""},
		{c, []string{"core", AboutAnOracle}, "the contract names no service in the cluster that is asked for S3 (oracle)"},
		{Contract{Restores: Always}, []string{"core", "s3-down"}, ""},
		{Contract{Restores: Always}, []string{"safety", JudgesPolicy}, ""},
		{Contract{Companion: true}, []string{"core", JudgesPolicy}, "the policy is not about PVCs (companion): the templates are applied for each, and nothing of them asks, makes or reacts by itself"},
		{Contract{Companion: true}, []string{"core"}, ""},
		{Contract{Restores: Never}, []string{"core"}, "it backs up only (restores: never)"},
		{Contract{Restores: Never}, []string{"core", JudgesBackups}, ""},
		{Contract{Restores: Never}, []string{"core", JudgesBackups, "relabel"}, "the policy does not promise relabel"},
		{c, []string{"resilience", ReplacesPolicy}, "the contract names no policy that this one replaces (upgradesFrom)"},
		{Contract{UpgradesFrom: "../before"}, []string{"resilience", ReplacesPolicy}, ""},
		{shared, []string{"resilience", ChangesBaseSecret}, "the policy takes its base Secret from the namespace backup: it is every spec's"},
	} {
		if got := test.contract.NotPromised(test.labels); got != test.want {
			t.Errorf("%v: got %q, wanted %q", test.labels, got, test.want)
		}
	}
}

func TestWhatIsLeftOutIsThePlans(t *testing.T) {
	const head = "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: n\ndescription: d\n"
	for _, c := range []struct {
		more string
		with func(*Contract)
	}{
		{"", func(*Contract) {}},
		{"pvc: {storageClass: nfs}\n", func(c *Contract) { c.PVC.StorageClass = "nfs" }},
		{"pvc: {label: x, value: ''}\n", func(c *Contract) { c.PVC = PVC{Label: "x"} }},
		{"s3: {marker: a.json}\n", func(c *Contract) { c.S3.Marker, c.S3.MarkerBody = "a.json", `{"smart-restore": "bucket"}` }},
		{"s3: {bucket: other}\n", func(c *Contract) { c.S3.Bucket = "other" }},
		{"baseSecret: {keys: {accessKey: id}}\n", func(c *Contract) { c.BaseSecret.Keys.AccessKey = "id" }},
		{"retain: {daily: 3}\n", func(c *Contract) { c.Retain = Retain{Daily: 3} }},
	} {
		want, got := Default(), parsed(t, head+c.more)
		want.Name, want.Description, got.doc = "n", "d", nil
		c.with(&want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%sgot  %+v\nwant %+v", c.more, got, want)
		}
	}
}

func TestPlacesInTheBucket(t *testing.T) {
	for _, c := range []struct {
		path                  Template
		prefix, namespace     string
		suffix, first, second string
		before                string // of the look-alike namespace's name
		names                 string // what the names of a spec's PVCs begin with
		warned                bool
		collides              bool // the look-alikes' places are one
	}{
		{path: "{namespace}/{pvc}", prefix: "ns/data/", namespace: "ns/", suffix: "-b", first: "b-c", second: "c"},
		{path: "k8s/{namespace}/{pvc}/restic", prefix: "k8s/ns/data/restic/", namespace: "k8s/ns/", suffix: "-b", first: "b-c", second: "c"},
		{path: "{namespace}_{pvc}", prefix: "ns_data/", namespace: "ns_", suffix: "-b", first: "b-c", second: "c"},
		{path: "{namespace}.{pvc}", prefix: "ns.data/", namespace: "ns.", suffix: "-b", first: "b-c", second: "c"},
		{path: "{namespace}-{pvc}", prefix: "ns-data/", namespace: "ns-", suffix: "-b", first: "b-c", second: "c", warned: true, collides: true},
		{path: "x/{namespace}-pvc-{pvc}", prefix: "x/ns-pvc-data/", namespace: "x/ns-pvc-", suffix: "-pvc-b", first: "b-pvc-c", second: "c", warned: true, collides: true},
		{path: "{pvc}", names: "ab-", prefix: "data/", namespace: "ab-", suffix: "-b", first: "b-c", second: "c", warned: true},
		{path: "volsync/{pvc}/restic", names: "ab-", prefix: "volsync/data/restic/", namespace: "volsync/ab-", suffix: "-b", first: "b-c", second: "c", warned: true},
		{path: "{pvc}/{namespace}", names: "ab-", prefix: "data/ns/", namespace: "ab-", before: "b-", first: "c-b", second: "c"},
		{path: "x/{pvc}.{namespace}", names: "ab-", prefix: "x/data.ns/", namespace: "x/ab-", before: "b-", first: "c-b", second: "c"},
		{path: "{pvc}-{namespace}", names: "ab-", prefix: "data-ns/", namespace: "ab-", before: "b-", first: "c-b", second: "c", warned: true, collides: true},
		{path: "{pvc}-of-{namespace}/restic", names: "ab-", prefix: "data-of-ns/restic/", namespace: "ab-", before: "b-of-", first: "c-of-b", second: "c", warned: true, collides: true},
		{path: "{namespace}{pvc}", prefix: "nsdata/", namespace: "ns", suffix: "b", first: "bc", second: "c", warned: true, collides: true},
	} {
		contract := Contract{S3: S3{Path: c.path}}
		if got := contract.S3.Prefix("ns", "data"); got != c.prefix {
			t.Errorf("%s: prefix %s, wanted %s", c.path, got, c.prefix)
		}
		if got := contract.S3.NamespacePrefix("ns", c.names); got != c.namespace {
			t.Errorf("%s: the namespace's prefix is %s, wanted %s", c.path, got, c.namespace)
		}
		if before, suffix, first, second := contract.Lookalikes(); before != c.before || suffix != c.suffix || first != c.first || second != c.second {
			t.Errorf("%s: look-alikes %s %s %s %s", c.path, before, suffix, first, second)
		}
		if warned := contract.Warnings(); len(warned) > 0 != c.warned {
			t.Errorf("%s: warnings %v", c.path, warned)
		}
		if got := contract.S3.Prefix("ns", c.first) == contract.S3.Prefix(c.before+"ns"+c.suffix, c.second); got != c.collides {
			t.Errorf("%s: the look-alikes share a place: %v", c.path, got)
		}
	}
}

func TestSchedules(t *testing.T) {
	for _, c := range []struct {
		promised, found string
		want            bool
	}{
		{"@hourly", "0 * * * *", true}, {"@hourly", "37 * * * *", true}, {"@hourly", "@hourly", true},
		{"@hourly", "*/2 * * * *", false}, {"@hourly", "0 3 * * *", false}, {"@hourly", "60 * * * *", false}, {"@hourly", "", false},
		{"@daily", "30 2 * * *", true}, {"@daily", "@daily", true}, {"@daily", "0 * * * *", false}, {"@daily", "0 24 * * *", false},
		{"@weekly", "0 2 * * 0", true}, {"@weekly", "0 2 * * *", false},
		{"@monthly", "0 2 1 * *", true}, {"@yearly", "0 2 1 1 *", true}, {"@yearly", "0 2 1 * *", false},
		{"30 2 * * *", "30 2 * * *", true}, {"30 2 * * *", "30  2 * * *", true}, {"30 2 * * *", "31 2 * * *", false},
	} {
		if got := (Contract{Schedule: c.promised}).Schedules(c.found); got != c.want {
			t.Errorf("%s promised, %q found: %v", c.promised, c.found, got)
		}
	}
}

// A contract can say what to apply, and be what POLICY names.
func TestAContractNamesItsPolicy(t *testing.T) {
	named := strings.Replace(contract, "stacks: [kyverno-1.19]", "policy: [../a, ../b/one.yaml]", 1)
	root := t.TempDir()
	writeAll(t, root, map[string]string{
		"a/kustomization.yaml": "resources: [p.yaml]\n", "a/p.yaml": strings.Replace(good, "name: one", "name: a", 1),
		"b/one.yaml": strings.ReplaceAll(strings.ReplaceAll(good, "name: one", "name: b"), "beside", "beside-b"), "b/two.yaml": "not asked for: [",
		"tests/conformance.yaml":     named,
		"c/conformance.yaml":         contract,
		"c/p.yaml":                   good,
		"d/p.conformance.yaml":       contract,
		"d/p.yml":                    good,
		"twice/conformance.yaml":     strings.Replace(named, "../b/one.yaml", "../a/p.yaml", 1),
		"gone/conformance.yaml":      strings.Replace(named, "../b/one.yaml", "../b/three.yaml", 1),
		"misnamed/conformances.yaml": contract,
	})
	for path, want := range map[string]string{
		"tests":                  "ConfigMap/beside GeneratingPolicy/a GeneratingPolicy/b ConfigMap/beside-b",
		"tests/conformance.yaml": "ConfigMap/beside GeneratingPolicy/a GeneratingPolicy/b ConfigMap/beside-b",
		"c/conformance.yaml":     "GeneratingPolicy/one ConfigMap/beside",
		"d/p.conformance.yaml":   "GeneratingPolicy/one ConfigMap/beside",
	} {
		p, err := Load(filepath.Join(root, path), endpoint.Endpoint{})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got := strings.Join(p.Describe(), " "); got != want || p.Contract.Name != "one" {
			t.Errorf("%s: %s of %s, wanted %s", path, got, p.Contract.Name, want)
		}
	}
	for path, want := range map[string]string{
		"twice":    "GeneratingPolicy a is in it twice",
		"gone":     "conformance.yaml:7:16: ../b/three.yaml: ",
		"misnamed": "conformances.yaml is a PolicyContract: only one called conformance.yaml, or NAME.conformance.yaml, is read as such",
	} {
		if _, err := Load(filepath.Join(root, path), endpoint.Endpoint{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, wanted %s", path, err, want)
		}
	}
}

func TestTheEndpointIsTheContractsUnlessOneIsSet(t *testing.T) {
	elsewhere := strings.ReplaceAll(good, "192.168.10.133", "10.0.0.5")
	says := strings.Replace(contract, "stacks: [kyverno-1.19]", `s3: {endpoint: "http://10.0.0.5:9000"}`, 1)
	set, err := endpoint.Parse("http://10.0.0.6:9000")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Load(write(t, map[string]string{"p.yaml": elsewhere, "conformance.yaml": says}), endpoint.Endpoint{})
	if err != nil || p.Endpoint.Addr.String() != "10.0.0.5:9000" {
		t.Errorf("the contract's: %+v, %v", p, err)
	}
	p, err = Load(write(t, map[string]string{"p.yaml": strings.ReplaceAll(good, "192.168.10.133", "10.0.0.6"), "conformance.yaml": says}), set)
	if err != nil || p.Endpoint != set || p.Contract.S3.Endpoint != "http://10.0.0.5:9000" {
		t.Errorf("the one that is set: %+v, %v", p, err)
	}
	_, err = Load(write(t, map[string]string{"p.yaml": elsewhere, "conformance.yaml": says}), set)
	if want := "no object in it mentions the S3 endpoint 10.0.0.6:9000, which S3_ENDPOINT sets; its contract says http://10.0.0.5:9000"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("another one set: %v", err)
	}
	_, err = Load(write(t, map[string]string{"p.yaml": elsewhere}), endpoint.Endpoint{})
	if want := "no object in it mentions the S3 endpoint 192.168.10.133:9000: set s3.endpoint in conformance.yaml"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("none said: %v", err)
	}
	// It can come with the base Secret.
	brought := strings.Replace(contract, "stacks: [kyverno-1.19]", `baseSecret: {data: {REPOSITORY: "s3:http://192.168.10.133:9000/volsync-backups"}}`, 1)
	if _, err := Load(write(t, map[string]string{"p.yaml": elsewhere, "conformance.yaml": brought}), endpoint.Endpoint{}); err != nil {
		t.Error(err)
	}
}

// Check holds a policy against its own contract.
func TestCheckKnowsOtherLabelsAndBuckets(t *testing.T) {
	says := func(pvc, bucket string) string {
		return strings.Replace(contract, "stacks: [kyverno-1.19]", "pvc: "+pvc+"\ns3: {bucket: "+bucket+"}", 1)
	}
	for name, c := range map[string]struct{ spec, contract, want string }{
		"as it says":        {`{x: {matchLabels: {a.org/b: "yes"}}, u: k8s-backups}`, says(`{label: a.org/b, value: "yes"}`, "k8s-backups"), ""},
		"a wildcard":        {`{x: {matchLabels: {a.org/b: "?*"}}, u: k8s-backups}`, says(`{label: a.org/b, value: "yes"}`, "k8s-backups"), ""},
		"in CEL":            {`{x: 'labels["a.org/b"]', u: k8s-backups}`, says(`{label: a.org/b, value: "yes"}`, "k8s-backups"), ""},
		"in JMESPath":       {`{x: '{{ labels."a.org/b" }}', u: k8s-backups}`, says(`{label: a.org/b, value: "yes"}`, "k8s-backups"), ""},
		"another value":     {`{x: {matchLabels: {a.org/b: "no"}}, u: k8s-backups}`, says(`{label: a.org/b, value: "yes"}`, "k8s-backups"), "those labelled a.org/b=yes, as its contract has it: its selectors name a.org/b=no"},
		"another character": {`{x: {matchLabels: {a-org/b: "yes"}}, u: k8s-backups}`, says(`{label: a.org/b, value: "yes"}`, "k8s-backups"), "those labelled a.org/b=yes"},
		"another bucket":    {`{x: {matchLabels: {a.org/b: "yes"}}, u: k8s-backup}`, says(`{label: a.org/b, value: "yes"}`, "k8s-backups"), "it nowhere names the bucket k8s-backups"},
	} {
		object := "apiVersion: policies.kyverno.io/v1\nkind: GeneratingPolicy\nmetadata: {name: one}\nspec: {note: 'http://192.168.10.133:9000 ReplicationSource ReplicationDestination', more: " + c.spec + "}\n"
		p, err := Load(write(t, map[string]string{"p.yaml": object, "conformance.yaml": c.contract}), endpoint.Endpoint{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := p.Check(); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, wanted %q", name, err, c.want)
		}
	}
}

func parsed(t *testing.T, content string) Contract {
	t.Helper()
	c, err := parseContract("conformance.yaml", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var position = regexp.MustCompile(`^conformance\.yaml:[1-9][0-9]*:[1-9][0-9]*: \S`)

// positioned fails the test unless each line of an error begins with a position and goes on with a reason.
func positioned(t *testing.T, err error) {
	t.Helper()
	for line := range strings.Lines(err.Error()) {
		if !position.MatchString(line) {
			t.Errorf("no position or no reason: %q", line)
		}
	}
}

func FuzzContract(f *testing.F) {
	f.Add([]byte(contract))
	f.Add([]byte(foreign))
	f.Add([]byte("a: *b\n"))
	f.Add([]byte("name: \"\x00\xff\"\n---\n"))
	f.Add([]byte("s3: {path: \"{namespace}{pvc}\"}\nexpectedFailures: [{requirement: &a x}, *a]\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseContract("conformance.yaml", raw)
		if err != nil {
			positioned(t, err)
			return
		}
		// What is taken can be used.
		if in := c.S3.NamespacePrefix("ns", "da"); !strings.HasPrefix(c.S3.Prefix("ns", "data"), in) || !strings.Contains(in, "ns") && !strings.HasSuffix(in, "da") {
			t.Errorf("%q: a PVC's place %q is not within its namespace's %q", c.S3.Path, c.S3.Prefix("ns", "data"), in)
		}
		if len(c.Templates) == 0 && (len(c.PVC.Labels()) != 1 || c.PVC.Label == "") || c.BaseSecret.Name == "" || c.AdmissionBound() <= 0 || len(c.Retain.Named()) == 0 {
			t.Errorf("half a contract was taken: %+v", c)
		}
		if _, err := c.resolveEndpoint(endpoint.Endpoint{}); err != nil {
			t.Errorf("an endpoint that is none was taken: %v", err)
		}
		c.Warnings()
		c.Lookalikes()
	})
}

func TestAnotherClustersPath(t *testing.T) {
	for _, c := range []struct {
		path    Template
		cluster string
		other   string
		want    Template
	}{
		{"prod/{namespace}/{pvc}", "prod", "test", "test/{namespace}/{pvc}"},
		{"prod/{namespace}/{pvc}", "prod", "", "{namespace}/{pvc}"},
		{"k8s/{namespace}/{pvc}/prod", "prod", "test", "k8s/{namespace}/{pvc}/test"},
		{"{namespace}/{pvc}", "", "test", "{namespace}/{pvc}"},
	} {
		s := S3{Path: c.path, Cluster: c.cluster}
		if other := s.OfCluster(c.other); other.Path != c.want || other.Cluster != c.other || s.Path != c.path {
			t.Errorf("%s in cluster %q: %+v, want %s", c.path, c.other, other, c.want)
		}
	}
}
