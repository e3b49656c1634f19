// Package repository is where a PVC's backups are: a restic repository in the bucket. It looks into repositories with restic
// itself, and makes such as an earlier life of a volume would have left.
package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/minio/minio-go/v7"

	"github.com/smart-restore/conformance/harness/env"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/probe"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// Repositories are those of a namespace, by the PVC's name.
type Repositories struct {
	env   *env.Env
	tools Tools
	s3    policy.S3
}

// Of are the repositories of a spec's namespace.
func Of(e *env.Env) *Repositories {
	return &Repositories{e, ToolsOf(e.Suite), e.Testbed.Contract.S3}
}

// OfCluster are the repositories of a namespace of the same name in another cluster that uses the same bucket; without a name, in one
// whose path does not say the cluster. They are removed when the spec ends.
func (r *Repositories) OfCluster(name string) *Repositories {
	theirs := &Repositories{r.env, r.tools, r.s3.OfCluster(name)}
	r.env.Undo("nothing in the bucket of another cluster's namespace", func(ctx context.Context) error {
		return r.env.Testbed.Store.RemovePrefix(ctx, r.env.Testbed.Credentials, theirs.keyPrefix())
	})
	return theirs
}

// Prefix is where in the bucket the repository of a PVC of this name is, by the contract; it ends with a slash.
func (r *Repositories) Prefix(pvc string) string {
	return r.s3.Prefix(r.env.Namespace, r.env.PVC(pvc))
}

// keyPrefix begins the keys of all that is the namespace's.
func (r *Repositories) keyPrefix() string {
	return r.s3.NamespacePrefix(r.env.Namespace, r.env.PVC(""))
}

// Address is restic's of the repository of a PVC of this name.
func (r *Repositories) Address(pvc string) string { return address(r.env.Suite, r.Prefix(pvc)) }

// path is the path of a URL of the bucket.
func (r *Repositories) path(key string) string { return "/" + r.env.Testbed.Store.Bucket + "/" + key }

// Path begins the paths of the URLs of all that is in the repository of a PVC of this name.
func (r *Repositories) Path(pvc string) string { return r.path(r.Prefix(pvc)) }

// NamespacePath begins the paths of the URLs of all that is the namespace's.
func (r *Repositories) NamespacePath() string {
	return r.path(r.keyPrefix())
}

// IsAbout says whether a request is about what is in the repository of a PVC of this name, or lists that.
func IsAbout(request gateway.Record, r *Repositories, pvc string) bool {
	query, err := url.ParseQuery(request.Query)
	return strings.HasPrefix(request.Path, r.Path(pvc)) || err == nil && strings.HasPrefix(query.Get("prefix"), r.Prefix(pvc))
}

// IsQuestion says whether a request is Kyverno's question whether there is a backup of a PVC of this name: to S3 or, by the contract, to the
// oracle. What the oracle then asks S3 is not Kyverno's.
func IsQuestion(request gateway.Record, r *Repositories, pvc string) bool {
	if request.Auth == gateway.AuthAWS4 || request.UserAgent == probe.UserAgent || request.UserAgent == gateway.OracleAgent {
		return false
	}
	if oracle := r.env.Testbed.Contract.Oracle; oracle.Named() {
		asked := request.Path
		if request.Query != "" {
			asked += "?" + request.Query
		}
		return request.To == gateway.ToOracle && asked == oracle.Path(r.env.Namespace, pvc)
	}
	return request.Auth == gateway.AuthNone && IsAbout(request, r, pvc)
}

// GoodBackup puts a restic repository with one good snapshot where the backup of a PVC of this name would be.
func (r *Repositories) GoodBackup(ctx context.Context, pvc string) objectstore.Listing {
	e := r.env
	s3, err := e.Testbed.Store.S3(e.Testbed.Credentials)
	e.Must(err)
	seed, err := e.Testbed.Store.List(ctx, e.Testbed.Credentials, e.Testbed.SeedPrefix())
	e.Must(err)
	if len(seed) == 0 {
		e.Unknownf("there is no seed repository to copy from")
	}
	bucket := e.Testbed.Store.Bucket
	for key := range seed {
		if strings.Contains(key, "/locks/") {
			continue
		}
		e.Do(ctx, func(ctx context.Context) error {
			_, err := s3.CopyObject(ctx,
				minio.CopyDestOptions{Bucket: bucket, Object: r.Prefix(pvc) + strings.TrimPrefix(key, e.Testbed.SeedPrefix())},
				minio.CopySrcOptions{Bucket: bucket, Object: key})
			return err
		})
	}
	return r.Listing(ctx, pvc)
}

