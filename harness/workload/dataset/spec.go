// Package dataset is the data that an app writes on its volume, and the manifest that says whether every byte of it
// came back.
//
// [Write] lays down a set that a [Spec] determines completely: names, contents, modes, owners, mtimes, symlinks and
// extended attributes. [Scan] reads what a volume holds into a [Manifest], [Diff] compares two of them. The manifest
// taken right after Write is the promise, the one taken after the restore is the evidence.
//
// Write and Scan need Linux; manifests can be compared anywhere.
package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"time"
)

// SentinelName is the file at the top of every data set whose content is the Spec's Seed and a newline: the shortest
// proof of whose data a volume holds.
const SentinelName = "SENTINEL"

const (
	// DefaultSmallFiles is how many small files [Default] asks for.
	DefaultSmallFiles = 300
	// DefaultLargeFileBytes is the size of the large file that [Default] asks for: more than one restic pack (16 MiB).
	DefaultLargeFileBytes = 64 << 20

	maxSmallFileBytes = 64 << 10
	maxSeedBytes      = 256
)

// ErrXattrsUnsupported is in the chain of Write's error if the volume keeps no user.* extended attributes.
var ErrXattrsUnsupported = errors.New("the volume keeps no user.* extended attributes")

// Spec determines a data set. The same Spec gives the same set, on any volume, whenever it is written. Zero values
// mean none: decode JSON over [Default] to have its values for what the JSON leaves out.
type Spec struct {
	// Seed makes the contents unique to a run or a spec: its ID, one line of at most 256 bytes.
	Seed string `json:"seed"`
	// SmallFiles is how many files of 0 B to 64 KiB are spread over nested folders.
	SmallFiles int `json:"smallFiles"`
	// LargeFileBytes is the size of the one large file; with 0 there is none.
	LargeFileBytes int64 `json:"largeFileBytes"`
	// Owners gives files, folders and symlinks to uid:gid 0:0, 1000:1000 and 2000:3000, which needs CAP_CHOWN.
	// Without it everything belongs to whoever writes.
	Owners bool `json:"owners"`
	// Xattrs puts user.* extended attributes on some files and folders, which the volume must support.
	Xattrs bool `json:"xattrs"`
	// ForeignSetgid gives the setgid folder to group 3000 instead of 0. It needs Owners. It is a choice because
	// VolSync's privileged movers run as 0:0 without CAP_FSETID: there the kernel silently drops the bit from a folder
	// whose group the mover is not in, unless moverSecurityContext adds that group.
	ForeignSetgid bool `json:"foreignSetgid"`
}

// Arguments are the agent's, to have it write the data set below root.
func (s Spec) Arguments(root string) []string {
	return []string{"write", "--dir", root, "--seed", s.Seed, fmt.Sprintf("--small=%d", s.SmallFiles), fmt.Sprintf("--large=%d", s.LargeFileBytes),
		fmt.Sprintf("--owners=%t", s.Owners), fmt.Sprintf("--xattrs=%t", s.Xattrs), fmt.Sprintf("--foreign-setgid=%t", s.ForeignSetgid)}
}

// Default is the catalogue's data set: about 350 files of mixed sizes, one of 64 MiB, with everything that Spec can
// switch on and every restore must bring back.
func Default(seed string) Spec {
	return Spec{
		Seed:           seed,
		SmallFiles:     DefaultSmallFiles,
		LargeFileBytes: DefaultLargeFileBytes,
		Owners:         true,
		Xattrs:         true,
	}
}

// Small is a data set of a few small files, with everything else that Default has.
func Small(seed string, files int) Spec {
	spec := Default(seed)
	spec.SmallFiles, spec.LargeFileBytes = files, 0
	return spec
}

func (s Spec) validate() error {
	switch {
	case s.Seed == "":
		return errors.New("dataset: the seed is empty")
	case len(s.Seed) > maxSeedBytes:
		return fmt.Errorf("dataset: the seed has %d bytes, at most %d are allowed", len(s.Seed), maxSeedBytes)
	case strings.ContainsAny(s.Seed, "\r\n\x00"):
		return fmt.Errorf("dataset: the seed %q is not one line", s.Seed)
	case s.SmallFiles < 0:
		return fmt.Errorf("dataset: smallFiles is %d", s.SmallFiles)
	case s.LargeFileBytes < 0:
		return fmt.Errorf("dataset: largeFileBytes is %d", s.LargeFileBytes)
	case s.ForeignSetgid && !s.Owners:
		return errors.New("dataset: foreignSetgid needs owners")
	}
	return nil
}

