package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/strict"
	"github.com/smart-restore/conformance/harness/verdict"
)

// contractFile is the name of the contract in a policy's folder. The contract of a single manifest F.yaml is
// F.conformance.yaml, beside it.
const contractFile = "conformance.yaml"

// Contract describes a policy to the suite: which PVCs it selects, where it writes backups, what it promises beyond core and
// safety, and which requirements it is known to fail. It is a file beside the policy and is never applied to a cluster. The
// comments of its fields are their descriptions in contract.schema.json and policies/BRING-YOUR-OWN.md:
// go test ./harness/policy -update writes both.
type Contract struct {
	// Always conformance.smart-restore.io/v1alpha1.
	APIVersion string `json:"apiVersion"`
	// Always PolicyContract.
	Kind string `json:"kind"`
	// The policy's name in reports.
	Name string `json:"name"`
	// What the policy does, in one sentence.
	Description string `json:"description"`
	// The manifests, folders of manifests or kustomizations to apply, as paths relative to this file. Defaults to this file's
	// folder, or to x.yaml for x.conformance.yaml.
	Policy []string `json:"policy,omitempty"`
	// The manifests, folders of manifests, kustomizations or kustomize components that are applied for each PVC, as paths relative to
	// this file: PVC, ReplicationSource, ReplicationDestination, Secret or ExternalSecret. With templates, policy has no default, and may be left out.
	// Placeholders: {namespace}, {pvc}, and Flux's ${NAME}, ${NAME:-default} and ${NAME:=default}. The keys of the base Secret are
	// variables, too, as with Flux's substituteFrom.
	Templates []string `json:"templates,omitempty"`
	// The variables of the templates, as in Flux's postBuild.substitute. Placeholders of a value: {namespace}, {pvc}. Quote a value that
	// begins with a brace: "{pvc}".
	Variables map[string]string `json:"variables,omitempty"`
	// Whether the policy is about something else than PVCs, such as the Jobs of VolSync's movers, and the templates do all that is done for a
	// PVC. Specs that judge what a policy does for PVCs are then reported as not-promised. It needs templates.
	Companion bool `json:"companion,omitempty"`
	// What becomes of a PVC while nobody can know whether S3 holds a backup of it. starts-empty: it is bound, is empty, and is not
	// restored over. waits: it is Pending until somebody knows. is-refused: it is not admitted, and the refusal says why.
	Unknown string `json:"unknown"`
	// Which PVCs have a ReplicationDestination. decided: those that are to be restored. always: every one, whether S3 holds a backup of it
	// or not, so that one that is there says nothing, and restored is a PVC whose volume holds a snapshot that VolSync restored. never: none;
	// what needs a restore is then reported as not-promised. Defaults to decided and, of templates that hold one, to always.
	Restores string `json:"restores"`
	// The number of seconds within which a labelled PVC must be admitted, whatever S3 does.
	AdmissionSeconds int `json:"admissionSeconds"`
	// Selects the PVCs that the policy protects. Set label and value together.
	PVC PVC `json:"pvc"`
	// The labels that a namespace needs for the policy to act in it. The suite sets them on its namespaces.
	NamespaceLabels map[string]string `json:"namespaceLabels,omitempty"`
	// Where the policy stores backups.
	S3 S3 `json:"s3"`
	// The service in the cluster that the policy asks, instead of S3, whether there is a backup of a PVC. The suite makes the Service, and a
	// stand-in for the oracle answers there by asking S3, so that each fault of S3 reaches it. Defaults to none: the policy asks S3.
	Oracle Oracle `json:"oracle,omitzero"`
	// The Secret that holds the credentials for S3 and restic. The suite creates it, with new credentials for each run, so a
	// policy that carries its own credentials cannot be tested.
	BaseSecret BaseSecret `json:"baseSecret"`
	// The store of the External Secrets Operator's from which ExternalSecrets take what the policy needs. The suite makes it, and it
	// answers with the credentials and the address of the run. It needs a stack with the operator, such as kyverno-1.19-csi-eso.
	SecretStore SecretStore `json:"secretStore,omitzero"`
	// Name templates of the objects that the policy creates for a PVC. Without a template, the suite finds the object by what it does.
	Names Names `json:"names"`
	// The copyMethod of the ReplicationSource. Snapshot and Clone need a stack whose volumes can be snapshotted, such as
	// kyverno-1.19-csi. With Direct, backups read the volume file by file, and none is of one moment if the app writes meanwhile.
	CopyMethod string `json:"copyMethod"`
	// The ReplicationSource's cron schedule. @hourly accepts any minute. @daily accepts any minute and hour.
	// @weekly, @monthly and @yearly accept any day, too.
	Schedule string `json:"schedule"`
	// How many snapshots the ReplicationSource keeps (spec.restic.retain). If you set one field, the
	// fields that you omit have no default and are not checked.
	Retain Retain `json:"retain"`
	// How a person takes a volume as it is: an annotation of the PVC. Without it, the specs' steps in which somebody does are left out.
	Override Override `json:"override"`
	// When the ReplicationSource comes. Defaults to when the PVC is created.
	BackupSource BackupSource `json:"backupSource"`
	// Features that the policy promises beyond core and safety. Specs of other features are reported as not-promised.
	Features []string `json:"features,omitempty"`
	// What the policy writes on a PVC, for the feature visible-decision. With it, the specs check what the policy says; without it,
	// only that it says something.
	Decisions Decisions `json:"decisions,omitzero"`
	// The Prometheus alerting rules that the policy brings, as a path relative to this file: a rule file, or a PrometheusRule. With
	// it, the specs check on the metrics of VolSync and Kyverno that an alert is true for a PVC that is not backed up or not
	// restored, and that its for is at most 24h. One of the alert's labels must be the namespace, and one the name of the PVC or of its
	// ReplicationSource or ReplicationDestination.
	Alerts string `json:"alerts,omitempty"`
	// The policy that people come from who change to this one, as a path relative to this file: another one, such as ../clusterpolicy, or an
	// earlier version of this one. With it, the specs put each in the place of the other while PVCs are restored, held and at rest. The PVCs,
	// the base Secret and the place of the backups must be the same in both contracts.
	UpgradesFrom string `json:"upgradesFrom,omitempty"`
	// The stacks that the policy supports, as shell patterns of names in fixtures/stacks.yaml, such as
	// kyverno-1.19*. Defaults to every stack with Kyverno and, of templates without a policy, to every stack.
	Stacks []string `json:"stacks,omitempty"`
	// Requirements that the policy is known to fail. A listed failure does not fail the run; a listed requirement that passes does.
	ExpectedFailures []Expectation `json:"expectedFailures,omitempty"`
	// Requirements that must each fail for this known-bad policy. Used only by the suite's own test, make known-bad.
	CaughtBy []string `json:"caughtBy,omitempty"`
	// For a known-bad policy: those of caughtBy that only a cluster shows, although make check looks at a part of them.
	OnlyOnCluster []string `json:"onlyOnCluster,omitempty"`
	// For a known-bad policy: the good policy that must pass those requirements, as a path relative to this file. Defaults to
	// ../base, of which most known-bad policies are patches.
	Control string `json:"control,omitempty"`

	doc *strict.Document // for positions in errors; nil without a file
}

