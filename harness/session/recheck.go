package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/timing"
	"github.com/smart-restore/conformance/harness/verdict"
)

const (
	// auditInterval is how often the audit log is looked at again.
	auditInterval = 200 * time.Millisecond
)

// markAudit makes a request that the audit log records, and changes nothing.
func (r *e2eRun) markAudit(ctx context.Context) error {
	kube, err := r.testbed.Client()
	if err != nil {
		return err
	}
	return kube.Resources().GetControllerRuntimeClient().Create(ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "audit-marker"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
		},
	}, client.DryRunAll)
}

// auditIsCurrent waits until the audit log shows a request that is made now: it then shows all earlier ones. An audit log that
// lags would show no late object, and an absence would be taken for proven.
func auditIsCurrent(ctx context.Context, mark func(context.Context) error, covers func(context.Context, time.Time) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, timing.Setup.Audit)
	defer cancel()
	now := time.Now()
	refused := mark(ctx) // the log may show a request that is refused, or somebody else's
	ticker := time.NewTicker(auditInterval)
	defer ticker.Stop()
	var last error
	for {
		covered, err := covers(ctx, now)
		if covered && err == nil {
			return nil
		}
		last = err
		select {
		case <-ctx.Done():
			if last == nil {
				last = ctx.Err()
			}
			return fmt.Errorf("the audit log does not show a request made %s ago: %w", time.Since(now).Round(time.Second), errors.Join(last, refused))
		case <-ticker.C:
		}
	}
}

// unseen makes unknown what has passed and has absences, a line of JSON each, that could not be rechecked.
func unseen(report *verdict.Report, absences []byte, why error) {
	var specs []string
	for line := range bytes.Lines(absences) {
		var absence struct {
			Spec string `json:"spec"`
		}
		if json.Unmarshal(line, &absence) == nil {
			specs = append(specs, absence.Spec)
		}
	}
	for i := range report.Requirements {
		result := &report.Requirements[i]
		if result.Verdict == verdict.Pass && slices.Contains(specs, result.ID) {
			result.Verdict = verdict.Unknown
			result.Message = "it could not be rechecked, after all specs, that what must not happen has not happened late: " + verdict.FirstLine(why.Error())
		}
	}
}
