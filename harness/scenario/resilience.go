package scenario

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/minio/minio-go/v7"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// NeverRestoredOver proves, for a PVC that has a good backup and whose restore may come late, that no app loses by it:
// either the app is held back until its data is there, or what it writes stays. It starts the app while the controller is
// off, calls on, and looks.
func (c *Claim) NeverRestoredOver(ctx context.Context, on func(context.Context)) {
	const own = "written while nothing was restored yet"
	app, held := c.tryApp(ctx)
	if !held {
		app.Running(ctx)
		app.Put(ctx, dataset.SentinelName, own)
	}
	// Else a policy's own backup may be quicker than its late restore, which then restores what the app has written.
	defer c.holdBackups(ctx)()
	on(ctx)
	if held {
		app = c.App(ctx)
		if got := app.Get(ctx, dataset.SentinelName); got != SeedContent {
			c.sc.Failf("the app was held back, and then found %q, wanted the restored %q", got, SeedContent)
		}
		c.sc.Evidence("volume", "the app was held back until its data was restored", nil)
		return
	}
	c.HasReplicationSource(ctx) // so Kyverno has caught up
	until := time.Now().Add(reactionTime)
	c.sc.eventually(ctx, "what the app wrote unchanged, and no restore to come", moverTimeout, func(ctx context.Context) (bool, string, error) {
		if got := app.Get(ctx, dataset.SentinelName); got != own {
			return false, "", fmt.Errorf("the late restore has written over it: the app had written %q and reads %q", own, got)
		}
		for _, d := range c.sc.list(ctx, install.ReplicationDestination) {
			if c.isDestination(&d) && !triggerDone(&d) {
				return false, "ReplicationDestination " + d.GetName() + " is not done", nil
			}
		}
		return time.Now().After(until), "", nil
	})
}

// tryApp starts a pod that mounts the claim; held says that an admission webhook refuses it for now.
func (c *Claim) tryApp(ctx context.Context) (app *App, held bool) {
	pod := c.pod()
	err := c.sc.API.Create(ctx, pod)
	switch {
	case err == nil:
		return &App{sc: c.sc, pod: pod.Name}, false
	case refusedByWebhook(err):
		c.sc.Evidence("admission", fmt.Sprintf("pod %s is held back: %v", pod.Name, err), nil)
		return nil, true
	}
	c.sc.must(err)
	return nil, false
}

// WithoutBaseSecret takes the base Secret out of the namespace. The returned function puts it back.
func (sc *Scenario) WithoutBaseSecret(ctx context.Context) (back func(context.Context)) {
	sc.must(sc.API.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: sc.Namespace, Name: sc.Testbed.Contract.BaseSecret.Name}}))
	sc.Step("there is no base Secret in the namespace")
	return func(ctx context.Context) {
		sc.must(sc.applyBaseSecret(ctx, sc.Namespace))
		sc.Step("the base Secret arrives")
	}
}

// WrongResticPassword changes the password in the namespace's base Secret.
func (sc *Scenario) WrongResticPassword(ctx context.Context) {
	sc.setResticPassword(ctx, "not-the-one")
	sc.Step("the base Secret has another restic password")
}

// ResticPasswordMistaken changes the password in the namespace's base Secret to wrong ones, one after the other, and puts
// it right at last.
func (sc *Scenario) ResticPasswordMistaken(ctx context.Context, times int) {
	for n := range times {
		sc.setResticPassword(ctx, fmt.Sprint("not-the-one-", n))
	}
	sc.setResticPassword(ctx, sc.Testbed.Credentials.ResticPassword)
	sc.Step("the base Secret had %d wrong restic passwords, and has the right one again", times)
}

func (sc *Scenario) setResticPassword(ctx context.Context, password string) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: sc.Namespace, Name: sc.Testbed.Contract.BaseSecret.Name}}
	patch := fmt.Appendf(nil, `{"stringData":{%q:%q}}`, sc.Testbed.Contract.BaseSecret.Keys.ResticPassword, password)
	sc.must(sc.API.Patch(ctx, secret, client.RawPatch("application/merge-patch+json", patch)))
}

// CorruptConfig replaces the config of a PVC's repository by as many random bytes.
func (sc *Scenario) CorruptConfig(ctx context.Context, name string) objectstore.Listing {
	s3, err := sc.Testbed.Store.S3(sc.Testbed.Credentials)
	sc.must(err)
	garbage := make([]byte, 155)
	_, err = rand.Read(garbage)
	sc.must(err)
	_, err = s3.PutObject(ctx, sc.Testbed.Store.Bucket, sc.prefix(name)+"config", bytes.NewReader(garbage), int64(len(garbage)), minio.PutObjectOptions{})
	sc.must(err)
	return sc.Backup(ctx, name)
}

// StaleLock leaves a lock in a PVC's repository, as of a restic process that was killed on another machine.
func (sc *Scenario) StaleLock(ctx context.Context, name string) {
	repository := sc.repository(sc.prefix(name))
	script := fmt.Sprintf(`sleep 100 | restic backup -q -r %[1]s --no-cache --stdin & for i in $(seq 100); do
		restic list locks -r %[1]s --no-cache --no-lock -q | grep -q . && break; sleep 0.1; done; pkill -KILL -f 'restic backup -q -r %[1]s ' || kill -KILL %%1; true`, repository)
	sc.tool(ctx, "restic", "/bin/bash", "-c", script)
	locks := 0
	for key := range sc.Backup(ctx, name) {
		if bytes.Contains([]byte(key), []byte("/locks/")) {
			locks++
		}
	}
	if locks == 0 {
		sc.Unknownf("there is no stale lock in the repository of PVC %s", name)
	}
	sc.Evidence("bucket", fmt.Sprintf("%d stale locks are in the repository of PVC %s", locks, name), nil)
}

// StaysAdmitted looks, for as long as Kyverno may take, that the claim is there and not being deleted.
func (c *Claim) StaysAdmitted(ctx context.Context) {
	until := time.Now().Add(reactionTime)
	c.sc.eventually(ctx, "PVC "+c.Name+" still there", 4*reactionTime, func(ctx context.Context) (bool, string, error) {
		pvc := &corev1.PersistentVolumeClaim{}
		if err := c.sc.API.Get(ctx, client.ObjectKey{Namespace: c.sc.Namespace, Name: c.Name}, pvc); err != nil {
			return blind(err)
		}
		if pvc.DeletionTimestamp != nil {
			return false, "", fmt.Errorf("it is being deleted")
		}
		return time.Now().After(until), "", nil
	})
}
