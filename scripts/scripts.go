// Package scripts embeds the shell scripts, so that a binary without a checkout can run them.
package scripts

import "embed"

// Files holds the scripts by name.
//
//go:embed engine runc-shim
var Files embed.FS