// PVC selects the PVCs that a policy protects.
type PVC struct {
	// The key of the label that selects a PVC. It may have a prefix, such as example.com/backup. With templates, it has no default.
	Label string `json:"label"`
	// The value of that label. Quote a value that YAML would read as something else than a string: "yes", "true", "1".
	Value string `json:"value"`
	// Annotations that select a PVC, beside the label or, without one, instead of it. With annotations, the label has no default.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Annotations that keep a PVC from being selected, of a policy that selects every other PVC: by its storage class, or by its
	// namespace's labels. With optOut, the label has no default.
	OptOut map[string]string `json:"optOut,omitempty"`
	// The storageClassName of the PVCs. The suite creates a class of this name, as a copy of the cluster's default class, if
	// there is none. Defaults to no storageClassName.
	StorageClass string `json:"storageClass,omitempty"`
}

// S3 is where a policy stores backups.
type S3 struct {
	// The S3 address that the policy uses: http or https, and an IPv4 address outside the cluster's own ranges or a DNS name from
	// outside the cluster. The suite serves it inside the test network, where alone the name exists. The setting S3_ENDPOINT overrides
	// it.
	Endpoint string `json:"endpoint"`
	// Who trusts the certificate of an https endpoint, which is signed by a CA that is new for every run. images: every container does,
	// as if the CA were added to every image. policy: nobody does who is not given the CA by the policy, which takes it from the
	// base Secret or the secret store: see {ca} there.
	Trust string `json:"trust,omitempty"`
	// The bucket. The suite creates it. Anybody may read and list it without credentials.
	Bucket string `json:"bucket"`
	// The path of a PVC's restic repository in the bucket. It contains {pvc} and {namespace}, each once. Without {namespace},
	// two PVCs of one name in two namespaces share a repository: the suite warns, and safety/isolation fails. Quote a path that begins
	// with a brace: "{namespace}/{pvc}".
	Path Template `json:"path"`
	// The part of the path that stands for the cluster, such as prod in "prod/{namespace}/{pvc}", for the feature cluster-in-path.
	// Defaults to none.
	Cluster string `json:"cluster,omitempty"`
	// The key of an object that the policy expects in the bucket, such as smart-restore.json. By it, a bucket that is empty or not
	// the right one is told from a bucket without this PVC's backup. The suite puts the object into the bucket that it makes. Faults
	// of the whole bucket then hide it, too. Defaults to no such object.
	Marker string `json:"marker,omitempty"`
	// The content of that object. Defaults to {"smart-restore": "bucket"}.
	MarkerBody string `json:"markerBody,omitempty"`
}

// Oracle is a service in the cluster that is asked whether there is a backup.
type Oracle struct {
	// The URL of a question, with {namespace} and {pvc} in its path or query, such as
	// http://backup-oracle.volsync-system.svc.cluster.local/exists/{namespace}/{pvc}. It is http, and its host is a Service in a namespace
	// of the stack or of the policy, with or without a port.
	URL Template `json:"url"`
	// What the oracle answers: a JSON text for each of the three things that it can find. No two may be the same.
	Answers OracleAnswers `json:"answers"`
	// The HTTP statuses of the answers, where one is not 200.
	Statuses OracleStatuses `json:"statuses,omitzero"`
}

// OracleAnswers are the bodies of an oracle's answers.
type OracleAnswers struct {
	// S3 holds a backup. Quote the JSON: '{"exists": true}'.
	Backup string `json:"backup"`
	// S3 holds none.
	None string `json:"none"`
	// S3 did not answer, or not so that one of the two could be told.
	Unknown string `json:"unknown"`
}

