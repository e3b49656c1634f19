// Command gateway is the fault gateway of package harness/fault/gateway as a
// container: it listens at the configured S3 endpoint, passes requests on to
// the real S3 server, writes each request to stdout as a line of JSON, and
// takes its orders on the control API, whose token is in GATEWAY_TOKEN.
//
// It ends with 0 after SIGTERM or SIGINT, with 1 if it can't serve, with 2 if
// it was called wrongly.
package main

import (
	"context"
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
)

func main() {
	zerolog.SetGlobalLevel(zerolog.WarnLevel) // toxiproxy's toxics tell of each step
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Getenv("GATEWAY_TOKEN"), os.Stdout, os.Stderr)
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

// run serves until ctx ends.
func run(ctx context.Context, args []string, token string, records, status io.Writer) error {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	flags.SetOutput(status)
	listen := flags.String("listen", "", "the endpoint, `ip:port`")
	upstream := flags.String("upstream", "", "the real S3 server, `http://host:port`")
	control := flags.String("control", ":9901", "the control API, `[ip]:port`")
	route := flags.String("route", "", "only add a route in this network namespace and end: `cidr=via`")
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
	if token == "" {
		return usageError{errors.New("want the control API's token in GATEWAY_TOKEN, found none")}
	}
	server, err := gateway.New(gateway.Config{Upstream: u, Token: token, Log: records})
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
	ctl, err := net.Listen("tcp", *control)
	if err != nil {
		return errors.Join(err, data.Close())
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Fprintf(status, "gateway: ready on %s for %s, control on %s\n", data.Addr(), u, ctl.Addr())
	return server.Serve(data, ctl)
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
