package engine

import (
	"fmt"
	"os"
	"slices"
)

// librariesOnly are the variables that libraries read from this process's environment and have no option for.
// testcontainers-go reads its configuration and the docker command line of kind its engine there; kind has no other way to
// name a network.
var librariesOnly = []string{"DOCKER_HOST", "TESTCONTAINERS_RYUK_DISABLED", "TESTCONTAINERS_HOST_OVERRIDE", "KIND_EXPERIMENTAL_DOCKER_NETWORK"}

// TellLibraries sets variables that kind and testcontainers-go read. It is the only function of this program that changes
// the environment: settings travel as values, and a child process gets them by its own environment.
func TellLibraries(variables map[string]string) error {
	for name, value := range variables {
		if !slices.Contains(librariesOnly, name) {
			return fmt.Errorf("%s is not a variable of a library: pass it as a value", name)
		}
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}