// OracleStatuses are their HTTP statuses.
type OracleStatuses struct {
	// The status of the answer that S3 holds a backup. Defaults to 200.
	Backup int `json:"backup,omitempty"`
	// The status of the answer that S3 holds none. Defaults to 200.
	None int `json:"none,omitempty"`
	// The status of the answer that it is not known. Defaults to 200.
	Unknown int `json:"unknown,omitempty"`
}

// Decisions is how a policy writes on a PVC what it decided. The patterns are regular expressions, each of a whole value.
type Decisions struct {
	// The key of the annotation of the PVC that holds the decision.
	Annotation string `json:"annotation"`
	// Matches the decision to restore a backup, such as restore.
	Restore string `json:"restore"`
	// Matches the decision that there is no backup, such as fresh.
	Fresh string `json:"fresh"`
	// Matches the decision that it is not known whether there is a backup, such as "unknown: .+".
	Unknown string `json:"unknown"`
}

// BaseSecret is the Secret from which a policy takes credentials.
type BaseSecret struct {
	// The name of the base Secret.
	Name string `json:"name"`
	// The namespace of the base Secret, if there is one Secret for all namespaces. Specs that remove or change the base Secret
	// are then not run, because all specs share it. Defaults to every namespace with labelled PVCs.
	Namespace string `json:"namespace,omitempty"`
	// The names of the keys in the base Secret. A policy maps them to the names that VolSync needs.
	Keys SecretKeys `json:"keys"`
	// Further keys that the policy needs in the base Secret, with their values. {ca} in a value is the certificate of the run's CA, PEM,
	// by which an https endpoint is trusted.
	Data map[string]string `json:"data,omitempty"`
}

// SecretKeys are the names of the keys in a base Secret.
type SecretKeys struct {
	// The key that holds the S3 access key.
	AccessKey string `json:"accessKey"`
	// The key that holds the S3 secret key.
	SecretKey string `json:"secretKey"`
	// The key that holds the restic password.
	ResticPassword string `json:"resticPassword"`
}

// SecretStore is a store of the External Secrets Operator's, from which ExternalSecrets take credentials and addresses.
type SecretStore struct {
	// ClusterSecretStore, or SecretStore: one in every namespace with labelled PVCs. Defaults to ClusterSecretStore.
	Kind string `json:"kind"`
	// The name of the store, as secretStoreRef has it.
	Name string `json:"name"`
	// What the store holds.
	Entries []StoreEntry `json:"entries"`
}

// StoreEntry is what a store holds under one key.
type StoreEntry struct {
	// The key, as remoteRef.key and extract.key have it.
	Key string `json:"key"`
	// The version, as remoteRef.version has it. Defaults to none.
	Version string `json:"version,omitempty"`
	// What the entry is, where it is one text. Placeholders: {accessKey}, {secretKey}, {resticPassword}, {endpoint}, {host}, {bucket},
	// {ca}. Quote a value that begins with a brace.
	Value string `json:"value,omitempty"`
	// What the entry is, where it has fields: those that remoteRef.property names, or that extract takes. Each has a value.
	Properties map[string]string `json:"properties,omitempty"`
}

// Names are templates of the names of what a policy creates.
type Names struct {
	// Name template of the ReplicationSource. Placeholders: {namespace}, {pvc}, {uid}.
	ReplicationSource Template `json:"replicationSource,omitempty"`
	// Name template of the ReplicationDestination.
	ReplicationDestination Template `json:"replicationDestination,omitempty"`
	// Name template of the Secret that VolSync uses to reach the repository.
	Secret Template `json:"secret,omitempty"`
}

// BackupSource is when the ReplicationSource of a PVC comes.
type BackupSource struct {
	// created: with the PVC. bound: when the PVC is bound, so that specs bind it first, by a pod that writes nothing.
	When string `json:"when"`
	// How much later it may come than that, such as 2m. At most 5m, since specs wait for it.
	After string `json:"after,omitempty"`
}

// The moments after which a ReplicationSource comes.
const (
	WhenCreated = "created"
	WhenBound   = "bound"
)

// Delay is how much later it may come than that. A contract's was looked at when it was read.
func (b BackupSource) Delay() time.Duration {
	delay, _ := time.ParseDuration(b.After)
	return delay
}

// Late says that it does not come with the PVC.
func (b BackupSource) Late() bool { return b.When == WhenBound || b.After != "" }

// Override is how a person takes a volume as it is.
type Override struct {
	// The key of the annotation, such as example.com/accept.
	Annotation string `json:"annotation,omitempty"`
	// Template of the annotation's value. Placeholders: {namespace}, {pvc}, {uid}. Quote a value that begins with a brace: "{uid}".
	Value Template `json:"value,omitempty"`
	// What it overrides. restore: the app starts without the restore that was decided on, and backups that wait for somebody's decision
	// begin. backups: only these begin; a restore goes on, as where no volume is there before it is restored.
	Of string `json:"of"`
}

// What an annotation overrides.
const (
	OfRestore = "restore"
	OfBackups = "backups"
)

// OfRestore says whether a person can let an app start without the restore that was decided on.
func (o Override) OfRestore() bool { return o.Annotation != "" && o.Of != OfBackups }

