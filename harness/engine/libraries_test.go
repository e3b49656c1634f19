package engine

import (
	"os"
	"testing"
)

func TestTellLibrariesTakesOnlyTheVariablesOfLibraries(t *testing.T) {
	t.Setenv("FOCUS", "as it was")
	t.Setenv("KIND_EXPERIMENTAL_DOCKER_NETWORK", "")
	if err := TellLibraries(map[string]string{"KIND_EXPERIMENTAL_DOCKER_NETWORK": "ours"}); err != nil || os.Getenv("KIND_EXPERIMENTAL_DOCKER_NETWORK") != "ours" {
		t.Errorf("%v, and it is %q", err, os.Getenv("KIND_EXPERIMENTAL_DOCKER_NETWORK"))
	}
	if err := TellLibraries(map[string]string{"FOCUS": ""}); err == nil || os.Getenv("FOCUS") != "as it was" {
		t.Errorf("%v, and FOCUS is %q", err, os.Getenv("FOCUS"))
	}
}
