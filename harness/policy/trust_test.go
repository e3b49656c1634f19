package policy

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/endpoint"
)

func TestWhatTheEndpointIsTrustedBy(t *testing.T) {
	certificates, err := authority.New("s3.home.example.org", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const https, name = "https://s3.home.example.org", "the run's CA is new every time"
	encodedCA := base64.StdEncoding.EncodeToString([]byte(certificates.CA))
	for what, c := range map[string]struct {
		endpoint, contract, policy string
		want                       string
	}{
		"https":                           {https, "", "", ""},
		"http, whoever trusts":            {"http://s3.home.example.org", "s3: {ENDPOINT, trust: images}", "", ""},
		"http, and a CA":                  {"http://s3.home.example.org", "s3: {ENDPOINT, trust: policy}", "", "conformance.yaml:7:53: the endpoint http://s3.home.example.org is http"},
		"by the policy":                   {https, "s3: {ENDPOINT, trust: policy}\nbaseSecret: {data: {ca.crt: '{ca}'}}", "", ""},
		"by the store":                    {https, "s3: {ENDPOINT, trust: policy}\nsecretStore: {name: s, entries: [{key: a, value: '{ca}'}]}", "", ""},
		"by nobody":                       {https, "s3: {ENDPOINT, trust: policy}\nbaseSecret: {data: {ca.crt: ca}}", "", "conformance.yaml:7:54: nobody would trust https://s3.home.example.org: write {ca}"},
		"a CA in the base Secret":         {https, "s3: {ENDPOINT}\nbaseSecret: {data: {ca.crt: " + quoted(certificates.CA) + "}}", "", "conformance.yaml:8:21: it has the certificate of a CA of its own, and " + name},
		"a CA that cannot be read":        {https, "s3: {ENDPOINT}\nbaseSecret: {data: {ca.crt: " + quoted("-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n") + "}}", "", "it has a CA that cannot be read: "},
		"a CA of http is no matter":       {"http://s3.home.example.org", "s3: {ENDPOINT}\nbaseSecret: {data: {ca.crt: " + quoted(certificates.CA) + "}}", "", ""},
		"a bundle in the policy":          {https, "", "caBundle: " + quoted(certificates.CA), "ClusterPolicy p: it has the certificate of a CA of its own"},
		"an encoded bundle":               {https, "", "caBundle: " + encodedCA, "ClusterPolicy p: it has the certificate of a CA of its own"},
		"a bundle that cannot be read":    {https, "", "caBundle: not-a-certificate", "ClusterPolicy p: it has a CA that cannot be read: want a CA's certificate in PEM, found none"},
		"a server's own certificate":      {https, "", "caBundle: " + quoted(certificates.Good.Certificate), "is no CA's"},
		"a bundle from the base Secret":   {https, "", `caBundle: "{{ base.data.ca }}"`, ""},
		"a key that images are signed by": {https, "", "publicKeys: " + quoted("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"), ""},
		"a certificate in an expression":  {https, "", "expression: " + quoted("http.Client('"+certificates.CA+"')"), "ClusterPolicy p: it has the certificate of a CA of its own"},
	} {
		t.Run(what, func(t *testing.T) {
			folder := t.TempDir()
			if c.contract == "" {
				c.contract = "s3: {ENDPOINT}"
			}
			write := func(file, text string) {
				text = strings.ReplaceAll(text, "ENDPOINT", `endpoint: "`+c.endpoint+`"`)
				if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("conformance.yaml", "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: n\ndescription: d\n\n\n"+c.contract+"\n")
			write("policy.yaml", "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  url: "+c.endpoint+"/x\n  "+strings.ReplaceAll(c.policy, "\n", "\n  ")+"\n")
			_, err := Load(folder, endpoint.Endpoint{})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("want %q, found %v", c.want, err)
			}
		})
	}
}

func quoted(text string) string { return `"` + strings.ReplaceAll(text, "\n", `\n`) + `"` }

func TestTheBaseSecretHoldsTheRunsCA(t *testing.T) {
	got := BaseSecret{Data: map[string]string{"ca.crt": "{ca}", "region": "{x}", "both": "{ca}{ca}"}}.Filled("pem")
	if len(got) != 3 || got["ca.crt"] != "pem" || got["region"] != "{x}" || got["both"] != "pempem" {
		t.Errorf("found %v", got)
	}
}

// A setup of the gallery is the reference policy with another address, and nothing else.
func TestTheReferencePolicyTakesAName(t *testing.T) {
	p, err := Load(filepath.Join("..", "..", "fixtures", "gallery", "https-name"), endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	if p.Endpoint.Name != "s3.home.example.org" || !p.Endpoint.HTTPS() || p.names("192.168.10.133") {
		t.Errorf("its endpoint is %+v", p.Endpoint)
	}
	reference, err := Load(filepath.Join("..", "..", "policies", "smart-restore"), endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Objects) != len(reference.Objects) {
		t.Errorf("it has %d objects, the reference policy %d", len(p.Objects), len(reference.Objects))
	}
}
