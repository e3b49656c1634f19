package gateway

import "embed"

// Source is this package's source. What judges policies without a cluster (package check) is compiled beside Kyverno's
// modules and plays S3 with it.
//
//go:embed *.go
var Source embed.FS
