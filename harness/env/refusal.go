package env

import (
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// webhook finds the name of the admission webhook that an error is about.
var webhook = regexp.MustCompile(`(?:admission|failed calling) webhook "([^"]+)"`)

// byAnother says whether an error is that of an admission webhook which is not Kyverno's: no policy under test is behind it.
func byAnother(err error) bool {
	found := webhook.FindStringSubmatch(err.Error())
	return found != nil && !strings.Contains(found[1], "kyverno")
}

// Denied says whether an error is the "no" of one of Kyverno's webhooks, or of a ValidatingAdmissionPolicy, which Kyverno makes of
// some policies.
func Denied(err error) bool {
	if err == nil || byAnother(err) {
		return false
	}
	said := err.Error()
	return strings.Contains(said, "denied the request") || strings.Contains(said, "ValidatingAdmissionPolicy") && strings.Contains(said, "denied request")
}

// RefusedByWebhook says whether one of Kyverno's webhooks said no, or could not be asked and must be.
func RefusedByWebhook(err error) bool {
	return Denied(err) || err != nil && !byAnother(err) && webhook.MatchString(err.Error())
}

// Refused says whether an error is a "no" that the policy is to answer for: one of Kyverno's webhooks said it or could not be asked
// and must be, or the object, as the policy changed it, is not valid. Any other error is blindness: the request may not have
// arrived, another webhook may have refused it, or the suite may lack a right.
func Refused(err error) bool {
	return RefusedByWebhook(err) || apierrors.IsInvalid(err) && !byAnother(err)
}

// NotAllowed says whether an error is a clear "no" to a change, whoever said it. That a webhook could not be asked is none.
func NotAllowed(err error) bool {
	if err == nil || strings.Contains(err.Error(), "failed calling webhook") {
		return false
	}
	return Denied(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err)
}
