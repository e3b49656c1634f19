package scenario

import (
	"context"
	"os"

	"github.com/smart-restore/conformance/harness/replay"
)

// HistoryVariable names the file of a history of make explore's that is to be played on the cluster. Without it, there is no spec for that.
const HistoryVariable = "SMART_RESTORE_HISTORY"

// PicturesVariable says, if it is not empty, that a picture is to be taken after each of its events.
const PicturesVariable = "SMART_RESTORE_PICTURES"

// HasHistory says whether there is a history to be played.
func HasHistory() bool { return os.Getenv(HistoryVariable) != "" }

// Replay plays the history, and fails the spec where an invariant is broken.
func (s *Scenario) Replay(ctx context.Context) {
	events, err := replay.Read(os.Getenv(HistoryVariable))
	s.env.Must(err)
	places := map[string]replay.Place{}
	for i, name := range replay.Namespaces(events) {
		place := s
		if i > 0 {
			place = s.Sibling(ctx, "-"+name)
		}
		places[name] = replay.Place{Env: place.env, Claims: place.Claims, Repositories: place.Repositories, S3: place.S3, Platform: place.Platform}
	}
	if os.Getenv(PicturesVariable) != "" {
		replay.Pictures(ctx, places, events, s.env.Pictured)
		return
	}
	replay.Play(ctx, places, events)
}