type owner struct{ uid, gid int }

var (
	rootOwner  = owner{0, 0}
	userOwner  = owner{1000, 1000}
	mixedOwner = owner{2000, 3000} // uid and gid differ, so that a mix-up shows
	owners     = []owner{rootOwner, userOwner, mixedOwner}
)

// Modes as st_mode has them, including the setuid, setgid and sticky bits.
var (
	fileModes   = []uint32{0o600, 0o640, 0o644, 0o755, 0o444}
	folderModes = []uint32{0o755, 0o750, 0o700, 0o775}
)

// item is one thing to write.
type item struct {
	path   string // relative to the root, slashes
	kind   string // one of the Type constants
	mode   uint32 // not for symlinks and hard links
	owner  owner
	size   int64             // of a file with generated content
	text   string            // a file's whole content, instead of generated
	target string            // of a symlink
	linkTo string            // the earlier file that this one is a hard link to; everything else is then that one's
	xattrs map[string]string // raw values
	mtime  time.Time
}

// epoch is when the oldest mtime lies: far enough back that no clock mistakes a restored time for a fresh one.
var epoch = time.Date(2019, time.March, 31, 1, 59, 59, 0, time.UTC)

// builder collects items, each folder before its content.
type builder struct {
	spec  Spec
	items []item
	known map[string]bool
}

func (b *builder) add(it item) {
	rng := generator(b.spec.Seed, "mtime", it.path)
	// The last three digits are never 000: microseconds are not enough to bring the time back.
	nanos := rand.New(rng).Int64N(999_999)*1000 + 1 + rand.New(rng).Int64N(999)
	// A minute and a second apart: distinct for each item.
	it.mtime = epoch.Add(time.Duration(len(b.items))*61*time.Second + time.Duration(nanos))
	b.known[it.path] = true
	b.items = append(b.items, it)
}

func (b *builder) folder(name string, mode uint32, own owner) {
	b.add(item{path: name, kind: TypeDir, mode: mode, owner: own})
}

func (b *builder) file(name string, mode uint32, own owner, size int64) {
	b.add(item{path: name, kind: TypeFile, mode: mode, owner: own, size: size})
}

func (b *builder) symlink(name, target string, own owner) {
	b.add(item{path: name, kind: TypeSymlink, owner: own, target: target})
}

// xattr puts an attribute on the last item.
func (b *builder) xattr(name, value string) {
	if !b.spec.Xattrs {
		return
	}
	last := &b.items[len(b.items)-1]
	if last.xattrs == nil {
		last.xattrs = map[string]string{}
	}
	last.xattrs[name] = value
}

