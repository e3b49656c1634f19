// Package objectstore runs the S3 side of a stack: a real S3 server in a container, and in front of it, at the address
// that the policy names, the fault gateway. The address exists only in the run's own network. The two share one network
// namespace: what the gateway passes on goes over the loopback interface, which costs half of what a bridge does.
package objectstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/timing"
)

const controlPort = "9901/tcp"

// Credentials are random for every run.
type Credentials struct {
	AccessKey      string `json:"accessKey"`
	SecretKey      string `json:"secretKey"`
	ResticPassword string `json:"resticPassword"`
	GatewayToken   string `json:"gatewayToken"`
}

// NewCredentials draws fresh ones.
func NewCredentials() Credentials {
	return Credentials{AccessKey: "AK" + rand.Text()[:18], SecretKey: rand.Text() + rand.Text()[:14], ResticPassword: rand.Text(), GatewayToken: rand.Text()}
}

// Secrets lists the values that must appear in no log or artifact.
func (c Credentials) Secrets() []string {
	return []string{c.AccessKey, c.SecretKey, c.ResticPassword, c.GatewayToken}
}

// Options describe the object store of one run.
type Options struct {
	Network      string // the Docker network, which must exist
	Labels       map[string]string
	NamePrefix   string // of the containers
	Server       *stack.ObjectStore
	ServerImage  string // the engine's reference
	GatewayImage string
	Endpoint     endpoint.Endpoint
	Certificates *authority.Certificates // of an endpoint that is https
	Bucket       string
	Credentials  Credentials
}

// Handle is what is needed to use the object store from another process.
type Handle struct {
	Containers []string `json:"containers"` // by name: their logs are the access log and the gateway's records
	Server     string   `json:"server"`     // host:port of the S3 server itself, on this host's loopback
	Control    string   `json:"control"`    // URL of the gateway's control API, on this host's loopback
	GatewayIP  string   `json:"gatewayIP"`  // the gateway's address in the run's network
	Bucket     string   `json:"bucket"`
	// Dial is how the server is reached where it cannot be from here; nil: it can.
	Dial func(ctx context.Context, network, address string) (net.Conn, error) `json:"-"`
	// Wrap has every request to the server go through what it makes of the transport; nil: none does.
	Wrap func(http.RoundTripper) http.RoundTripper `json:"-"`

	once   sync.Once
	shared *http.Transport // of all clients, with Dial
}

