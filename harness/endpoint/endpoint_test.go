package endpoint

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]struct {
		url, addr, name, host, hostname, address string
		https                                    bool
	}{
		"http://192.168.1.1/":            {url: "http://192.168.1.1", addr: "192.168.1.1:80", host: "192.168.1.1", hostname: "192.168.1.1", address: "192.168.1.1:80"},
		"http://192.168.1.1:9000":        {url: "http://192.168.1.1:9000", addr: "192.168.1.1:9000", host: "192.168.1.1:9000", hostname: "192.168.1.1", address: "192.168.1.1:9000"},
		"https://10.0.0.5":               {url: "https://10.0.0.5", addr: "10.0.0.5:443", host: "10.0.0.5", hostname: "10.0.0.5", address: "10.0.0.5:443", https: true},
		"https://s3.home.example.org":    {url: "https://s3.home.example.org", addr: "192.168.10.133:443", name: "s3.home.example.org", host: "s3.home.example.org", hostname: "s3.home.example.org", address: "s3.home.example.org:443", https: true},
		"https://s3.home.example.org:99": {url: "https://s3.home.example.org:99", addr: "192.168.10.133:99", name: "s3.home.example.org", host: "s3.home.example.org:99", hostname: "s3.home.example.org", address: "s3.home.example.org:99", https: true},
		"http://nas:9000/":               {url: "http://nas:9000", addr: "192.168.10.133:9000", name: "nas", host: "nas:9000", hostname: "nas", address: "nas:9000"},
		"http://default.example.org":     {url: "http://default.example.org", addr: "192.168.10.133:80", name: "default.example.org", host: "default.example.org", hostname: "default.example.org", address: "default.example.org:80"},
	} {
		e, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if e.URL != want.url || e.Addr.String() != want.addr || e.Name != want.name || e.Host() != want.host || e.Hostname() != want.hostname ||
			e.Address() != want.address || e.HTTPS() != want.https {
			t.Errorf("%s: want %+v, found %+v with host %s, hostname %s, address %s, https %t", text, want, e, e.Host(), e.Hostname(), e.Address(), e.HTTPS())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"192.168.1.1:9000":        "it is no URL",
		"":                        "it is no URL",
		"s3://nas":                `its scheme is "s3"`,
		"http://user:pass@nas":    "scheme, host and port only",
		"https://nas/bucket":      "scheme, host and port only",
		"http://nas?x=y":          "scheme, host and port only",
		"http://nas:0":            `its port is "0"`,
		"http://nas:65536":        `its port is "65536"`,
		"http://nas:9901":         "the suite's gateway uses itself",
		"http://nas:53":           "the suite's gateway uses itself",
		"http://[fd00::1]:9000":   "the test's network has no IPv6",
		"http://127.0.0.1:9000":   "loopback",
		"http://169.254.1.1":      "link-local",
		"http://10.244.3.4":       "pods and services",
		"http://10.96.3.4":        "pods and services",
		"http://300.1.1.1":        "no IPv4 address and no name",
		"http://NAS":              "small letters",
		"http://nas_1":            "small letters",
		"http://-nas.example.org": "small letters",
		"http://" + strings.Repeat("a", 64) + ".org":   "small letters",
		"http://nas.example.org.":                      "leave out the dot",
		"http://localhost:9000":                        "loopback of whoever asks",
		"https://kubernetes":                           "of the cluster's own",
		"https://kubernetes.default":                   "of the cluster's own",
		"http://rustfs.storage.svc:9000":               "of the cluster's own",
		"http://rustfs.storage.svc.cluster.local:9000": "of the cluster's own",
		"http://minio.kyverno":                         "of the cluster's own",
		"https://cluster.local":                        "of the cluster's own",
	} {
		if e, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error with %q, found %+v, %v", text, want, e, err)
		}
	}
}