// NewPassword gives the repository of a PVC of this name another password, which is returned: with the run's it can be opened no more, not by
// the suite either.
func (r *Repositories) NewPassword(ctx context.Context, pvc string) string {
	e, password := r.env, rand.Text()
	e.Redactor.Add(password)
	const script = `file=$(mktemp) && trap 'rm -f "$file"' EXIT && printf %s "$2" >"$file" && restic -r "$1" --no-cache key passwd --new-password-file "$file"`
	r.tool(ctx, e.Pods.Once, r.tools.restic(), podexec.ByShell("/bin/bash", "-c", script, "bash", r.Address(pvc), password))
	e.Step("the repository of PVC %s has a new password", pvc)
	return password
}

// Listing lists what the bucket holds for a PVC of this name.
func (r *Repositories) Listing(ctx context.Context, pvc string) objectstore.Listing {
	var listing objectstore.Listing
	r.env.Do(ctx, func(ctx context.Context) (err error) {
		listing, err = r.List(ctx, pvc)
		return err
	})
	return listing
}

// List is Listing within a wait.
func (r *Repositories) List(ctx context.Context, pvc string) (objectstore.Listing, error) {
	return r.env.Testbed.Store.List(ctx, r.env.Testbed.Credentials, r.Prefix(pvc))
}

// Unchanged fails the spec, for this reason, unless the bucket holds for a PVC of this name what it held before.
func (r *Repositories) Unchanged(ctx context.Context, pvc string, before objectstore.Listing, reason string) {
	after := r.Listing(ctx, pvc)
	if lost, added := before.Lost(after), before.Added(after); len(lost)+len(added) > 0 {
		slices.Sort(added)
		r.env.Failf("%s for PVC %s: %d objects in the bucket changed or disappeared (%v), %d are new (%v)", reason, pvc, len(lost), lost, len(added), added)
	}
	r.env.Evidence("bucket", fmt.Sprintf("the bucket holds the same %d objects for PVC %s as before", len(after), pvc), nil)
}

// NothingLost fails the spec if any object of before has changed or is gone.
func (r *Repositories) NothingLost(ctx context.Context, pvc string, before objectstore.Listing) {
	after := r.Listing(ctx, pvc)
	if lost := before.Lost(after); len(lost) > 0 {
		r.env.Failf("of the %d objects in the bucket for PVC %s, %d changed or disappeared: %v", len(before), pvc, len(lost), lost)
	}
	r.env.Evidence("bucket", fmt.Sprintf("the bucket holds the %d objects for PVC %s that were there before, and %d more", len(before), pvc, len(after)-len(before)), nil)
}

// GoodBackupSurvives fails the spec unless a good backup is as it was, every object of it, and its snapshot can be restored with
// restic.
func (r *Repositories) GoodBackupSurvives(ctx context.Context, pvc string, before objectstore.Listing) {
	r.NothingLost(ctx, pvc, before)
	for key := range before {
		if id, isSnapshot := strings.CutPrefix(key, r.Prefix(pvc)+"snapshots/"); isSnapshot {
			r.SnapshotHolds(ctx, pvc, id, SeedContent)
		}
	}
}

// EmptyRepository puts a repository without any snapshot where the backup of a PVC of this name would be: what an
// interrupted first backup leaves, or a restore of what never was.
func (r *Repositories) EmptyRepository(ctx context.Context, pvc string) {
	e := r.env
	r.GoodBackup(ctx, pvc)
	s3, err := e.Testbed.Store.S3(e.Testbed.Credentials)
	e.Must(err)
	for key := range r.Listing(ctx, pvc) {
		if strings.Contains(key, "/snapshots/") {
			e.Do(ctx, func(ctx context.Context) error {
				return s3.RemoveObject(ctx, e.Testbed.Store.Bucket, key, minio.RemoveObjectOptions{})
			})
		}
	}
}

