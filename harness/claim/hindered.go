package claim

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/volsync"
)

// What keeps a mover from its work that is no policy's doing. As long as it lasts, that there is no mover says nothing.

// jobRetry is the longest that Kubernetes waits before it asks once more for a pod that was refused: MaxJobApiBackOff of its Job controller.
const jobRetry = time.Minute

// errOutage says that an outage of another spec keeps Kyverno from S3.
var errOutage = errors.New("another spec's outage keeps Kyverno from S3, which a policy may ask before it lets a mover in")

// hindered is why a ReplicationSource or a ReplicationDestination has no mover at work that is no policy's doing; nil: nothing is known.
func (c *Claims) hindered(ctx context.Context, of *unstructured.Unstructured) error {
	switch down, err := c.s3.DownByAnother(); {
	case err != nil:
		return err
	case down:
		return errOutage
	}
	return c.notBegun(ctx, of)
}

// notBegun is an error where Kubernetes has not begun with the Job of a mover, and has not tried to. When VolSync deletes a Job whose pod is
// just being made, and makes it anew, the Job controller waits five minutes for news of that pod (ExpectationsTimeout): it keeps what it
// expects by the Job's name, and takes the pod for nobody's. VolSync does so when the app was scheduled meanwhile.
func (c *Claims) notBegun(ctx context.Context, of *unstructured.Unstructured) error {
	job := &batchv1.Job{}
	if err := c.env.API.Get(ctx, client.ObjectKey{Namespace: c.env.Namespace, Name: moverOf(of)}, job); err != nil {
		return client.IgnoreNotFound(err)
	}
	age := c.env.Now().Sub(job.CreationTimestamp.Time)
	if age < usualSync || !volsync.WantsPods(job) || job.Status.Active+job.Status.Succeeded+job.Status.Failed > 0 {
		return nil
	}
	pods := &corev1.PodList{}
	if err := c.env.API.List(ctx, pods, client.InNamespace(c.env.Namespace), client.MatchingLabels{batchv1.ControllerUidLabel: string(job.UID)}); err != nil || len(pods.Items) > 0 {
		return err
	}
	events := &corev1.EventList{}
	if err := c.env.API.List(ctx, events, client.InNamespace(c.env.Namespace)); err != nil {
		return err
	}
	for _, event := range events.Items {
		if event.InvolvedObject.UID == job.UID { // such as that its pod was refused
			return nil
		}
	}
	return fmt.Errorf("of Job %s, which is %.0f s old, Kubernetes has made no pod, nor said why: where one Job has taken another's place, it may wait five minutes", job.Name, age.Seconds())
}
