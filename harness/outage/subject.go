package outage

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/smart-restore/conformance/harness/endpoint"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// signatureLife is how long the URL of a signed probe is good for.
const signatureLife = 10 * time.Minute

// Subject is whose S3 an outage is of.
type Subject struct {
	Endpoint endpoint.Endpoint
	Bucket   string
	// NamespacePrefix and RepositoryPrefix begin the keys of all that is a namespace's, and of one PVC's repository.
	NamespacePrefix, RepositoryPrefix string
	// Marker is the key of the object that the policy expects in the bucket; empty: none.
	Marker string
	// Oracle is the URL of a question to the oracle about the PVC; empty: there is none.
	Oracle               string
	AccessKey, SecretKey string // the movers'
	// Clients are the addresses of Kyverno's pods and of the observer.
	Clients []netip.Addr
}

// Path is the path of a key's URL.
func (s Subject) Path(key string) string { return "/" + s.Bucket + "/" + key }

// Rules are what the gateway is told for an outage of this subject.
func (s Subject) Rules(f Fault, id string) []gateway.Rule {
	paths := Paths{Namespace: s.Path(s.NamespacePrefix), Repository: s.Path(s.RepositoryPrefix)}
	if s.Marker != "" {
		paths.Marker = s.Path(s.Marker)
	}
	for _, client := range s.Clients {
		paths.Clients = append(paths.Clients, client.String())
	}
	return f.Rules(id, paths)
}

// URL is where a target is, and for how many minutes it can be probed there where it is signed: signatureLife.
func (s Subject) URL(ctx context.Context, target Target) (string, error) {
	key := s.RepositoryPrefix + "config"
	switch target {
	case TargetConfig:
		return s.Endpoint.URL + s.Path(key), nil
	case TargetListing:
		return s.Endpoint.URL + s.Path("?list-type=2&prefix="+s.NamespacePrefix), nil
	case TargetMarker:
		return s.Endpoint.URL + s.Path(s.Marker), nil
	case TargetOracle:
		return s.Oracle, nil
	case TargetSigned:
		return s.signed(ctx, target, key, nil)
	case TargetSnapshots, TargetHistory:
		return s.signed(ctx, target, "", url.Values{"list-type": {"2"}, "prefix": {s.RepositoryPrefix + "snapshots/"}})
	case TargetWrite:
		return s.signed(ctx, target, s.NamespacePrefix+written, nil)
	}
	return "", fmt.Errorf("no probe has the target %q", target)
}

// written is the end of the key that a probe writes to: of no PVC's repository, which would be below a folder of its own.
const written = "written-by-a-probe"

// signed is a URL with the movers' credentials in it.
func (s Subject) signed(ctx context.Context, target Target, key string, query url.Values) (string, error) {
	// The host is part of what is signed, so the client must be the endpoint's. With a region it asks nobody.
	s3, err := minio.New(s.Endpoint.Host(), &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: "us-east-1", Secure: s.Endpoint.HTTPS()})
	if err != nil {
		return "", err
	}
	signed, err := s3.Presign(ctx, target.Method(), s.Bucket, key, signatureLife, query)
	if err != nil {
		return "", err
	}
	return signed.String(), nil
}