// Retain is the promised spec.restic.retain of the ReplicationSource.
type Retain struct {
	// The number of hourly snapshots to keep.
	Hourly int `json:"hourly,omitempty"`
	// The number of daily snapshots to keep.
	Daily int `json:"daily,omitempty"`
	// The number of weekly snapshots to keep.
	Weekly int `json:"weekly,omitempty"`
	// The number of monthly snapshots to keep.
	Monthly int `json:"monthly,omitempty"`
	// The number of yearly snapshots to keep.
	Yearly int `json:"yearly,omitempty"`
	// The number of most recent snapshots to keep, as a quoted number, as in VolSync.
	Last string `json:"last,omitempty"`
	// The period within which to keep all snapshots, such as 3d12h.
	Within string `json:"within,omitempty"`
	// Whether the ReplicationSource has no retain. VolSync 0.14 then keeps the last snapshot only.
	None bool `json:"none,omitempty"`
}

// Expectation is a requirement that the policy is known to fail.
type Expectation struct {
	// The ID of the requirement. make list shows all IDs.
	Requirement string `json:"requirement"`
	// Why the policy fails it.
	Reason string `json:"reason"`
}

// Kept is one field of Retain: its name in VolSync, and its value.
type Kept struct{ Name, Value string }

func (k Kept) String() string { return k.Value + " " + k.Name }

// Named are the fields that are set.
func (r Retain) Named() (kept []Kept) {
	of := reflect.ValueOf(r)
	for i, name := range strict.Fields(of.Type()) {
		if field := of.Field(i); !field.IsZero() && field.Kind() != reflect.Bool {
			kept = append(kept, Kept{name, fmt.Sprint(field)})
		}
	}
	return kept
}

// Broken is what of a ReplicationSource's spec.restic.retain is not as promised; empty: nothing.
func (r Retain) Broken(found map[string]any) string {
	if r.None && len(found) > 0 {
		return fmt.Sprintf("keeps %v, promised is no retain", found)
	}
	for _, kept := range r.Named() {
		if value, ok := found[kept.Name]; !ok || fmt.Sprint(value) != kept.Value {
			return fmt.Sprintf("keeps %v, promised is %s: %s", found, kept.Name, kept.Value)
		}
	}
	return ""
}

// Default is the contract of a policy without a conformance.yaml, and the defaults of one that omits fields. Its values come
// from the plan that the suite grew out of: see "Where the defaults come from" in policies/BRING-YOUR-OWN.md.
func Default() Contract {
	return Contract{
		APIVersion: "conformance.smart-restore.io/v1alpha1", Kind: "PolicyContract",
		AdmissionSeconds: 10, // Kyverno's default webhook timeout
		PVC:              PVC{Label: "backup", Value: "hourly"},
		S3:               S3{Endpoint: "http://192.168.10.133:9000", Trust: TrustImages, Bucket: "volsync-backups", Path: "{namespace}/{pvc}"},
		BaseSecret: BaseSecret{Name: "volsync-rustfs-base", Keys: SecretKeys{ //nolint:gosec // names
			AccessKey: "AWS_ACCESS_KEY_ID", SecretKey: "AWS_SECRET_ACCESS_KEY", ResticPassword: "RESTIC_PASSWORD",
		}},
		Unknown: StartsEmpty, Restores: WhenDecided, BackupSource: BackupSource{When: WhenCreated}, Override: Override{Of: OfRestore},
		CopyMethod: CopyDirect,
		Schedule:   "@hourly",
		Retain:     Retain{Hourly: 24, Daily: 7},
	}
}

// defaultMarkerBody is what the bucket's marker holds, where a contract names one and does not say.
const defaultMarkerBody = `{"smart-restore": "bucket"}`

// CopyDirect is the copy method that works with every storage driver.
const CopyDirect = "Direct"

// fillIn sets the fields that the contract omits to their defaults.
func (c *Contract) fillIn() {
	d := Default()
	c.AdmissionSeconds = cmp.Or(c.AdmissionSeconds, d.AdmissionSeconds)
	c.Unknown = cmp.Or(c.Unknown, d.Unknown)
	c.Restores = cmp.Or(c.Restores, d.Restores)
	c.BackupSource.When = cmp.Or(c.BackupSource.When, d.BackupSource.When)
	c.Override.Of = cmp.Or(c.Override.Of, d.Override.Of)
	if c.PVC.Label == "" && len(c.Templates)+len(c.PVC.Annotations)+len(c.PVC.OptOut) == 0 {
		c.PVC.Label, c.PVC.Value = d.PVC.Label, d.PVC.Value
	}
	c.S3.Endpoint = cmp.Or(c.S3.Endpoint, d.S3.Endpoint)
	c.S3.Trust = cmp.Or(c.S3.Trust, d.S3.Trust)
	c.S3.Bucket = cmp.Or(c.S3.Bucket, d.S3.Bucket)
	c.S3.Path = cmp.Or(c.S3.Path, d.S3.Path)
	if c.S3.Marker != "" {
		c.S3.MarkerBody = cmp.Or(c.S3.MarkerBody, defaultMarkerBody)
	}
	c.BaseSecret.Name = cmp.Or(c.BaseSecret.Name, d.BaseSecret.Name)
	keys, defaults := &c.BaseSecret.Keys, d.BaseSecret.Keys
	keys.AccessKey = cmp.Or(keys.AccessKey, defaults.AccessKey)
	keys.SecretKey = cmp.Or(keys.SecretKey, defaults.SecretKey)
	keys.ResticPassword = cmp.Or(keys.ResticPassword, defaults.ResticPassword)
	if c.SecretStore.Named() {
		c.SecretStore.Kind = cmp.Or(c.SecretStore.Kind, ClusterSecretStore)
	}
	c.CopyMethod = cmp.Or(c.CopyMethod, d.CopyMethod)
	c.Schedule = cmp.Or(c.Schedule, d.Schedule)
	c.Retain = cmp.Or(c.Retain, d.Retain)
}

