package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Trust is the CA of the endpoint's certificate, and who trusts it.
type Trust struct {
	CA string // PEM; empty: the endpoint is http
	// ByImages says that it is in the trust store of every container, as if it had been added to every image. Else whoever is to
	// trust it is told of CAFile, or is given the certificate by the policy.
	ByImages bool
}

const (
	trustFolder = "/etc/smart-restore" // on nodes and in containers
	caName      = "ca.crt"

	// CAFile is where every container has the CA's certificate.
	CAFile = trustFolder + "/" + caName
	// trusted is one more file in the folder that Go's programs and OpenSSL's look into, beside what an image has there.
	trusted = "/etc/ssl/certs/smart-restore-run-ca.pem"
)

// trustFiles are what each node is given of this host, path there → path here: the CA's certificate, and containerd's base for
// containers with that in it. So it is in the containers of whatever image, those of pods that a policy or VolSync makes too, and no
// image and no manifest is changed.
func trustFiles(fixtures fs.FS, o Options) (map[string]string, error) {
	if o.Trust.CA == "" {
		return nil, nil
	}
	text, err := fs.ReadFile(fixtures, "node/cri-base.json")
	if err != nil {
		return nil, err
	}
	var base map[string]any
	if err := json.Unmarshal(text, &base); err != nil {
		return nil, fmt.Errorf("node/cri-base.json: %w", err)
	}
	mounts, ok := base["mounts"].([]any)
	if !ok {
		return nil, errors.New("node/cri-base.json: want a list of mounts, found none")
	}
	places := []string{CAFile}
	if o.Trust.ByImages {
		places = append(places, trusted)
	}
	for _, place := range places {
		mounts = append(mounts, map[string]any{"destination": place, "type": "bind", "source": CAFile, "options": []string{"rbind", "ro"}})
	}
	base["mounts"] = mounts
	raw, err := json.MarshalIndent(base, "", "  ")
	if err != nil {
		return nil, err
	}
	folder, file := filepath.Join(o.StateDir, "trust"), filepath.Join(o.StateDir, "cri-base.json")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	// Read by containers of any user.
	if err := errors.Join(os.WriteFile(filepath.Join(folder, caName), []byte(o.Trust.CA), 0o644), os.WriteFile(file, raw, 0o644)); err != nil {
		return nil, err
	}
	return map[string]string{trustFolder: folder, "/etc/containerd/cri-base.json": file}, nil
}
