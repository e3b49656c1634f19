package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/text"
)

// What a manifest brings: the annotations of an earlier life, or none.

// Annotations are what somebody, or a policy, wrote on a PVC.
type Annotations map[string]string

// Exported are the claim's annotations but Kubernetes' own, as kubectl get -o yaml would write them into a manifest.
func (c *Claim) Exported(ctx context.Context) Annotations {
	exported := policys(c.now(ctx).Annotations)
	c.env().Evidence("seen", fmt.Sprintf("PVC %s is exported: %s", c.Name, annotationsText(exported)), map[string]any{"annotations": exported})
	return exported
}

// policys are these annotations without Kubernetes' own.
func policys(annotations map[string]string) map[string]string {
	kept := maps.Clone(annotations)
	maps.DeleteFunc(kept, func(key, _ string) bool { return text.OfKubernetes(key) })
	return kept
}

var year = regexp.MustCompile(`\b(20\d\d)(-\d\d-\d\dT)`)

// AYearAhead are these annotations as of a cluster whose clock is a year ahead: with such dates.
func AYearAhead(annotations Annotations) Annotations {
	ahead := Annotations{}
	for key, value := range annotations {
		ahead[key] = year.ReplaceAllStringFunc(value, func(date string) string {
			at, err := time.Parse("2006", date[:4])
			if err != nil {
				return date
			}
			return fmt.Sprint(at.Year()+1) + date[4:]
		})
	}
	return ahead
}

// ClaimFrom creates a labelled PVC while S3 is up, from a manifest that has these annotations.
func (c *Claims) ClaimFrom(ctx context.Context, name string, annotations Annotations) (claim *Claim) {
	c.s3.WhileS3IsUp(ctx, func() { claim = c.create(ctx, name, c.labels(), annotated(annotations)) })
	return claim
}

func annotated(annotations Annotations) func(*corev1.PersistentVolumeClaim) {
	return func(pvc *corev1.PersistentVolumeClaim) { annotate(pvc, annotations) }
}

// Apply applies the claim's manifest again, which has these annotations. The API server, or the policy, may refuse it.
func (c *Claim) Apply(ctx context.Context, annotations Annotations) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	c.env().Must(err)
	c.Patch(ctx, "applied again "+annotationsText(annotations), string(patch))
}

// WithoutAnnotations replaces the claim by a manifest that has none of the annotations that a policy wrote, as a tool does that puts
// things as they are in Git. The API server, or the policy, may refuse it.
func (c *Claim) WithoutAnnotations(ctx context.Context) {
	e := c.env()
	e.Arrange(ctx, "PVC "+c.Name+" replaced, or that refused", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		pvc, err := c.get(ctx)
		if err != nil {
			return await.State{}, err
		}
		gone := policys(pvc.Annotations)
		without(gone, e.Testbed.Contract.PVC.Annotations) // they are in Git
		if from := c.claims.template(c.Name).Claim; from != nil {
			without(gone, from.Annotations)
		}
		maps.DeleteFunc(pvc.Annotations, func(key, _ string) bool { _, is := gone[key]; return is })
		switch err := e.API.Update(ctx, pvc); {
		case env.NotAllowed(err):
			e.Evidence("admission", fmt.Sprintf("PVC %s is not replaced: %v", c.Name, err), nil)
		case err != nil:
			return await.State{}, err // a conflict, too: somebody was quicker
		default:
			e.Evidence("seen", fmt.Sprintf("PVC %s is replaced; then it is there %s", c.Name, annotationsText(policys(pvc.Annotations))), nil)
		}
		return await.Reached(), nil
	})
}