// Promises says whether the policy promises a feature.
func (c Contract) Promises(feature string) bool { return slices.Contains(c.Features, feature) }

// ChangesBaseSecret labels specs that change the base Secret of their namespace.
const ChangesBaseSecret = "changes-base-secret"

// JudgesPolicy labels specs that judge what a policy does by itself: that it asks S3, makes objects, reacts to what changes, and what
// becomes of that while it, or Kyverno, is away. Of templates, which somebody applies, there would be nothing to be judged.
const JudgesPolicy = "judges-policy"

// s3Down labels the rows of the fault table.
const s3Down = "s3-down"

// JudgesAnEmptyStart labels specs about a volume that an app wrote on because nobody could know whether there is a backup of it.
const JudgesAnEmptyStart = "judges-an-empty-start"

// NeedsSnapshots labels specs about volumes that can be snapshotted: not every stack has them.
const NeedsSnapshots = "needs-snapshots"

// NeedsGitOps labels specs about what Argo CD deploys from git: not every stack has it.
const NeedsGitOps = "needs-gitops"

// NeedsTwoNodes labels specs about a cluster of several nodes: not every stack has them.
const NeedsTwoNodes = "needs-two-nodes"

// NeedsEarlierKyverno labels specs about an upgrade of Kyverno: not every stack has another version of it.
const NeedsEarlierKyverno = "needs-earlier-kyverno"

// JudgesCopies labels specs about the VolumeSnapshots that a backup and a restore are made by.
const JudgesCopies = "judges-copies"

// JudgesMoments labels specs about a backup being of one moment. Where backups read the volume itself, what comes of it is looked at, and
// not judged.
const JudgesMoments = "judges-moments"

// JudgesPopulator labels specs about a restore before the PVC is bound that are no requirement of the feature itself: what comes of
// VolSync's own failures is not the policy's to hold, and its restore before the PVC is bound is there all the same.
const JudgesPopulator = "judges-populator"

// JudgesBackups labels specs that restore nothing: what is asked of a subject that backs up only.
const JudgesBackups = "judges-backups"

// CopySnapshot is the copy method by which VolSync backs up a VolumeSnapshot, and restores into one; copyClone that by which it backs up a
// clone of the volume.
const (
	CopySnapshot = "Snapshot"
	copyClone    = "Clone"
)

// OnlyTemplates says that there is no policy: the subject is what is applied for each PVC.
func (c Contract) OnlyTemplates() bool { return len(c.Templates) > 0 && len(c.Policy) == 0 }

// NotPromised is the reason why a spec with these labels is not run for the policy. Empty: it is run.
func (c Contract) NotPromised(labels []string) string {
	if c.Restores == Never && !slices.Contains(labels, JudgesBackups) {
		return "it backs up only (restores: " + Never + ")"
	}
	at, err := endpoint.Parse(c.S3.Endpoint)
	for _, label := range labels {
		switch {
		case label == AboutAnOracle && !c.Oracle.Named():
			return "the contract names no service in the cluster that is asked for S3 (oracle)"
		case label == JudgesPolicy && c.Restores == Always && !c.Oracle.Named() && slices.Contains(labels, s3Down):
			return "only who asks S3 without credentials meets this fault: a ReplicationDestination comes with each PVC (restores: " + Always + "), and nobody asks"
		case label == JudgesPolicy && c.Companion:
			return "the policy is not about PVCs (companion): the templates are applied for each, and nothing of them asks, makes or reacts by itself"
		case label == JudgesPolicy && c.OnlyTemplates():
			return "there is no policy of Kyverno's: the templates are applied for each PVC, and nothing of them asks, makes or reacts by itself"
		case verdict.IsFeature(label) && !c.Promises(label):
			return "the policy does not promise " + label
		case label == JudgesCopies && c.CopyMethod != CopySnapshot:
			return fmt.Sprintf("nothing is backed up or restored by a VolumeSnapshot (copyMethod: %s)", c.CopyMethod)
		case label == JudgesMoments && c.CopyMethod == CopyDirect:
			return fmt.Sprintf("a backup reads the volume itself, file by file, while the app writes (copyMethod: %s)", c.CopyMethod)
		case label == JudgesPopulator && !c.Promises(verdict.Populator):
			return "the policy does not promise " + verdict.Populator
		case label == JudgesAnEmptyStart && c.Unknown != StartsEmpty:
			return fmt.Sprintf("while nobody can know whether there is a backup, a PVC %s (unknown: %s): no app writes on a volume that started empty", map[string]string{Waits: "waits", IsRefused: "is refused"}[c.Unknown], c.Unknown)
		case label == ReplacesPolicy && c.UpgradesFrom == "":
			return "the contract names no policy that this one replaces (upgradesFrom)"
		case label == ChangesBaseSecret && c.SecretStore.Named():
			return fmt.Sprintf("the policy takes its credentials from the %s %s, and not from a base Secret", c.SecretStore.Kind, c.SecretStore.Name)
		case label == ChangesSecretStore && !c.SecretStore.Named():
			return "the contract names no store of the External Secrets Operator's (secretStore)"
		case label == ChangesBaseSecret && c.BaseSecret.Namespace != "":
			return fmt.Sprintf("the policy takes its base Secret from the namespace %s: it is every spec's", c.BaseSecret.Namespace)
		case err == nil && at.Lacks(label) != "":
			return at.Lacks(label)
		}
	}
	return ""
}

