// Package subnet has the address ranges of the test's cluster. fixtures/cluster/kind.yaml has them, too, and is held to them by
// the tests of harness/cluster.
package subnet

// The ranges of pods and services.
const (
	Pods     = "10.244.0.0/16"
	Services = "10.96.0.0/16"
)

// APIServer is the address of the service of the API server: the first of Services.
const APIServer = "10.96.0.1"
