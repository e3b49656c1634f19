package objectstore

import (
	"slices"
	"testing"
)

func TestListingsTellWhatWasLostAndAdded(t *testing.T) {
	before := Listing{"a/config": "1 x", "a/data/1": "2 y", "a/locks/1": "3 z"}
	for name, c := range map[string]struct {
		now         Listing
		lost, added []string
	}{
		"the same":      {Listing{"a/config": "1 x", "a/data/1": "2 y", "a/locks/1": "3 z"}, nil, nil},
		"a lock is off": {Listing{"a/config": "1 x", "a/data/1": "2 y"}, nil, nil},
		"one is gone":   {Listing{"a/config": "1 x"}, []string{"a/data/1"}, nil},
		"one changed":   {Listing{"a/config": "1 other", "a/data/1": "2 y"}, []string{"a/config"}, nil},
		"one is new":    {Listing{"a/config": "1 x", "a/data/1": "2 y", "a/data/2": "1 n"}, nil, []string{"a/data/2"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := before.Lost(c.now); !slices.Equal(got, c.lost) {
				t.Errorf("lost %v, wanted %v", got, c.lost)
			}
			if got := before.Added(c.now); !slices.Equal(got, c.added) {
				t.Errorf("added %v, wanted %v", got, c.added)
			}
		})
	}
}

func TestCredentialsAreFreshEachTimeAndAllSecret(t *testing.T) {
	one, two := NewCredentials(), NewCredentials()
	for i, secret := range one.Secrets() {
		if len(secret) < 20 || slices.Contains(two.Secrets(), secret) {
			t.Errorf("secret %d is short or was drawn twice: %d characters", i, len(secret))
		}
	}
}

func TestTheServerIsNotWhereTheGatewayIs(t *testing.T) {
	for endpoint, want := range map[uint16]int{9000: 7070, 80: 7070, 7070: 7071} {
		if got := serverPort(endpoint); got != want {
			t.Errorf("endpoint at port %d: want the server at %d, found %d", endpoint, want, got)
		}
	}
}
