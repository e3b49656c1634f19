// Command gateway is the fault gateway of package harness/fault/gateway as a
// container: it listens at the configured S3 endpoint, passes requests on to
// the real S3 server, writes each request to stdout as a line of JSON, and
// takes its orders on the control API, whose token is in GATEWAY_TOKEN. With
// GATEWAY_CERTIFICATES (package authority, as JSON) the endpoint is https. With
// --name it resolves that name, and is a login page at its other addresses.
// With --endpoint it is also an oracle (package gateway), at the endpoint's IP
// and its own port.
//
// It ends with 0 after SIGTERM or SIGINT, with 1 if it can't serve, with 2 if
// it was called wrongly.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"

	"github.com/smart-restore/conformance/harness/fault/gateway"
	"github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/fault/gateway/resolver"
)

func main() {
	zerolog.SetGlobalLevel(zerolog.WarnLevel) // toxiproxy's toxics tell of each step
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], secrets{os.Getenv("GATEWAY_TOKEN"), os.Getenv("GATEWAY_CERTIFICATES")}, os.Stdout, os.Stderr)
	stop()
	var usage usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

type usageError struct{ error }

// secrets are what must not be among the arguments.
type secrets struct{ token, certificates string }

// run serves until ctx ends.
func run(ctx context.Context, args []string, secrets secrets, records, status io.Writer) error {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	flags.SetOutput(status)
	listen := flags.String("listen", "", "the endpoint, `ip:port`")
	upstream := flags.String("upstream", "", "the real S3 server, `http://host:port`")
	control := flags.String("control", ":9901", "the control API, `[ip]:port`")
	route := flags.String("route", "", "only add a route in this network namespace and end: `cidr=via`")
	name := flags.String("name", "", "the endpoint's `name`, which is resolved on port 53 of its IP")
	called := flags.String("endpoint", "", "where S3 is to clients, `scheme://host:port`: there is an oracle, then")
	oraclePort := flags.Uint("oracle", api.OraclePort, "the oracle's `port`, at the endpoint's IP")
	addAddress := flags.Bool("add-address", false, "give lo the endpoint's IP first (needs NET_ADMIN)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usageError{err}
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("want flags only, found %q", flags.Args())}
	}
	if *route != "" {
		return addRoute(*route)
	}
	endpoint, err := netip.ParseAddrPort(*listen)
	if err != nil {
		return usageError{fmt.Errorf("--listen: want ip:port, found %q", *listen)}
	}
	u, err := url.Parse(*upstream)
	if err != nil {
		return usageError{fmt.Errorf("--upstream: %w", err)}
	}
	if secrets.token == "" {
		return usageError{errors.New("want the control API's token in GATEWAY_TOKEN, found none")}
	}
	config := gateway.Config{Upstream: u, Token: secrets.token, Log: records, Name: *name, Endpoint: *called, OracleAddress: netip.AddrPortFrom(endpoint.Addr(), 0).String()}
	if secrets.certificates != "" {
		if err := json.Unmarshal([]byte(secrets.certificates), &config.Certificates); err != nil {
			return usageError{errors.New("want the endpoint's certificates in GATEWAY_CERTIFICATES, found something else")} // not what: it has keys
		}
	}
	var s3 netip.AddrPort // where it listens: before it serves
	config.DialEndpoint = func(ctx context.Context, elsewhere bool) (net.Conn, error) {
		at := s3
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), 0))}
		if elsewhere {
			own, err := ownAddress()
			if err != nil {
				return nil, err
			}
			at = netip.AddrPortFrom(own, at.Port())
		}
		return dialer.DialContext(ctx, "tcp", at.String())
	}
	server, err := gateway.New(config)
	if err != nil {
		return usageError{err}
	}

	if *addAddress {
		if err := addToLoopback(endpoint.Addr()); err != nil {
			return fmt.Errorf("giving lo the address %s: %w", endpoint.Addr(), err)
		}
	}
	data, err := net.Listen("tcp", endpoint.String())
	if err != nil {
		return err
	}
	s3 = netip.MustParseAddrPort(data.Addr().String())
	ctl, err := net.Listen("tcp", *control)
	if err != nil {
		return errors.Join(err, data.Close())
	}
	if *name != "" {
		end, err := serveName(server, *name, endpoint)
		if err != nil {
			return errors.Join(err, data.Close(), ctl.Close())
		}
		defer end()
	}
	if *called != "" {
		oracle, err := net.Listen("tcp", netip.AddrPortFrom(endpoint.Addr(), uint16(*oraclePort)).String())
		if err != nil {
			return errors.Join(err, data.Close(), ctl.Close())
		}
		go func() { _ = server.ServeOracle(oracle) }()
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Fprintf(status, "gateway: ready on %s for %s, control on %s\n", data.Addr(), u, ctl.Addr())
	return server.Serve(data, ctl)
}

// serveName resolves the endpoint's name, and is there where it leads elsewhere: at this host's own address.
func serveName(server *gateway.Server, name string, endpoint netip.AddrPort) (end func(), err error) {
	elsewhere, err := ownAddress()
	if err != nil {
		return nil, err
	}
	portal, err := net.Listen("tcp", netip.AddrPortFrom(elsewhere, endpoint.Port()).String())
	if err != nil {
		return nil, err
	}
	dns := netip.AddrPortFrom(endpoint.Addr(), 53).String()
	udp, err := net.ListenPacket("udp", dns)
	if err != nil {
		return nil, errors.Join(err, portal.Close())
	}
	tcp, err := net.Listen("tcp", dns)
	if err != nil {
		return nil, errors.Join(err, portal.Close(), udp.Close())
	}
	names := resolver.Config{Name: name, Address: endpoint.Addr(), Elsewhere: elsewhere, Fault: server.NameFault}
	go func() { _ = names.Serve(udp, tcp) }()
	go func() { _ = server.ServePortal(portal) }()
	return func() { _, _ = udp.Close(), tcp.Close() }, nil
}

// ownAddress is the address of this host in its network.
func ownAddress() (netip.Addr, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() && !prefix.Addr().IsLoopback() && prefix.Bits() < 32 {
			return prefix.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("want an IPv4 address of this host in a network, found %v", addresses)
}

// addToLoopback gives lo the address, if it has not got it.
func addToLoopback(addr netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	host := netip.PrefixFrom(addr, addr.BitLen()).String()
	a, err := netlink.ParseAddr(host)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(lo, a); err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	return nil
}

// addRoute leads a network via a neighbour, replacing an earlier route: the
// gateway must answer pods by the node, which it learns of only when it runs.
func addRoute(text string) error {
	cidr, via, _ := strings.Cut(text, "=")
	destination, err := netlink.ParseIPNet(cidr)
	if err != nil {
		return usageError{fmt.Errorf("--route: want cidr=via, found %q: %w", text, err)}
	}
	neighbour := net.ParseIP(via)
	if neighbour == nil {
		return usageError{fmt.Errorf("--route: want cidr=via, found %q", text)}
	}
	return netlink.RouteReplace(&netlink.Route{Dst: destination, Gw: neighbour})
}
