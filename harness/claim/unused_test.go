package claim

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestCredentialsThatAreLeft(t *testing.T) {
	secret := func(name, repository string, owners ...types.UID) corev1.Secret {
		s := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"RESTIC_REPOSITORY": []byte(repository)}}
		for _, uid := range owners {
			s.OwnerReferences = append(s.OwnerReferences, metav1.OwnerReference{Kind: "PersistentVolumeClaim", UID: uid})
		}
		return s
	}
	for name, c := range map[string]struct {
		secret corev1.Secret
		want   string
	}{
		"used":                  {secret("used", "ours"), ""},
		"of another repository": {secret("left", "another"), ""},
		"of none":               {corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "base"}}, ""},
		"goes with the PVC":     {secret("left", "ours", "living"), ""},
		"of nobody":             {secret("left", "ours"), "left"},
		"of an earlier PVC":     {secret("left", "ours", "earlier"), "left"},
	} {
		if got := unusedCredentials([]corev1.Secret{c.secret}, "ours", "living", map[string]bool{"used": true}); got != c.want {
			t.Errorf("%s: got %q, wanted %q", name, got, c.want)
		}
	}
}