// AdmissionBound is the time within which a labelled PVC must be admitted, whatever S3 does.
func (c Contract) AdmissionBound() time.Duration {
	return time.Duration(cmp.Or(c.AdmissionSeconds, Default().AdmissionSeconds)) * time.Second
}

// What becomes of a PVC while nobody can know whether there is a backup of it: Contract.Unknown.
const (
	StartsEmpty = "starts-empty"
	Waits       = "waits"
	IsRefused   = "is-refused"
)

// Which PVCs have a ReplicationDestination: Contract.Restores.
const (
	WhenDecided = "decided"
	Always      = "always"
	Never       = "never"
)

// Labels select the PVCs that the policy protects. There are none where it is templates that are applied for each.
func (p PVC) Labels() map[string]string {
	if p.Label == "" {
		return map[string]string{}
	}
	return map[string]string{p.Label: p.Value}
}

// Metadata is what selects a PVC or, where selected is false, keeps it from being selected: labels and annotations, with nil for what
// must not be there. It is a JSON merge patch of metadata.
func (p PVC) Metadata(selected bool) map[string]any {
	metadata := map[string]any{}
	set := func(where string, values map[string]string, there bool) {
		for key, value := range values {
			if metadata[where] == nil {
				metadata[where] = map[string]any{}
			}
			metadata[where].(map[string]any)[key] = nil
			if there {
				metadata[where].(map[string]any)[key] = value
			}
		}
	}
	set("labels", p.Labels(), selected)
	set("annotations", p.Annotations, selected)
	set("annotations", p.OptOut, !selected)
	return metadata
}

// Of is the same with this value of the label and of each annotation that selects.
func (p PVC) Of(value string) PVC {
	p.Value = value
	p.Annotations = maps.Clone(p.Annotations)
	for key := range p.Annotations {
		p.Annotations[key] = value
	}
	return p
}

