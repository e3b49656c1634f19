package network

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bucket is an S3 server with one bucket, which anybody may read and list.
type Bucket struct {
	name string
	mu   sync.Mutex
	keys map[string][]byte
}

// NewBucket is one with nothing in it.
func NewBucket(name string) *Bucket { return &Bucket{name: name, keys: map[string][]byte{}} }

// Put puts an object into it.
func (b *Bucket) Put(key string, content []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[key] = content
}

// Add puts a restic repository of this path into it.
func (b *Bucket) Add(repository string) {
	b.Put(repository+"/config", config155)
	b.Put(repository+"/keys/0000000000000000000000000000000000000000000000000000000000000000", config155)
	b.Put(repository+"/snapshots/0000000000000000000000000000000000000000000000000000000000000000", config155)
}

// config155 stands for the 155 encrypted bytes of a restic repository's config.
var config155 = bytes.Repeat([]byte{0x9d, 0x01, 0xfe, 0x7b, 0x22}, 31)

// ServeHTTP answers as S3 does.
func (b *Bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "VERSITYGW")
	name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	b.mu.Lock()
	defer b.mu.Unlock()
	content, there := b.keys[key]
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		refuse(w, http.StatusForbidden, "AccessDenied")
	case name != b.name:
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case key == "":
		list := struct {
			XMLName  xml.Name `xml:"ListBucketResult"`
			Name     string
			Prefix   string
			KeyCount int
			Contents []struct{ Key string }
		}{Name: name, Prefix: r.URL.Query().Get("prefix")}
		for _, k := range slices.Sorted(maps.Keys(b.keys)) {
			if strings.HasPrefix(k, list.Prefix) {
				list.Contents = append(list.Contents, struct{ Key string }{k})
			}
		}
		list.KeyCount = len(list.Contents)
		w.Header().Set("Content-Type", "application/xml")
		_ = xml.NewEncoder(w).Encode(list)
	case !there:
		refuse(w, http.StatusNotFound, "NoSuchKey")
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "%s<Error><Code>%s</Code></Error>", xml.Header, code)
}