// NoRepository takes away all that the bucket holds for a PVC of this name.
func (r *Repositories) NoRepository(ctx context.Context, pvc string) {
	e := r.env
	e.Do(ctx, func(ctx context.Context) error {
		return e.Testbed.Store.RemovePrefix(ctx, e.Testbed.Credentials, r.Prefix(pvc))
	})
	if left := r.Listing(ctx, pvc); len(left) > 0 {
		e.Unknownf("the bucket still holds %d objects for PVC %s", len(left), pvc)
	}
	e.Evidence("bucket", "the bucket holds nothing for PVC "+pvc, nil)
}

// CorruptConfig replaces the config of a PVC's repository by as many random bytes.
func (r *Repositories) CorruptConfig(ctx context.Context, pvc string) objectstore.Listing {
	e := r.env
	s3, err := e.Testbed.Store.S3(e.Testbed.Credentials)
	e.Must(err)
	garbage := make([]byte, 155)
	_, err = rand.Read(garbage)
	e.Must(err)
	e.Do(ctx, func(ctx context.Context) error {
		_, err := s3.PutObject(ctx, e.Testbed.Store.Bucket, r.Prefix(pvc)+"config", bytes.NewReader(garbage), int64(len(garbage)), minio.PutObjectOptions{})
		return err
	})
	return r.Listing(ctx, pvc)
}

// StaleLock leaves a lock in a PVC's repository, as of a restic process that was killed on another machine.
func (r *Repositories) StaleLock(ctx context.Context, pvc string) {
	const script = `sleep 100 | restic backup -q -r "$1" --no-cache --stdin & for i in $(seq 100); do
		restic list locks -r "$1" --no-cache --no-lock -q | grep -q . && break; sleep 0.1; done; pkill -KILL -f "restic backup -q -r $1 " || kill -KILL %1; true`
	r.tool(ctx, r.env.Pods.Once, r.tools.restic(), podexec.ByShell("/bin/bash", "-c", script, "bash", r.Address(pvc)))
	locks := 0
	for key := range r.Listing(ctx, pvc) {
		if strings.Contains(key, "/locks/") {
			locks++
		}
	}
	if locks == 0 {
		r.env.Unknownf("there is no stale lock in the repository of PVC %s", pvc)
	}
	r.env.Evidence("bucket", fmt.Sprintf("%d stale locks are in the repository of PVC %s", locks, pvc), nil)
}

// AddSnapshot adds a restic snapshot to the repository of a PVC of this name, as VolSync would have made it at that time
// of a volume with this sentinel. It makes the repository where there is none.
func (r *Repositories) AddSnapshot(ctx context.Context, pvc, sentinel string, at time.Time) {
	if len(r.Listing(ctx, pvc)) == 0 {
		r.EmptyRepository(ctx, pvc)
	}
	defer r.dataFolder(ctx)()
	const script = `printf %s "$2" >"/data/$4" && cd /data && restic -q backup -r "$1" --no-cache --host volsync --time "$3" .`
	r.tool(ctx, r.env.Pods.Once, r.tools.restic(),
		podexec.ByShell("/bin/bash", "-c", script, "bash", r.Address(pvc), sentinel, at.UTC().Format(time.DateTime), dataset.SentinelName))
	r.env.Evidence("restic", fmt.Sprintf("a snapshot of %s with the content %q is in the repository of PVC %s", at.UTC().Format(time.DateTime), sentinel, pvc), nil)
}

// AddDataset adds a restic snapshot to the repository of a PVC of this name, as VolSync would have made it now of a volume with
// this data set, and returns what it holds. It makes the repository where there is none.
func (r *Repositories) AddDataset(ctx context.Context, pvc string, spec dataset.Spec) dataset.Manifest {
	if len(r.Listing(ctx, pvc)) == 0 {
		r.EmptyRepository(ctx, pvc)
	}
	defer r.dataFolder(ctx)()
	const clear = `find /data -mindepth 1 -delete`
	r.tool(ctx, r.env.Pods.Run, r.tools.restic(), podexec.ByShell("/bin/bash", "-c", clear))
	var manifest dataset.Manifest
	r.env.Must(json.Unmarshal(r.tool(ctx, r.env.Pods.Once, r.tools.Agent(), podexec.ByAgent(r.env.Testbed.AgentPath(), spec.Arguments("/data")...)), &manifest))
	const script = `cd /data && restic -q backup -r "$1" --no-cache --host volsync . && ` + clear
	r.tool(ctx, r.env.Pods.Once, r.tools.restic(), podexec.ByShell("/bin/bash", "-c", script, "bash", r.Address(pvc)))
	files, size := manifest.Totals()
	r.env.Evidence("restic", fmt.Sprintf("a snapshot of %d files, %d bytes, is in the repository of PVC %s", files, size, pvc), map[string]any{"digest": manifest.Digest()})
	return manifest
}

