// Package endpoint is the S3 address that a policy names.
package endpoint

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/smart-restore/conformance/harness/subnet"
)

// Endpoint is an S3 address as a policy names it.
type Endpoint struct {
	URL  string         // http://host:port, without a slash at the end
	Addr netip.AddrPort // the address it is served at, inside the test's own network
}

// Parse checks that the endpoint can be served inside a test's network: plain http at an IPv4 address and port.
func Parse(text string) (Endpoint, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return Endpoint{}, errors.New("it is no URL: want one like http://192.168.10.133:9000")
	}
	switch {
	case u.Scheme == "https":
		return Endpoint{}, errors.New("https is not supported yet: the suite would need a certificate that Kyverno and the movers trust")
	case u.Scheme != "http":
		return Endpoint{}, fmt.Errorf("its scheme is %q, want http", u.Scheme)
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return Endpoint{}, errors.New("want scheme, host and port only, like http://192.168.10.133:9000")
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	addr, err := netip.ParseAddrPort(u.Hostname() + ":" + port)
	if err != nil || !addr.Addr().Is4() {
		return Endpoint{}, fmt.Errorf("its host is %q, want an IPv4 address: only such an endpoint can be served inside the test's network so far", u.Host)
	}
	ip := addr.Addr()
	if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return Endpoint{}, fmt.Errorf("%s is a loopback, link-local or multicast address, which Kyverno refuses to ask", ip)
	}
	for _, taken := range []string{subnet.Pods, subnet.Services} {
		if netip.MustParsePrefix(taken).Contains(ip) {
			return Endpoint{}, fmt.Errorf("%s is in %s, which the test's cluster uses for its pods and services", ip, taken)
		}
	}
	return Endpoint{URL: "http://" + u.Host, Addr: addr}, nil
}