// String is what selects a PVC, in words.
func (p PVC) String() string {
	var parts []string
	if p.Label != "" {
		parts = append(parts, fmt.Sprintf("labelled %s=%s", p.Label, p.Value))
	}
	for _, key := range slices.Sorted(maps.Keys(p.Annotations)) {
		parts = append(parts, fmt.Sprintf("annotated %s=%s", key, p.Annotations[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(p.OptOut)) {
		parts = append(parts, fmt.Sprintf("not annotated %s=%s", key, p.OptOut[key]))
	}
	if p.StorageClass != "" {
		parts = append(parts, "of the class "+p.StorageClass)
	}
	return strings.Join(parts, " and ")
}

// Prefix is the key prefix of a PVC's repository in the bucket. It ends with a slash.
func (s S3) Prefix(namespace, pvc string) string { return s.Path.Expand(namespace, pvc, "") + "/" }

// NamespacePrefix is the key prefix that all PVCs of a namespace share whose names begin so, and no PVC of an unrelated namespace has.
// Where the path has {namespace} before {pvc}, names may begin with anything.
func (s S3) NamespacePrefix(namespace, names string) string {
	prefix := s.Path[:s.Path.index("pvc")].Expand(namespace, "", "")
	if s.NamespaceFirst() {
		return prefix
	}
	return prefix + names
}

// HasNamespace says whether the path tells namespaces apart.
func (s S3) HasNamespace() bool { return s.Path.index("namespace") >= 0 }

// NamespaceFirst says whether all that is a namespace's has a beginning of its own in the bucket, whatever its PVCs are called.
func (s S3) NamespaceFirst() bool {
	return s.HasNamespace() && s.Path.index("namespace") < s.Path.index("pvc")
}

// HasRepository says whether a key is a PVC's repository or in one, for some PVC, or is above all of them.
func (s S3) HasRepository(key string) bool {
	pattern := regexp.QuoteMeta(string(s.Path))
	for placeholder, name := range map[string]string{"namespace": dnsLabel, "pvc": subdomain} {
		pattern = strings.Replace(pattern, regexp.QuoteMeta("{"+placeholder+"}"), "("+name+")", 1)
	}
	return regexp.MustCompile("^"+pattern+"(/|$)").MatchString(key) || strings.HasPrefix(string(s.Path), key+"/")
}

// OfCluster is where a policy of another cluster of this name stores its backups; empty: one that does not say its cluster.
func (s S3) OfCluster(name string) S3 {
	parts := strings.Split(string(s.Path), "/")
	if i := slices.Index(parts, s.Cluster); i >= 0 && s.Cluster != "" {
		parts = slices.Delete(parts, i, i+1)
		if name != "" {
			parts = slices.Insert(parts, i, name)
		}
	}
	s.Path, s.Cluster = Template(strings.Join(parts, "/")), name
	return s
}

// Between is the text between {namespace} and {pvc} in the path, whichever comes first.
func (s S3) Between() string {
	if !s.HasNamespace() {
		return ""
	}
	if s.NamespaceFirst() {
		return string(s.Path[s.Path.index("namespace")+len("{namespace}") : s.Path.index("pvc")])
	}
	return string(s.Path[s.Path.index("pvc")+len("{pvc}") : s.Path.index("namespace")])
}

// words are the schedules that leave the exact time to the policy, each with a pattern of the cron schedules that it accepts.
var words = map[string]*regexp.Regexp{
	"@hourly":   regexp.MustCompile(`^M \* \* \* \*$`),
	"@daily":    regexp.MustCompile(`^M H \* \* \*$`),
	"@weekly":   regexp.MustCompile(`^M H \* \* [0-7]$`),
	"@monthly":  regexp.MustCompile(`^M H [0-9]+ \* \*$`),
	"@yearly":   regexp.MustCompile(`^M H [0-9]+ [0-9]+ \*$`),
	"@annually": regexp.MustCompile(`^M H [0-9]+ [0-9]+ \*$`),
}

var (
	minuteAndHour = regexp.MustCompile(`^([0-9]|[1-5][0-9]) ([0-9]|1[0-9]|2[0-3]) `)
	minuteOnly    = regexp.MustCompile(`^([0-9]|[1-5][0-9]) `)
)

// Schedules reports whether a cron schedule is the promised one: the same, or one that the promised word accepts.
func (c Contract) Schedules(schedule string) bool {
	schedule = strings.Join(strings.Fields(schedule), " ")
	if schedule == c.Schedule {
		return true
	}
	word, isWord := words[c.Schedule]
	if !isWord {
		return false
	}
	fields := minuteOnly.ReplaceAllString(schedule, "M ")
	if c.Schedule != "@hourly" {
		fields = minuteAndHour.ReplaceAllString(schedule, "M H ")
	}
	return word.MatchString(fields)
}

// Reasons maps the ID of each expected failure to its reason.
func (c Contract) Reasons() map[string]string {
	reasons := map[string]string{}
	for _, e := range c.ExpectedFailures {
		reasons[e.Requirement] = e.Reason
	}
	return reasons
}

// MadeFor are the names of the known stacks that the policy supports. A pattern that matches none of them is an error. A stack
// without Kyverno has to be named: a policy that says nothing is one of Kyverno's. Templates alone run on any.
func (c Contract) MadeFor(known []stack.Stack) ([]string, error) {
	var names, withKyverno []string
	for i := range known {
		names = append(names, known[i].Name)
		if known[i].HasKyverno() {
			withKyverno = append(withKyverno, known[i].Name)
		}
	}
	switch {
	case len(c.Stacks) == 0 && c.OnlyTemplates():
		return c.withOperator(known, names), nil
	case len(c.Stacks) == 0:
		return c.withOperator(known, withKyverno), nil
	}
	var madeFor []string
	for i, pattern := range c.Stacks {
		matches, err := matching(pattern, names)
		switch {
		case err != nil:
			return nil, c.doc.At(fmt.Sprintf("%q is no pattern of a stack's name: %s", pattern, err), "stacks", i)
		case len(matches) == 0:
			return nil, c.doc.At(fmt.Sprintf("no stack matches %q; want one of %s", pattern, strings.Join(names, ", ")), "stacks", i)
		}
		madeFor = append(madeFor, matches...)
	}
	if able := c.withOperator(known, madeFor); len(able) > 0 {
		return able, nil
	}
	return madeFor, nil // which CheckStack refuses
}

// CheckStack refuses a stack that the policy does not support, one whose volumes cannot be copied as the policy copies them, and a
// pattern that matches no stack. Patterns are shell patterns: kyverno-1.19* matches Kyverno 1.19 on any Kubernetes.
func (c Contract) CheckStack(name string, known []stack.Stack) error {
	madeFor, err := c.MadeFor(known)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(known, func(s stack.Stack) bool { return s.Name == name })
	if i >= 0 {
		if err := c.checkOperator(&known[i], known); err != nil {
			return err
		}
	}
	switch {
	case i >= 0 && slices.Contains(madeFor, name):
		return c.checkStorage(&known[i].Storage, name, snapshotting(known, madeFor))
	case len(madeFor) == 0:
		return fmt.Errorf("the policy %s is made for no stack that is known", c.Name)
	}
	return fmt.Errorf("the policy %s is made for %s, not for the stack %s: choose with STACK=%s", c.Name,
		cmp.Or(strings.Join(c.Stacks, ", "), "every stack with Kyverno (stacks in its contract names others)"), name, madeFor[0])
}

// snapshotting are those of the named stacks that have a storage class whose volumes can be snapshotted.
func snapshotting(known []stack.Stack, names []string) (found []string) {
	for i := range known {
		if len(known[i].Storage.Snapshotted()) > 0 && slices.Contains(names, known[i].Name) {
			found = append(found, known[i].Name)
		}
	}
	return found
}

// checkStorage refuses a copy method that the volumes of the contract's PVCs cannot have on the stack. others are stacks with volumes
// that can. A class that the stack does not have is made by the suite, as the default class.
func (c Contract) checkStorage(storage *stack.Storage, name string, others []string) error {
	class, has := storage.Class(c.PVC.StorageClass)
	if !has {
		class, _ = storage.Class("")
	}
	if c.CopyMethod == CopyDirect || class.Snapshots {
		return nil
	}
	choose := "there is none among the stacks that the policy is made for: add one to stacks"
	switch {
	case len(storage.Snapshotted()) > 0:
		return c.doc.At(fmt.Sprintf("copyMethod %s needs volumes that can be snapshotted; those of the storage class %s cannot on the stack %s: choose with pvc.storageClass: %s",
			c.CopyMethod, class.Name, name, strings.Join(storage.Snapshotted(), " or ")), "pvc", "storageClass")
	case len(others) > 0:
		choose = "choose with STACK=" + strings.Join(others, " or ")
	}
	return c.doc.At(fmt.Sprintf("copyMethod %s needs volumes that can be snapshotted; the stack %s has none: %s", c.CopyMethod, name, choose), "copyMethod")
}

// matching are the names that a shell pattern matches.
func matching(pattern string, names []string) (matches []string, err error) {
	for _, name := range names {
		matched, err := path.Match(pattern, name)
		if err != nil {
			return nil, err
		}
		if matched {
			matches = append(matches, name)
		}
	}
	return matches, nil
}

// CheckRequirements refuses requirements that no spec proves. specs are the IDs of all specs.
func (c Contract) CheckRequirements(specs []string) error {
	var problems []error
	check := func(id string, path ...any) {
		if !slices.Contains(specs, id) && !IsFinding(id) {
			problems = append(problems, c.doc.At(fmt.Sprintf("no spec has the requirement %q; %s", id, alike(id, specs)), path...))
		}
	}
	for i, e := range c.ExpectedFailures {
		check(e.Requirement, "expectedFailures", i, "requirement")
	}
	for i, id := range c.CaughtBy {
		check(id, "caughtBy", i)
	}
	return errors.Join(problems...)
}

// Warnings are dangers in the contract that do not keep the policy from being tested.
func (c Contract) Warnings() []error {
	if !c.S3.HasNamespace() {
		return []error{c.doc.At("it has no {namespace}: two PVCs of one name in two namespaces share a repository, and each gets the other's data", "s3", "path")}
	}
	if between := c.S3.Between(); !c.separates() {
		pairs := "PVC b%[1]sc in namespace a and PVC c in namespace a%[1]sb"
		if !c.S3.NamespaceFirst() {
			pairs = "PVC c%[1]sb in namespace a and PVC c in namespace b%[1]sa"
		}
		return []error{c.doc.At(fmt.Sprintf(pairs+" share a repository, since names may contain %[2]q: put a character between {namespace} and {pvc} that no namespace name contains, such as /",
			between, between), "s3", "path")}
	}
	return nil
}

// separates reports whether what the path has between {namespace} and {pvc} tells any two PVCs apart. The name of a namespace has only letters, digits and hyphens,
// so any other character between the two does it: the first one ends a namespace that comes first, the last one begins one that comes last.
func (c Contract) separates() bool {
	return !c.S3.HasNamespace() || strings.Trim(c.S3.Between(), namespaceLetters) != ""
}

const namespaceLetters = "abcdefghijklmnopqrstuvwxyz0123456789-"

// Lookalikes are what the name of a second namespace has before and after that of the first, a PVC name for the first and one for the
// second. Joined as the policy's path joins namespace and PVC, both give the same text. If the path cannot collide, they collide with a
// hyphen.
func (c Contract) Lookalikes() (before, after, first, second string) {
	between := "-"
	if !c.separates() {
		between = c.S3.Between()
	}
	if c.S3.HasNamespace() && !c.S3.NamespaceFirst() {
		return "b" + between, "", "c" + between + "b", "c"
	}
	return "", between + "b", "b" + between + "c", "c"
}

// contractBeside is the path of a policy's contract: in the policy's folder, beside the single manifest, or the path itself,
// if that names a contract.
func contractBeside(path string, folder bool) string {
	switch {
	case isContract(filepath.Base(path)) && !folder:
		return path
	case folder:
		return filepath.Join(path, contractFile)
	}
	return strings.TrimSuffix(path, filepath.Ext(path)) + "." + contractFile
}

// contractFileOf is the path of the contract of a policy that was read.
func contractFileOf(path string) string {
	info, err := os.Stat(path)
	return contractBeside(path, err == nil && info.IsDir())
}

// contractOf reads the contract of a policy. Without a file, it is Default with the name of the path.
func contractOf(path string, folder bool) (c Contract, file string, err error) {
	file = contractBeside(path, folder)
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		c = Default()
		c.Name = filepath.Base(path)
		return c, "", nil
	}
	if err != nil {
		return Contract{}, "", err
	}
	c, err = parseContract(file, raw)
	return c, file, err
}

// isContract reports whether a file in a policy's folder is a contract.
func isContract(name string) bool {
	return name == contractFile || strings.HasSuffix(name, "."+contractFile)
}

// parseContract reads a contract strictly. Errors say where: file:line:column.
func parseContract(file string, raw []byte) (Contract, error) {
	var c Contract
	doc, err := strict.Read(filepath.Base(file), raw, &c)
	if err != nil {
		return c, err
	}
	c.doc = doc
	if err := c.validate(); err != nil {
		return c, err
	}
	c.fillIn()
	return c, nil
}

// resolveEndpoint is the S3 address that the policy uses: the setting S3_ENDPOINT if it is set, else that of the contract.
// The contract stays as its author wrote it; the result is Policy.Endpoint.
func (c Contract) resolveEndpoint(set endpoint.Endpoint) (endpoint.Endpoint, error) {
	if set.URL != "" {
		return set, nil
	}
	return endpoint.Parse(c.S3.Endpoint)
}
