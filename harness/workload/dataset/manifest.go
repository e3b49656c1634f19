package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The values of Entry.Type.
const (
	TypeFile    = "file"
	TypeDir     = "dir"
	TypeSymlink = "symlink"
	TypeOther   = "other" // a device, a FIFO or a socket
)

// Manifest is what a volume held when it was scanned.
type Manifest struct {
	// Seed is the first line of the SENTINEL file at the top; empty if there is none.
	Seed string `json:"seed"`
	// Entries is everything below the root, sorted by Path.
	Entries []Entry `json:"entries"`
}

// Entry is one file, folder, symlink or other inode. What a file system or a restore may change without losing
// anything is not in it: inode numbers, atime, ctime, the size of a folder, the mode of a symlink.
type Entry struct {
	// Path is relative to the root, with slashes. A name that is not UTF-8 stands here as a Go string literal.
	Path string `json:"path"`
	Type string `json:"type"`
	// Mode is the permission bits with setuid, setgid and sticky in octal, such as "2775"; empty for a symlink.
	Mode string `json:"mode,omitempty"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	// Size is in bytes, and only of files.
	Size int64 `json:"size"`
	// MTime is RFC 3339 in UTC with as many digits of the second as the file system keeps. It is the symlink's own.
	MTime string `json:"mtime"`
	// Target is what a symlink says, existing or not.
	Target string `json:"target,omitempty"`
	// SHA256 is of a file's content, in hex.
	SHA256 string `json:"sha256,omitempty"`
	// HardLink is the Path of the first entry that is the same file as this one.
	HardLink string `json:"hardLink,omitempty"`
	// Xattrs is the user.* extended attributes; values are in standard base64.
	Xattrs map[string]string `json:"xattrs,omitempty"`
}

// Digest is the SHA-256, in hex, of the entries' canonical JSON: two volumes with equal digests hold the same data.
// The order of the entries does not matter.
func (m Manifest) Digest() string {
	entries := slices.Clone(m.Entries)
	slices.SortFunc(entries, byPath)
	if entries == nil {
		entries = []Entry{}
	}
	// encoding/json writes fields in order and sorts the keys of maps.
	raw, err := json.Marshal(entries)
	if err != nil {
		panic(fmt.Sprintf("dataset: an Entry cannot fail to marshal: %v", err))
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Totals is the number of files and the sum of their sizes in bytes. A file with two names counts twice.
func (m Manifest) Totals() (files int, bytes int64) {
	for _, e := range m.Entries {
		if e.Type == TypeFile {
			files++
			bytes += e.Size
		}
	}
	return files, bytes
}

func byPath(a, b Entry) int { return strings.Compare(a.Path, b.Path) }
