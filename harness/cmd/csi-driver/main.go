//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/api/resource"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	driverName  = "csi.smart-restore.io"
	topologyKey = "topology.csi.smart-restore.io/node"
	kubelet     = "/var/lib/kubelet"
)

// version is of no use to anybody but must be there: the spec wants one.
const version = "1"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	var usage usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "csi-driver:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "csi-driver:", err)
		os.Exit(1)
	}
}

// usageError is an error of whoever typed the command.
type usageError struct{ error }

// run serves until ctx ends.
func run(ctx context.Context, args []string, status io.Writer) error {
	flags := flag.NewFlagSet("csi-driver", flag.ContinueOnError)
	flags.SetOutput(status)
	node := flags.String("node", "", "this node's `name`")
	root := flags.String("root", "/var/csi-smart-restore", "the `folder` of volumes and snapshots, the same on the node as here")
	socket := flags.String("socket", filepath.Join(kubelet, "plugins", driverName, "csi.sock"), "where to serve CSI: a `path`")
	registry := flags.String("registration", filepath.Join(kubelet, "plugins_registry", driverName+"-reg.sock"),
		"where to serve kubelet's plugin registration: a `path`; empty for not at all")
	kubeletSocket := flags.String("kubelet-socket", "", "the `path` of --socket as kubelet sees it; empty for the same path")
	capacity := flags.String("capacity", "1Ti", "the `size` that all volumes and snapshots may have together; ROOT/capacity overrides it")
	maxVolumes := flags.Int64("max-volumes", 0, "the `number` of volumes that may be published on this node; 0 for no limit")
	cgroups := flags.String("cgroups", "", "the node's cgroup file system, a `folder`, to let pods stand still while their volume is copied; empty for not at all")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usageError{err}
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("want flags only, found %q", flags.Args())}
	case *node == "" || strings.ContainsAny(*node, separator+"/"):
		return usageError{fmt.Errorf("--node: want the node's name, found %q", *node)}
	}
	limit, err := resource.ParseQuantity(*capacity)
	if err != nil {
		return usageError{fmt.Errorf("--capacity: want a size, such as 10Gi, found %q: %w", *capacity, err)}
	}
	d, err := newDriver(store{root: *root, node: *node, limit: limit.Value()}, *cgroups, *maxVolumes)
	if err != nil {
		return err
	}
	server, err := serve(*socket, func(s *grpc.Server) {
		csi.RegisterIdentityServer(s, identity{})
		csi.RegisterControllerServer(s, d)
		csi.RegisterNodeServer(s, nodeService{driver: d})
	}, logErrors(status))
	if err != nil {
		return err
	}
	defer server.GracefulStop()
	refused := make(chan error, 1)
	if *registry != "" {
		endpoint := *kubeletSocket
		if endpoint == "" {
			endpoint = *socket
		}
		// Kubelet watches this socket's folder: it must come last, and it goes first.
		registrar, err := serve(*registry, func(s *grpc.Server) {
			registration.RegisterRegistrationServer(s, registrar{endpoint: endpoint, refused: refused})
		})
		if err != nil {
			return err
		}
		defer registrar.GracefulStop()
	}
	fmt.Fprintf(status, "csi-driver: ready on %s for node %s in %s\n", *socket, *node, *root)
	select {
	case <-ctx.Done():
		return nil
	case err := <-refused:
		return err
	}
}

// serve serves on a Unix socket, in place of one that a killed driver left.
func serve(socket string, register func(*grpc.Server), options ...grpc.ServerOption) (*grpc.Server, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(options...)
	register(server)
	go func() { _ = server.Serve(listener) }()
	return server, nil
}

// logErrors writes each call that failed as a line: what a sidecar or kubelet was told.
func logErrors(w io.Writer) grpc.ServerOption {
	return grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		response, err := handle(ctx, request)
		if err != nil {
			fmt.Fprintf(w, "csi-driver: %s: %v\n", filepath.Base(info.FullMethod), err)
		}
		return response, err
	})
}

// registrar tells kubelet of the driver, as node-driver-registrar does.
type registrar struct {
	registration.UnimplementedRegistrationServer
	endpoint string
	refused  chan<- error
}

func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: driverName, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (r registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !s.PluginRegistered {
		select { // one refusal ends the driver
		case r.refused <- fmt.Errorf("kubelet did not register %s: %s", driverName, s.Error):
		default:
		}
	}
	return &registration.RegistrationStatusResponse{}, nil
}

type identity struct {
	csi.UnimplementedIdentityServer
}

func (identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driverName, VendorVersion: version}, nil
}

func (identity) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	service := func(t csi.PluginCapability_Service_Type) *csi.PluginCapability {
		return &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}}
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		service(csi.PluginCapability_Service_CONTROLLER_SERVICE),
		service(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS),
		{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{
			Type: csi.PluginCapability_VolumeExpansion_ONLINE}}},
	}}, nil
}

func (identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}
