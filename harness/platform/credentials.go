package platform

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/volsync"
)

// Credentials are those of the base Secret, which are looked for where people can read who may not read Secrets: in Kyverno's own
// objects and reports, in events, in the ConfigMaps of its namespace, and in the API server's audit log.
type Credentials struct {
	env   *env.Env
	kinds []place
	read  map[string]int64 // of the audit log's files, how much there was before
}

// place is a kind of objects, in one namespace or in all.
type place struct {
	kind      schema.GroupVersionKind
	namespace string
}

// CredentialsWatched begins to look for the base Secret's credentials.
func (p *Platform) CredentialsWatched(ctx context.Context) *Credentials {
	p.needsKyverno()
	c := &Credentials{env: p.env, read: map[string]int64{}, kinds: []place{
		{schema.GroupVersionKind{Version: "v1", Kind: "Event"}, ""},
		{schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, env.KyvernoNamespace},
	}}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(customResourceDefinition)
	p.env.Do(ctx, func(ctx context.Context) error { return p.env.API.List(ctx, list) })
	for i := range list.Items {
		crd := &list.Items[i]
		group := volsync.Nested(crd, "spec", "group")
		if group != "kyverno.io" && !strings.HasSuffix(group, ".kyverno.io") && group != "wgpolicyk8s.io" && group != "openreports.io" {
			continue
		}
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		for _, version := range versions {
			if v, ok := version.(map[string]any); ok && v["storage"] == true {
				c.kinds = append(c.kinds, place{kind: schema.GroupVersionKind{Group: group, Version: fmt.Sprint(v["name"]), Kind: volsync.Nested(crd, "spec", "names", "kind")}})
			}
		}
	}
	if !slices.ContainsFunc(c.kinds, func(at place) bool { return at.kind.Kind == "UpdateRequest" }) {
		p.env.Unknownf("Kyverno's UpdateRequests cannot be looked at: there is no such kind")
	}
	files, err := c.auditFiles()
	p.env.Must(err)
	for _, file := range files {
		info, err := os.Stat(file)
		p.env.Must(err)
		c.read[file] = info.Size()
	}
	return c
}

// Stay fails the spec where, as long as Kyverno may take, one of the credentials can be read.
func (c *Credentials) Stay(ctx context.Context, when string) {
	c.env.Throughout(ctx, fmt.Sprintf("no credential to be read in %d kinds of objects nor in the audit log %s", len(c.kinds), when), 2*c.env.Times.Reaction, func(ctx context.Context) (string, error) {
		for _, at := range c.kinds {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(at.kind)
			err := c.env.API.List(ctx, list, client.InNamespace(at.namespace))
			if meta.IsNoMatchError(err) {
				continue
			}
			if err != nil {
				return "", err
			}
			for i := range list.Items {
				raw, err := json.Marshal(list.Items[i].Object)
				if err != nil {
					return "", err
				}
				if which := found(raw, c.env.Testbed.Credentials.Secrets()); which != "" {
					return fmt.Sprintf("%s %s/%s holds %s", at.kind.Kind, list.Items[i].GetNamespace(), list.Items[i].GetName(), which), nil
				}
			}
		}
		return c.inAuditLog()
	})
}

// found says in which form one of the secrets is in a text, never which; empty: none is.
func found(raw []byte, secrets []string) string {
	for _, secret := range secrets {
		switch {
		case secret == "":
		case bytes.Contains(raw, []byte(secret)):
			return "a credential of the base Secret in clear"
		case bytes.Contains(raw, []byte(base64.RawStdEncoding.EncodeToString([]byte(secret)))):
			return "a credential of the base Secret in base64"
		}
	}
	return ""
}

// auditFiles are the audit log's files. A rotated one has another name.
func (c *Credentials) auditFiles() ([]string, error) {
	log := c.env.Testbed.AuditLog
	extension := filepath.Ext(log)
	return filepath.Glob(strings.TrimSuffix(log, extension) + "*" + extension)
}

// inAuditLog says which line that was written since, of the audit log, holds a credential.
func (c *Credentials) inAuditLog() (string, error) {
	files, err := c.auditFiles()
	if err == nil && len(files) == 0 {
		err = errors.New("there is no audit log")
	}
	for _, file := range files {
		which, readErr := c.inFile(file)
		if which != "" {
			return which, nil
		}
		err = errors.Join(err, readErr)
	}
	return "", err
}

func (c *Credentials) inFile(file string) (which string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	from := c.read[file]
	if info, err := f.Stat(); err != nil || info.Size() < from { // another took its name
		from = 0
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return "", err
	}
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // the rest of a line is read with it
			c.read[file] = from
			return "", nil
		}
		if err != nil {
			return "", err
		}
		from += int64(len(line))
		if which := found(line, c.env.Testbed.Credentials.Secrets()); which != "" {
			var event struct {
				Verb      string                    `json:"verb"`
				ObjectRef struct{ Resource string } `json:"objectRef"`
			}
			_ = json.Unmarshal(line, &event) // without, it is of an unknown kind
			return fmt.Sprintf("the API server's audit log holds %s, of a request to %s %s", which, event.Verb, event.ObjectRef.Resource), nil
		}
	}
}