// Start starts the S3 server and the gateway and makes the bucket. On failure what was started is left to the run's
// clean-up by label.
func Start(ctx context.Context, o Options) (*Handle, error) {
	tclog.SetDefault(tclog.NewNoopLogger()) // its chatter is not our progress
	gatewayName, serverName := o.NamePrefix+"-gateway", o.NamePrefix+"-s3"
	port := strconv.Itoa(serverPort(o.Endpoint.Addr.Port()))
	s3Port := port + "/tcp"
	published := []string{controlPort, s3Port}
	gatewayEnv, gatewayArgs, err := o.gateway(port)
	if err != nil {
		return nil, err
	}
	gateway, err := start(ctx, testcontainers.ContainerRequest{
		Image:          o.GatewayImage,
		Name:           gatewayName,
		Env:            gatewayEnv,
		Cmd:            gatewayArgs,
		ExposedPorts:   published,
		Networks:       []string{o.Network},
		NetworkAliases: map[string][]string{o.Network: {gatewayName}},
		WaitingFor:     wait.ForListeningPort(controlPort).SkipInternalCheck().WithStartupTimeout(timing.Setup.S3).WithPollInterval(50 * time.Millisecond),
	}, o, func(c *container.HostConfig) {
		c.CapAdd = []string{"NET_ADMIN"}
		c.PortBindings = network.PortMap{}
		for _, port := range published {
			c.PortBindings[network.MustParsePort(port)] = []network.PortBinding{{HostIP: netip.MustParseAddr("127.0.0.1")}}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("fault gateway: %w", err)
	}
	handle := &Handle{Containers: []string{serverName, gatewayName}}
	if handle.Control, err = onLoopback(ctx, gateway, controlPort, "http"); err != nil {
		return nil, err
	}
	if handle.Server, err = onLoopback(ctx, gateway, s3Port, ""); err != nil {
		return nil, err
	}
	if handle.GatewayIP, err = gateway.ContainerIP(ctx); err != nil {
		return nil, err
	}
	env := map[string]string{o.Server.AccessKeyEnv: o.Credentials.AccessKey, o.Server.SecretKeyEnv: o.Credentials.SecretKey}
	maps.Copy(env, o.Server.Env)
	server, err := start(ctx, testcontainers.ContainerRequest{Image: o.ServerImage, Name: serverName, Env: env, Cmd: o.Server.ArgsFor(port)}, o,
		func(c *container.HostConfig) {
			c.NetworkMode = container.NetworkMode("container:" + gateway.GetContainerID())
		})
	if err != nil {
		return nil, fmt.Errorf("S3 server: %w", err)
	}
	if err := handle.awaitServer(ctx, server); err != nil {
		return nil, fmt.Errorf("S3 server: %w", err)
	}
	return handle, handle.UseBucket(ctx, o.Credentials, o.Bucket)
}

// gateway is how the gateway is started before an S3 server at this port.
func (o Options) gateway(port string) (env map[string]string, args []string, err error) {
	env = map[string]string{"GATEWAY_TOKEN": o.Credentials.GatewayToken}
	args = []string{"--listen", o.Endpoint.Addr.String(), "--add-address", "--control", ":9901", "--upstream", "http://" + net.JoinHostPort("127.0.0.1", port), "--endpoint", o.Endpoint.URL}
	if o.Endpoint.Name != "" {
		args = append(args, "--name", o.Endpoint.Name)
	}
	if o.Certificates != nil {
		raw, err := json.Marshal(o.Certificates)
		if err != nil {
			return nil, nil, err
		}
		env["GATEWAY_CERTIFICATES"] = string(raw)
	}
	return env, args, nil
}

// serverPort is where the S3 server listens: not where the gateway does, with which it shares its addresses.
func serverPort(endpoint uint16) int {
	const usual = 7070
	if endpoint == usual {
		return usual + 1
	}
	return usual
}

// onLoopback is where a container's port is published.
func onLoopback(ctx context.Context, c testcontainers.Container, port, scheme string) (string, error) {
	at, err := c.PortEndpoint(ctx, port, scheme)
	return strings.Replace(at, "localhost", "127.0.0.1", 1), err
}

// awaitServer returns when the S3 server answers anything: that its port is published says nothing, it is the gateway's.
func (h *Handle) awaitServer(ctx context.Context, server testcontainers.Container) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	var ended error
	err := retryUntil(ctx, timing.Setup.S3, func() error {
		res, err := client.Get("http://" + h.Server)
		if err == nil {
			return res.Body.Close()
		}
		if state, stateErr := server.State(ctx); stateErr == nil && !state.Running {
			ended = fmt.Errorf("it has ended with %d; its log is in the artifacts", state.ExitCode)
			return nil
		}
		return err
	})
	return errors.Join(err, ended)
}

// start starts a container of the run.
func start(ctx context.Context, request testcontainers.ContainerRequest, o Options, host func(*container.HostConfig)) (testcontainers.Container, error) {
	request.Labels = o.Labels
	request.HostConfigModifier = host
	// Without a default network of ours, testcontainers makes one; were it not the bridge as well, it would attach every
	// container to it, also one that shares another's.
	provider, err := testcontainers.NewDockerProvider(testcontainers.DefaultNetwork(o.Network), testcontainers.WithDefaultBridgeNetwork(o.Network)) //nolint:staticcheck // no successor yet
	if err != nil {
		return nil, err
	}
	return provider.RunContainer(ctx, request)
}

// UseBucket makes the bucket, where it is not there yet, works in it from now on, and lets anybody read and list it: a probe
// without credentials can so tell a missing object (404) from a forbidden one (403), as the plan needs it.
func (h *Handle) UseBucket(ctx context.Context, c Credentials, bucket string) error {
	s3, err := h.S3(c)
	if err != nil {
		return err
	}
	if err := retryUntil(ctx, timing.Setup.S3, func() error {
		if exists, err := s3.BucketExists(ctx, bucket); err != nil || exists {
			return err
		}
		return s3.MakeBucket(ctx, bucket, minio.MakeBucketOptions{})
	}); err != nil {
		return fmt.Errorf("bucket %s: %w", bucket, err)
	}
	policy, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{
			map[string]any{"Effect": "Allow", "Principal": "*", "Action": []string{"s3:GetObject"}, "Resource": []string{"arn:aws:s3:::" + bucket + "/*"}},
			map[string]any{"Effect": "Allow", "Principal": "*", "Action": []string{"s3:ListBucket"}, "Resource": []string{"arn:aws:s3:::" + bucket}},
		},
	})
	if err != nil {
		return err
	}
	if err := s3.SetBucketPolicy(ctx, bucket, string(policy)); err != nil {
		return fmt.Errorf("bucket policy of %s: %w", bucket, err)
	}
	h.Bucket = bucket
	return nil
}

