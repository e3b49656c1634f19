// Package endpoint is the S3 address that a policy names.
package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/subnet"
)

// Endpoint is an S3 address as a policy names it.
type Endpoint struct {
	URL  string         // scheme://host:port or scheme://host, without a slash at the end
	Addr netip.AddrPort // the address it is served at, inside the test's own network
	Name string         // the name that leads there, by the DNS of the test's cluster; empty: the URL has the address
}

// ServedAt is the address that a name leads to: a private one, as a NAS's is, for Kyverno may refuse to ask some addresses.
var ServedAt = netip.MustParseAddr("192.168.10.133")

const example = "http://192.168.10.133:9000 or https://s3.home.example.org"

// HTTPS says whether clients speak TLS to it.
func (e Endpoint) HTTPS() bool { return strings.HasPrefix(e.URL, "https://") }

// Host is what a client calls it by: a name or an address, with the port where the URL has one.
func (e Endpoint) Host() string {
	_, host, _ := strings.Cut(e.URL, "://")
	return host
}

// Hostname is Host without the port: what a certificate of it is for.
func (e Endpoint) Hostname() string {
	if e.Name != "" {
		return e.Name
	}
	return e.Addr.Addr().String()
}

// Sort is what an endpoint can be: some of what can be wrong with S3 is wrong with one sort only. It is a label of specs, too.
type Sort string

// The sorts.
const (
	PlainHTTP Sort = "of-http"
	TLS       Sort = "of-https"
	Named     Sort = "of-name"
)

// Is says whether the endpoint is of a sort. Empty: any is.
func (e Endpoint) Is(sort Sort) bool {
	switch sort {
	case PlainHTTP:
		return !e.HTTPS()
	case TLS:
		return e.HTTPS()
	case Named:
		return e.Name != ""
	}
	return true
}

// Lacks is the reason why what has this label has nothing to say of the endpoint. Empty: it has, or the label is no Sort.
func (e Endpoint) Lacks(label string) string {
	if e.Is(Sort(label)) {
		return ""
	}
	return fmt.Sprintf("it is about %s, and the endpoint is %s", map[Sort]string{
		PlainHTTP: "an endpoint that is http", TLS: "an endpoint that is https", Named: "an endpoint with a name",
	}[Sort(label)], e.URL)
}

// Parse checks that the endpoint can be served inside a test's network: http or https, at an IPv4 address or a name that the cluster
// does not use itself.
func Parse(text string) (Endpoint, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return Endpoint{}, fmt.Errorf("it is no URL: want one like %s", example)
	}
	port := u.Port()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return Endpoint{}, fmt.Errorf("its scheme is %q, want http or https", u.Scheme)
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return Endpoint{}, fmt.Errorf("want scheme, host and port only, like %s", example)
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return Endpoint{}, fmt.Errorf("its port is %q, want 1 to 65535", port)
	}
	if slices.Contains(taken, number) {
		return Endpoint{}, fmt.Errorf("its port is %d, which the suite's gateway uses itself: want another", number)
	}
	host := u.Hostname()
	e := Endpoint{URL: u.Scheme + "://" + u.Host}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if err := checkName(host); err != nil {
			return Endpoint{}, err
		}
		e.Name, ip = host, ServedAt
	} else if err := checkAddress(ip); err != nil {
		return Endpoint{}, err
	}
	e.Addr = netip.AddrPortFrom(ip, uint16(number))
	return e, nil
}

// taken are the ports of the gateway that are not the endpoint's: DNS, the control API and the oracle.
var taken = []uint64{53, 9901, gateway.OraclePort}

func checkAddress(ip netip.Addr) error {
	switch {
	case !ip.Is4():
		return fmt.Errorf("its host is %s, want an IPv4 address or a name: the test's network has no IPv6", ip)
	case ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified():
		return fmt.Errorf("%s is a loopback, link-local or multicast address, which Kyverno refuses to ask", ip)
	}
	for _, used := range []string{subnet.Pods, subnet.Services} {
		if netip.MustParsePrefix(used).Contains(ip) {
			return fmt.Errorf("%s is in %s, which the test's cluster uses for its pods and services", ip, used)
		}
	}
	return nil
}

var (
	label = `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`
	name  = regexp.MustCompile(`^` + label + `(\.` + label + `)*$`)
	digit = regexp.MustCompile(`^[0-9.]+$`)
)

// namespaces are those that every cluster of the suite has: host "x.default" is the Service x there.
var namespaces = []string{"default", "kube-system", "kube-public", "kube-node-lease", "kyverno", "volsync-system"}

func checkName(host string) error {
	labels := strings.Split(host, ".")
	last := labels[len(labels)-1]
	switch {
	case digit.MatchString(host):
		return fmt.Errorf("its host is %q, which is no IPv4 address and no name", host)
	case strings.HasSuffix(host, "."):
		return fmt.Errorf("its host is %q: leave out the dot at its end, of which certificates and clients make different things", host)
	case len(host) > 253 || !name.MatchString(host):
		return fmt.Errorf("its host is %q, want an IPv4 address or a DNS name: small letters, digits, hyphens and dots", host)
	case host == "localhost" || last == "localhost":
		return errors.New("localhost is the loopback of whoever asks: in a pod, the pod itself")
	case last == "svc" || strings.HasSuffix(host, ".cluster.local") || host == "cluster.local" || host == "kubernetes" ||
		len(labels) == 2 && slices.Contains(namespaces, last):
		return fmt.Errorf("%s is a name of the cluster's own, of a Service, and the suite does not run S3 in the cluster: want a name from outside, like s3.home.example.org, or set S3_ENDPOINT and the policy to an address", host)
	}
	return nil
}

// Address is host:port, also where the URL has no port.
func (e Endpoint) Address() string {
	return net.JoinHostPort(e.Hostname(), strconv.Itoa(int(e.Addr.Port())))
}