// dataFolder waits until no other spec uses the tools' folder /data, and keeps it so until the returned function is called.
//
// Snapshots are made of it with the same host and path as VolSync's own: retention counts by them. One at a time, since all specs
// share the folder. The kernel gives the lock up with whoever holds it.
func (r *Repositories) dataFolder(ctx context.Context) (done func()) {
	lock := flock.New(r.env.SharedFile("snapshot.lock"))
	if taken, err := lock.TryLockContext(ctx, r.env.Times.Poll); err != nil || !taken {
		r.env.Unknownf("could not wait for another spec's snapshot to be added: %v", err)
	}
	return func() { _ = lock.Close() }
}

// SnapshotKeys lists the names of the snapshots in the bucket for a PVC of this name.
func (r *Repositories) SnapshotKeys(ctx context.Context, pvc string) []string {
	var keys []string
	r.env.Do(ctx, func(ctx context.Context) (err error) {
		keys, err = r.ListSnapshotKeys(ctx, pvc)
		return err
	})
	return keys
}

// ListSnapshotKeys is SnapshotKeys within a wait.
func (r *Repositories) ListSnapshotKeys(ctx context.Context, pvc string) ([]string, error) {
	listing, err := r.List(ctx, pvc)
	var keys []string
	for key := range listing {
		if _, id, found := strings.Cut(key, "/snapshots/"); found {
			keys = append(keys, id)
		}
	}
	slices.Sort(keys)
	return keys, err
}

// Snapshot is a restic snapshot, as restic lists it.
type Snapshot struct {
	ID    string    `json:"id"`
	Time  time.Time `json:"time"`
	Paths []string  `json:"paths"`
	Host  string    `json:"hostname"`
}

// Snapshots asks restic for the snapshots in the repository of a PVC of this name, oldest first.
func (r *Repositories) Snapshots(ctx context.Context, pvc string) (snapshots []Snapshot) {
	r.env.Must(json.Unmarshal(r.restic(ctx, pvc, "snapshots", "--json"), &snapshots))
	r.env.Evidence("restic", fmt.Sprintf("restic lists %d snapshots for PVC %s", len(snapshots), pvc), map[string]any{"snapshots": snapshots})
	return snapshots
}

// LatestSnapshot is the ID of the newest snapshot in a repository that the suite has made: that it cannot be read is no policy's doing.
func (r *Repositories) LatestSnapshot(ctx context.Context, pvc string) string {
	var snapshots []Snapshot
	result, err := r.run(ctx, pvc, "snapshots", "--json")
	r.env.Must(succeeded(result, err))
	r.env.Must(json.Unmarshal(result.Stdout, &snapshots))
	if len(snapshots) == 0 {
		r.env.Unknownf("there is no snapshot in the repository of PVC %s", pvc)
	}
	return snapshots[len(snapshots)-1].ID
}

// SnapshotHolds fails the spec unless the snapshot can be restored with restic and has this sentinel.
func (r *Repositories) SnapshotHolds(ctx context.Context, pvc, id, sentinel string) {
	if keys := r.SnapshotKeys(ctx, pvc); id != "latest" && !slices.Contains(keys, id) {
		r.env.Failf("snapshot %.8s of PVC %s, which held %q, is gone: retention has removed it for later ones (%d are left)", id, pvc, sentinel, len(keys))
	}
	got, has := r.SentinelIn(ctx, pvc, id)
	if !has {
		r.env.Failf("snapshot %.8s of PVC %s does not hold the sentinel", id, pvc)
	}
	if got != sentinel {
		r.env.Failf("snapshot %.8s of PVC %s holds %q, wanted %q", id, pvc, got, sentinel)
	}
	r.env.Evidence("restic", fmt.Sprintf("snapshot %.8s of PVC %s can be restored and holds %q", id, pvc, sentinel), nil)
}