// Put puts an object into the bucket, whose policy lets anybody read it.
func (h *Handle) Put(ctx context.Context, c Credentials, key, content string) error {
	s3, err := h.S3(c)
	if err != nil {
		return err
	}
	if _, err := s3.PutObject(ctx, h.Bucket, key, strings.NewReader(content), int64(len(content)), minio.PutObjectOptions{}); err != nil {
		return fmt.Errorf("put %s/%s: %w", h.Bucket, key, err)
	}
	return nil
}

func retryUntil(ctx context.Context, timeout time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(timing.Setup.S3Poll):
		}
	}
}

// GatewayContainer is the name of the gateway's container.
func (h *Handle) GatewayContainer() string { return h.Containers[1] }

// transport keeps connections: with Dial, one is dear.
func (h *Handle) transport() *http.Transport {
	h.once.Do(func() {
		h.shared = &http.Transport{DialContext: h.Dial, MaxIdleConnsPerHost: 4, MaxConnsPerHost: 4, IdleConnTimeout: time.Minute, DisableCompression: true}
	})
	return h.shared
}

// Close ends the connections that are kept.
func (h *Handle) Close() {
	if h.Dial != nil {
		h.transport().CloseIdleConnections()
	}
}

// S3 is a client of the S3 server itself, past the gateway.
func (h *Handle) S3(c Credentials) (*minio.Client, error) {
	options := &minio.Options{Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Region: "us-east-1"}
	if h.Dial != nil {
		options.Transport = h.transport()
	}
	if h.Wrap != nil {
		if options.Transport == nil {
			transport, err := minio.DefaultTransport(false)
			if err != nil {
				return nil, err
			}
			options.Transport = transport
		}
		options.Transport = h.Wrap(options.Transport)
	}
	return minio.New(h.Server, options)
}

// Gateway is a client of the gateway's control API.
func (h *Handle) Gateway(c Credentials) *fault.Gateway { return fault.New(h.Control, c.GatewayToken) }

// Listing is what a prefix of the bucket holds: key → "size etag", its content addressed.
type Listing map[string]string

// List lists everything below a prefix.
func (h *Handle) List(ctx context.Context, c Credentials, prefix string) (Listing, error) {
	s3, err := h.S3(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing where this returns before it
	listing := Listing{}
	for object := range s3.ListObjects(ctx, h.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if object.Err != nil {
			return nil, fmt.Errorf("list %s/%s: %w", h.Bucket, prefix, object.Err)
		}
		listing[object.Key] = strconv.FormatInt(object.Size, 10) + " " + object.ETag
	}
	// A listing that was cut off is none: what it lacks would be taken for lost.
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list %s/%s: %w", h.Bucket, prefix, err)
	}
	return listing, nil
}

// Lost names what the earlier listing had and this one lacks or has otherwise; locks come and go and do not count.
func (l Listing) Lost(now Listing) []string {
	var lost []string
	for key, content := range l {
		if strings.Contains(key, "/locks/") {
			continue
		}
		if now[key] != content {
			lost = append(lost, key)
		}
	}
	return lost
}

// Added names what this listing lacks and the later one has.
func (l Listing) Added(now Listing) []string {
	var added []string
	for key := range now {
		if _, ok := l[key]; !ok {
			added = append(added, key)
		}
	}
	return added
}

// RemovePrefix deletes everything below a prefix. Where it cannot be listed to its end, nothing is deleted.
func (h *Handle) RemovePrefix(ctx context.Context, c Credentials, prefix string) error {
	s3, err := h.S3(c)
	if err != nil {
		return err
	}
	listing, err := h.List(ctx, c, prefix)
	if err != nil {
		return err
	}
	objects := make(chan minio.ObjectInfo, len(listing))
	for key := range listing {
		objects <- minio.ObjectInfo{Key: key}
	}
	close(objects)
	var problems []error
	// To the end, whatever fails: whoever leaves earlier leaves a goroutine behind.
	for failure := range s3.RemoveObjects(ctx, h.Bucket, objects, minio.RemoveObjectsOptions{}) {
		problems = append(problems, fmt.Errorf("remove %s/%s: %w", h.Bucket, failure.ObjectName, failure.Err))
	}
	return errors.Join(append(problems, ctx.Err())...)
}
