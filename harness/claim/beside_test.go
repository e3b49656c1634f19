package claim

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/env"
)

// A busy node that answers late hides nothing of a restore: what it writes stays.
func TestRestoreIsOver(t *testing.T) {
	const mine, never = "written after the restore was overridden", time.Hour
	restores := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "mover", Labels: map[string]string{batchv1.JobNameLabel: "volsync-dst-data"}},
		Spec: corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for name, c := range map[string]struct {
		takes      time.Duration // each look
		written    time.Duration // when a restore has written over it
		lost       bool          // the answers are
		mover      bool
		want, says string
	}{
		"nothing happens":             {0, never, false, false, "pass", ""},
		"nothing, seen slowly":        {7 * time.Second, never, false, false, "pass", ""},
		"it is restored, seen slowly": {7 * time.Second, 10 * time.Second, false, false, "fail", "from the backup"},
		"a mover restores":            {0, never, false, true, "fail", "restores into PVC data beside its app"},
		"the volume cannot be read":   {0, never, true, false, "unknown", "connection reset"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			begun := time.Now()
			builder := fake.NewClientBuilder()
			if c.mover {
				builder = builder.WithObjects(restores.DeepCopy())
			}
			claims, _ := claimsOf(t, env.Parts{API: builder.Build(), Pods: volume(func() (string, bool) {
				time.Sleep(c.takes)
				if time.Since(begun) >= c.written {
					return "from the backup", c.lost
				}
				return mine, c.lost
			})})
			return func() {
				claim := claims.claim("data")
				claim.RestoreStaysOver(t.Context(), claim.TryApp(t.Context()), mine, "after it was overridden")
			}
		})
	}
}
