package claim

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/volsync"
)

// secret is the one that the claim's ReplicationSource uses.
func (c *Claim) secret(ctx context.Context) *corev1.Secret {
	source, secret, e := c.HasReplicationSource(ctx), &corev1.Secret{}, c.env()
	name := volsync.Nested(source, "spec", "restic", "repository")
	if name == "" {
		e.Failf("ReplicationSource %s names no Secret", source.GetName())
	}
	e.Eventually(ctx, "the Secret of PVC "+c.Name, e.Times.Generate, func(ctx context.Context) (await.State, error) {
		err := e.API.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: name}, secret)
		if apierrors.IsNotFound(err) {
			return await.NotYet("there is no Secret %s", name), nil
		}
		return await.Reached(), err
	})
	return secret
}

var placeholder = regexp.MustCompile(`\{\{|\}\}|\$\{|\$\(|<[A-Za-z_-]+>|(?i)changeme|(?i)placeholder|(?i)\bnull\b|<no value>`)

// hasPlaceholder says whether a value has a placeholder in it. Real passwords may look like one, so what the policy was given is none.
func hasPlaceholder(value string, given []string) bool {
	for _, secret := range given {
		if secret != "" {
			value = strings.ReplaceAll(value, secret, "-")
		}
	}
	return placeholder.MatchString(value)
}

// SecretIsSound fails the spec where the claim's Secret has a placeholder or an empty value, lacks what restic needs, or
// can be read by somebody who cannot read the base Secret.
func (c *Claim) SecretIsSound(ctx context.Context) {
	secret, e := c.secret(ctx), c.env()
	given := e.Testbed.Credentials.Secrets()
	for _, key := range []string{"RESTIC_REPOSITORY", "RESTIC_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		switch value := string(secret.Data[key]); {
		case value == "":
			e.Failf("Secret %s has no %s", secret.Name, key)
		case hasPlaceholder(value, given):
			e.Failf("%s in Secret %s has a placeholder in it", key, secret.Name) // its value is in no report
		}
	}
	if want, got := c.repos().Address(c.Name), string(secret.Data["RESTIC_REPOSITORY"]); got != want {
		e.Failf("PVC %s is backed up to %s, wanted %s", c.Name, got, want)
	}
	for _, who := range []authorizationv1.SubjectAccessReviewSpec{
		{User: "system:serviceaccount:" + e.Namespace + ":default", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + e.Namespace, "system:authenticated"}},
		{User: "somebody", Groups: []string{"system:authenticated"}},
		{User: "system:anonymous", Groups: []string{"system:unauthenticated"}},
	} {
		base := e.Testbed.Contract.BaseSecret.Name
		if !c.mayRead(ctx, who, e.BaseSecretNamespace(e.Namespace), base) && c.mayRead(ctx, who, e.Namespace, secret.Name) {
			e.Failf("%s may read Secret %s, and not the base Secret", who.User, secret.Name)
		}
	}
	e.Evidence("seen", "Secret "+secret.Name+" is whole, points at the PVC's own repository and is read by nobody who may not read the base Secret", nil)
}

func (c *Claim) mayRead(ctx context.Context, who authorizationv1.SubjectAccessReviewSpec, namespace, secret string) bool {
	who.ResourceAttributes = &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Version: "v1", Resource: "secrets", Name: secret}
	review := &authorizationv1.SubjectAccessReview{Spec: who}
	c.env().Must(c.env().API.Create(ctx, review))
	return review.Status.Allowed
}

// tokens are the credentials that no request of Kyverno's to S3 may carry.
var tokens = []string{gateway.AuthBearer, gateway.AuthBasic, gateway.AuthOther}

// RequestsSoFar is where a window of S3's requests begins that begins now.
func (c *Claims) RequestsSoFar(ctx context.Context) (since int64) {
	page, err := c.env.Gateway.Records(ctx, 1<<62, "")
	c.env.Must(err)
	return page.LastSeq
}

// NoTokenSent fails the spec where a request to S3 since then, of this or any other spec, carried a token. There must be one of
// Kyverno's about each of the PVCs.
func (c *Claims) NoTokenSent(ctx context.Context, since int64, pvcs ...string) {
	e := c.env
	page, err := e.Gateway.Records(ctx, since, "")
	e.Must(err)
	asked := map[string]int{}
	for _, r := range page.Records {
		if r.To == "" && slices.Contains(tokens, r.Auth) { // what the oracle is sent is between it and Kyverno
			e.Failf("%s %s from %s carried %s credentials: a Kubernetes token for S3's log", r.Method, r.Path, r.Client, r.Auth)
		}
		for _, pvc := range pvcs {
			if repository.IsQuestion(r, c.repos, pvc) {
				asked[pvc]++
			}
		}
	}
	if page.Dropped > 0 {
		e.Unknownf("the gateway has forgotten %d requests: one of them may have carried a token", page.Dropped)
	}
	for _, pvc := range pvcs {
		if asked[pvc] == 0 {
			e.Unknownf("no request of Kyverno's to %s for PVC %s was seen", e.Testbed.Asked(), pvc)
		}
	}
	e.Evidence("s3", fmt.Sprintf("of %d requests to S3 none carried a token; Kyverno's were, by PVC: %v", len(page.Records), asked), nil)
}
