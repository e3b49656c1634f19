package app

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/smart-restore/conformance/harness/workload/dataset"
)

func TestWhatAnAppFindsIsTheBackup(t *testing.T) {
	file := func(path, content string) dataset.Entry {
		sum := sha256.Sum256([]byte(content))
		return dataset.Entry{Path: path, Type: dataset.TypeFile, SHA256: hex.EncodeToString(sum[:])}
	}
	for name, c := range map[string]struct {
		found []dataset.Entry
		want  string
	}{
		"it":                {[]dataset.Entry{file(dataset.SentinelName, "good")}, ""},
		"a later one":       {[]dataset.Entry{file(dataset.SentinelName, "later")}, ""},
		"nothing":           {nil, "an empty volume"},
		"another content":   {[]dataset.Entry{file(dataset.SentinelName, "half")}, "a " + dataset.SentinelName + " with another content"},
		"something else":    {[]dataset.Entry{file("x", "good")}, "x"},
		"something besides": {[]dataset.Entry{file(dataset.SentinelName, "good"), file("x", "")}, dataset.SentinelName + ", x"},
	} {
		if got := notTheBackup(dataset.Manifest{Entries: c.found}, []string{"good", "later"}); got != c.want {
			t.Errorf("%s: got %q, wanted %q", name, got, c.want)
		}
	}
}