// SentinelIn restores a snapshot with restic, which fails the spec where it cannot, and returns the sentinel's content, if it has one.
func (r *Repositories) SentinelIn(ctx context.Context, pvc, id string) (content string, has bool) {
	target := r.restored(ctx, pvc, id)
	result, err := r.env.Pods.Run(ctx, r.tools.Agent(), podexec.ByAgent(r.env.Testbed.AgentPath(), "get", "--file", target+"/"+dataset.SentinelName))
	r.env.Must(err)
	return string(result.Stdout), result.ExitCode == 0
}

// LatestIsExactly fails the spec unless the latest snapshot, restored with restic itself, is what was written.
func (r *Repositories) LatestIsExactly(ctx context.Context, pvc string, want dataset.Manifest) {
	target := r.restored(ctx, pvc, "latest")
	reply := r.tool(ctx, r.env.Pods.Run, r.tools.Agent(), podexec.ByAgent(r.env.Testbed.AgentPath(), "manifest", "--dir", target))
	var got dataset.Manifest
	r.env.Must(json.Unmarshal(reply, &got))
	Same(r.env, want, got, "the latest snapshot, restored with restic,")
}

// restored restores a snapshot with restic, into a folder of its own of the tools' pod.
func (r *Repositories) restored(ctx context.Context, pvc, id string) (target string) {
	target = fmt.Sprintf("/scratch/%s/%s-%s-%s", r.env.Namespace, pvc, id[:min(8, len(id))], env.RandomSuffix())
	r.restic(ctx, pvc, "restore", id, "--target", target, "--quiet")
	return target
}

// notAboutTheBackup matches what restic says if it did not reach S3, S3 did not answer about the repository, or its own machine
// failed it.
var notAboutTheBackup = regexp.MustCompile(`(?i)connection (refused|reset)|no route to host|network is unreachable|i/o timeout|deadline exceeded|no such host|` +
	`server misbehaving|no space left on device|cannot allocate memory|service unavailable|slow ?down|too many requests|internal server error|bad gateway|` +
	`gateway timeout|handshake timeout|awaiting (response )?headers|request canceled|broken pipe|": (unexpected )?EOF`) // that of a request; of a file it is the backup's

// restic runs restic on the repository of a PVC of this name. What restic cannot do there fails the spec; that its reply did
// not arrive is not restic's.
func (r *Repositories) restic(ctx context.Context, pvc string, args ...string) []byte {
	result, err := r.run(ctx, pvc, args...)
	r.env.Must(err)
	if result.ExitCode != 0 && notAboutTheBackup.MatchString(result.Stderr) {
		r.env.Unknownf("restic could not look at the backup of PVC %s (exit code %d): %s", pvc, result.ExitCode, result.Stderr)
	}
	if result.ExitCode != 0 {
		r.env.Failf("restic cannot read the backup of PVC %s (exit code %d): %s", pvc, result.ExitCode, result.Stderr)
	}
	return result.Stdout
}

func (r *Repositories) run(ctx context.Context, pvc string, args ...string) (podexec.Result, error) {
	command := append([]string{"restic", "-r", r.Address(pvc), "--no-cache", "--no-lock"}, args...)
	return r.env.Pods.Run(ctx, r.tools.restic(), podexec.ByShell(command...))
}

// tool runs a command that arranges something. That it fails is the suite's failure.
func (r *Repositories) tool(ctx context.Context, run func(context.Context, podexec.Container, podexec.Framed) (podexec.Result, error), in podexec.Container, command podexec.Framed) []byte {
	result, err := run(ctx, in, command)
	r.env.Must(succeeded(result, err))
	return result.Stdout
}

// Same fails the spec unless two manifests are the same.
func Same(e *env.Env, want, got dataset.Manifest, where string) {
	if differences := dataset.Diff(want, got); len(differences) > 0 {
		e.Failf("%s is not what was written: %d differences\n%s", where, len(differences), dataset.Summary(differences, 10))
	}
	e.Evidence("volume", fmt.Sprintf("%s is as it was written, all %d entries", where, len(want.Entries)), map[string]any{"digest": got.Digest()})
}
