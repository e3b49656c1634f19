package repository

import (
	"encoding/hex"
	"testing"
)

// The vector of RFC 8439, section 2.5.2.
func TestPoly1305(t *testing.T) {
	key, err := hex.DecodeString("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(poly1305([]byte("Cryptographic Forum Research Group"), key[:16], key[16:])); got != "a8061dc1305136c6c22b8baf0c0127a9" {
		t.Error(got)
	}
}

func TestLocksOfPods(t *testing.T) {
	long := "volsync-src-a-name-that-is-longer-than-what-a-host-may-be-called-x1y2z"
	for name, c := range map[string]struct {
		lock map[string]any
		want bool
	}{
		"its own":       {map[string]any{"hostname": "volsync-src-data-x1y2z"}, true},
		"cut":           {map[string]any{"hostname": long[:63]}, true},
		"another's":     {map[string]any{"hostname": "volsync-src-data-other"}, false},
		"of a namesake": {map[string]any{"hostname": "volsync-src-data"}, false},
		"of nobody":     {map[string]any{}, false},
	} {
		if got := lockOf(c.lock, []string{"volsync-src-data-x1y2z", long}); got != c.want {
			t.Errorf("%s: %t, wanted %t", name, got, c.want)
		}
	}
}
