package repository

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// lockAge is how old OldLock makes a lock: older than what restic unlock takes for stale, which is half an hour.
const lockAge = 40 * time.Minute

// Killed is what left a lock behind.
type Killed struct {
	what      string
	exclusive bool // it lets nobody else in
}

// What can be killed.
var (
	KilledBackup = Killed{what: "backup"} // as of a restore: both share a repository
	KilledPrune  = Killed{what: "prune", exclusive: true}
)

// OldLock leaves a lock in a PVC's repository, as of what was killed on another machine a while ago. It is StaleLock's, with
// an earlier time: restic dates locks by its machine's clock, and has no option for it.
func (r *Repositories) OldLock(ctx context.Context, pvc string, killed Killed) {
	r.StaleLock(ctx, pvc)
	r.age(ctx, pvc, killed.what, func(lock map[string]any) bool {
		lock["exclusive"] = killed.exclusive
		return true
	})
}

// HalfAnHourLater makes the locks of these pods in a PVC's repository as old as they would be then. Other locks stay as they are: who made
// them may be at work.
func (r *Repositories) HalfAnHourLater(ctx context.Context, pvc string, pods ...string) {
	aged := r.age(ctx, pvc, "mover", func(lock map[string]any) bool { return lockOf(lock, pods) })
	r.env.Step("half an hour later: %d locks of movers that were killed are in the repository of PVC %s", aged, pvc)
}

// lockOf says whether a lock is of one of these pods: restic writes the host's name into it, which is the pod's, cut where it is too long.
func lockOf(lock map[string]any, pods []string) bool {
	host, _ := lock["hostname"].(string)
	return host != "" && slices.ContainsFunc(pods, func(pod string) bool {
		return host == pod || len(host) > mostHostname-2 && strings.HasPrefix(pod, host)
	})
}

// mostHostname is how long the name of a host may be.
const mostHostname = 63

// age dates those of a repository's locks back that change wants, as it has changed them, and says how many.
func (r *Repositories) age(ctx context.Context, pvc, killed string, change func(lock map[string]any) bool) (aged int) {
	e := r.env
	var key masterKey
	r.read(ctx, pvc, &key, "cat", "masterkey")
	store, credentials := e.Testbed.Store, e.Testbed.Credentials
	for object := range r.Listing(ctx, pvc) {
		_, id, isLock := strings.Cut(object, "/locks/")
		if !isLock {
			continue
		}
		var lock map[string]any
		result, err := r.run(ctx, pvc, "cat", "lock", id)
		if _, there := r.Listing(ctx, pvc)[object]; err == nil && result.ExitCode != 0 && !there {
			continue // whoever made it has ended
		}
		e.Must(succeeded(result, err))
		e.Must(json.Unmarshal(result.Stdout, &lock))
		if !change(lock) {
			continue
		}
		lock["time"] = e.Now().Add(-lockAge).Format(time.RFC3339Nano)
		plain, err := json.Marshal(lock)
		e.Must(err)
		sealed, err := key.seal(plain)
		e.Must(err)
		sum := sha256.Sum256(sealed)
		older := hex.EncodeToString(sum[:])
		e.Do(ctx, func(ctx context.Context) error {
			return store.Put(ctx, credentials, r.Prefix(pvc)+"locks/"+older, string(sealed))
		})
		e.Do(ctx, func(ctx context.Context) error { return store.RemovePrefix(ctx, credentials, object) })
		var back struct {
			Time      time.Time
			Exclusive bool
		}
		r.read(ctx, pvc, &back, "cat", "lock", older)
		aged++
		e.Evidence("bucket", fmt.Sprintf("restic reads a lock of a killed %s, of %s, exclusive: %t, in the repository of PVC %s", killed, back.Time.UTC().Format(time.TimeOnly), back.Exclusive, pvc), nil)
	}
	return aged
}

// read has restic print something of a repository that the suite has made. That it cannot is no policy's doing.
func (r *Repositories) read(ctx context.Context, pvc string, into any, args ...string) {
	result, err := r.run(ctx, pvc, args...)
	r.env.Must(succeeded(result, err))
	r.env.Must(json.Unmarshal(result.Stdout, into))
}

// masterKey is that of a restic repository, as restic prints it.
type masterKey struct {
	MAC     struct{ K, R []byte }
	Encrypt []byte
}

// seal encrypts and signs an object as restic does: the nonce, the text by AES-256 in counter mode, and Poly1305-AES of that.
func (k masterKey) seal(plain []byte) ([]byte, error) {
	nonce := make([]byte, aes.BlockSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k.Encrypt)
	if err != nil {
		return nil, err
	}
	text := make([]byte, len(plain))
	cipher.NewCTR(block, nonce).XORKeyStream(text, plain)
	mac, err := aes.NewCipher(k.MAC.K)
	if err != nil {
		return nil, err
	}
	if len(k.MAC.R) != aes.BlockSize {
		return nil, fmt.Errorf("the key of the signature has %d bytes, wanted %d", len(k.MAC.R), aes.BlockSize)
	}
	var s [aes.BlockSize]byte
	mac.Encrypt(s[:], nonce)
	return slices.Concat(nonce, text, poly1305(text, k.MAC.R, s[:])), nil
}

// poly1305 is the authenticator of RFC 8439, section 2.5.
func poly1305(text, r, s []byte) []byte {
	number := func(littleEndian []byte) *big.Int {
		b := slices.Clone(littleEndian)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	clamped := slices.Clone(r)
	for _, i := range []int{3, 7, 11, 15} {
		clamped[i] &= 15
	}
	for _, i := range []int{4, 8, 12} {
		clamped[i] &= 252
	}
	prime := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5))
	sum, factor := new(big.Int), number(clamped)
	for block := range slices.Chunk(text, 16) {
		sum.Add(sum, number(append(slices.Clone(block), 1)))
		sum.Mod(sum.Mul(sum, factor), prime)
	}
	sum.Add(sum, number(s))
	tag := make([]byte, 16)
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 128)).FillBytes(tag)
	slices.Reverse(tag)
	return tag
}

// KeepsByTheHour fails the spec where, of the hour of the newest snapshot, more than that one is left: retention did not run. The oldest
// of all restic keeps in any case. It says something only of a policy that keeps snapshots by the hour and by nothing shorter.
func (r *Repositories) KeepsByTheHour(ctx context.Context, pvc string) {
	retain := r.env.Testbed.Contract.Retain
	if retain.Hourly == 0 || retain.Last != "" || retain.Within != "" {
		r.env.Step("the policy does not keep snapshots by the hour alone: how many are left says nothing about retention")
		return
	}
	snapshots := r.Snapshots(ctx, pvc)
	if len(snapshots) == 0 {
		r.env.Failf("there is no snapshot of PVC %s", pvc)
	}
	hour := func(s Snapshot) time.Time { return s.Time.Truncate(time.Hour) }
	newest, left := hour(snapshots[len(snapshots)-1]), 0
	for _, snapshot := range snapshots[1:] {
		if hour(snapshot).Equal(newest) {
			left++
		}
	}
	if left > 1 {
		r.env.Failf("of one hour, %d snapshots of PVC %s are left, besides the oldest of all: old ones are not removed", left, pvc)
	}
}
