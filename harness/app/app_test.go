package app

import (
	"strings"
	"testing"
)

func TestHostNamesDiffer(t *testing.T) {
	long := strings.Repeat("letters-", 7)
	seen := map[string]string{}
	for _, name := range []string{"app-data", "app-a.b", "app-a-b", "app-" + long + "1", "app-" + long + "2", strings.Repeat("x", 253)} {
		got := hostName(name)
		if other, taken := seen[got]; taken || len(got) > 63 || strings.Contains(got, ".") {
			t.Errorf("%q becomes %q, as does %q", name, got, other)
		}
		seen[got] = name
	}
}