// plan lists what spec asks for, each folder before its content and each file before its hard link.
func plan(spec Spec) []item {
	b := &builder{spec: spec, known: map[string]bool{}}

	b.add(item{path: SentinelName, kind: TypeFile, mode: 0o644, owner: rootOwner, text: spec.Seed + "\n"})
	b.file("empty-file", 0o640, userOwner, 0)
	b.folder("empty-folder", 0o755, mixedOwner)
	if spec.LargeFileBytes > 0 {
		b.file("large.bin", 0o640, userOwner, spec.LargeFileBytes)
	}

	b.folder("modes", 0o755, rootOwner)
	for i, mode := range []uint32{0o400, 0o444, 0o600, 0o640, 0o644, 0o664, 0o755, 0o4755} {
		b.file(fmt.Sprintf("modes/%04o", mode), mode, owners[i%len(owners)], 100)
	}
	// A folder nobody may write in must be filled before it gets its mode, by a restore too.
	b.folder("modes/read-only-folder", 0o555, userOwner)
	b.file("modes/read-only-folder/file", 0o444, userOwner, 100)
	b.folder("modes/sticky-folder", 0o1777, rootOwner)
	shared := rootOwner
	if spec.ForeignSetgid {
		shared = mixedOwner
	}
	b.folder("modes/setgid-folder", 0o2775, shared)
	// Not the group that the folder hands down.
	b.file("modes/setgid-folder/file", 0o664, userOwner, 100)

	b.folder("names", 0o755, userOwner)
	for i, name := range []string{
		"Überraschung – 雪 .txt",
		" spaces at both ends ",
		"-rf",
		".hidden",
		"line\nbreak",
		`"quotes' $HOME \ *?[a]`,
		strings.Repeat("n", 255), // NAME_MAX
	} {
		b.file("names/"+name, 0o644, owners[i%len(owners)], int64(i))
	}
	b.folder("names/фолдер 🗂", 0o750, mixedOwner)
	b.file("names/фолдер 🗂/naïve café", 0o600, mixedOwner, 1000)

	deep := "deep"
	b.folder(deep, 0o755, rootOwner)
	for level := range 15 {
		deep = path.Join(deep, fmt.Sprint(level))
		b.folder(deep, folderModes[level%len(folderModes)], owners[level%len(owners)])
	}
	b.file(deep+"/leaf", 0o644, rootOwner, 1000)

	b.folder("links", 0o755, rootOwner)
	b.symlink("links/relative", "../"+SentinelName, rootOwner)
	b.symlink("links/folder", "../deep/0", userOwner)
	b.symlink("links/dangling", "../no/such – file", mixedOwner)
	b.symlink("links/absolute", "/no/such/file", mixedOwner)
	b.file("links/hard-a", 0o640, mixedOwner, 5000)
	b.add(item{path: "links/hard-b", kind: TypeFile, linkTo: "links/hard-a"})

	b.folder("xattrs", 0o755, userOwner)
	b.xattr("user.folder", "on a folder")
	b.file("xattrs/text", 0o644, rootOwner, 100)
	b.xattr("user.größe", "42 µm")
	b.xattr("user.mime_type", "text/plain")
	b.file("xattrs/binary", 0o600, userOwner, 100)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	b.xattr("user.binary", string(every))
	b.file("xattrs/long", 0o640, mixedOwner, 100)
	// Too long for an ext4 inode, so it has a block of its own; that block has 1 KiB on a volume below 512 MiB.
	b.xattr("user.long", strings.Repeat("0123456789abcdef", 32))
	b.file("xattrs/empty-value", 0o640, mixedOwner, 0)
	b.xattr("user.empty", "")

	b.folder("tree", 0o755, userOwner)
	for i := range spec.SmallFiles {
		name := path.Join(b.smallFolder(i), fmt.Sprintf("file-%04d", i))
		b.file(name, fileModes[i%len(fileModes)], owners[i%len(owners)], smallSize(spec.Seed, i))
		if i%16 == 0 && b.items[len(b.items)-1].mode&0o200 != 0 {
			// Only the owner's write permission allows setting it, where the writer is not root.
			b.xattr("user.index", fmt.Sprint(i))
		}
	}
	return b.items
}

// smallFolder adds, if need be, and names the folder of the i-th small file, one to four levels below tree.
func (b *builder) smallFolder(i int) string {
	name := fmt.Sprintf("tree/branch-%d", i%5)
	for level := 0; ; level++ {
		if !b.known[name] {
			n := len(b.items)
			b.folder(name, folderModes[n%len(folderModes)], owners[n%len(owners)])
		}
		if level == i%4 {
			return name
		}
		name = path.Join(name, fmt.Sprintf("twig-%d", (i/5)%3))
	}
}

// smallSize is the size in bytes of the i-th small file: first those at which block sizes and buffers break, then
// as many of a few bytes as of many kilobytes.
func smallSize(seed string, i int) int64 {
	edges := []int64{0, 1, 511, 512, 513, 4095, 4096, 4097, 32 << 10, maxSmallFileBytes - 1, maxSmallFileBytes}
	if i < len(edges) {
		return edges[i]
	}
	rng := rand.New(generator(seed, "size", fmt.Sprint(i)))
	return rng.Int64N(1<<rng.IntN(17) + 1)
}

// generator is a stream of bytes that depends on the seed and the path, and on nothing else.
func generator(seed, purpose, name string) *rand.ChaCha8 {
	h := sha256.New()
	for _, part := range []string{seed, purpose, name} {
		// Prefixed with its length, so that no two triples give the same stream.
		_ = binary.Write(h, binary.BigEndian, uint32(len(part)))
		h.Write([]byte(part))
	}
	return rand.NewChaCha8([32]byte(h.Sum(nil)))
}
