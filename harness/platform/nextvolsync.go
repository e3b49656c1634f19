package platform

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// nextTag is what is added to the tag of VolSync's image: that of its next version.
const nextTag = "-next"

// tagImage gives an image that a node has another name, too.
const tagImage = `ctr --namespace k8s.io images tag --force "$0" "$1"`

// NextVolSync rolls out VolSync's next version over the one that runs, and waits until it answers: the same build under another tag. Its
// movers are of another image than those at work, as after every upgrade, and VolSync deletes the Job of such a mover and makes it anew. What
// it returns rolls out the version that ran before.
func (p *Platform) NextVolSync(ctx context.Context) Back {
	e := p.env
	deployments := &appsv1.DeploymentList{}
	e.Do(ctx, func(ctx context.Context) error {
		return e.API.List(ctx, deployments, client.InNamespace(VolSync.Namespace))
	})
	var images []string
	for i := range deployments.Items {
		for _, container := range deployments.Items[i].Spec.Template.Spec.Containers {
			if !slices.Contains(images, container.Image) {
				images = append(images, container.Image)
			}
		}
	}
	if len(images) == 0 {
		e.Unknownf("there is no deployment of VolSync's in the namespace %s: there is nothing to upgrade", VolSync.Namespace)
	}
	rollOut := func(of func(image string) string) func(context.Context) error {
		return func(ctx context.Context) error {
			for i := range deployments.Items {
				if err := p.withImages(ctx, &deployments.Items[i], of); err != nil {
					return err
				}
			}
			if err := p.ready(ctx, VolSync.Namespace); err != nil {
				return err
			}
			return p.volSyncAnswers(ctx)
		}
	}
	back := e.Undo("VolSync's version", rollOut(func(image string) string { return strings.TrimSuffix(image, nextTag) }))
	for _, image := range images {
		if _, err := e.Node(ctx, "bash", "-c", tagImage, image, image+nextTag); err != nil {
			e.Unknownf("there is no next version of VolSync: image %s could not be given another tag on a node: %v", image, err)
		}
	}
	e.Must(rollOut(func(image string) string {
		if slices.Contains(images, image) {
			return image + nextTag
		}
		return image
	})(ctx))
	e.Step("VolSync's next version runs: %s", strings.Join(images, nextTag+", ")+nextTag)
	return back
}

// withImages gives the containers of a deployment other images, and the names of images in their environment, which are the movers'.
func (p *Platform) withImages(ctx context.Context, deployment *appsv1.Deployment, of func(image string) string) error {
	now := &appsv1.Deployment{}
	if err := p.env.API.Get(ctx, client.ObjectKeyFromObject(deployment), now); err != nil {
		return fmt.Errorf("deployment %s/%s: %w", deployment.Namespace, deployment.Name, err)
	}
	before := now.DeepCopy()
	for i := range now.Spec.Template.Spec.Containers {
		container := &now.Spec.Template.Spec.Containers[i]
		container.Image = of(container.Image)
		for j := range container.Env {
			container.Env[j].Value = of(container.Env[j].Value)
		}
	}
	return p.env.API.Patch(ctx, now, client.MergeFrom(before))
}
