// Package authority makes the certificates of a run: those that the endpoint shows if it is https, the good one and the wrong ones, and
// the CA that signs them. All are new for every run. The CA's key is forgotten as soon as it has signed. The simulator, which is
// compiled among Kyverno's modules, imports this package, so it may import the standard library only.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Source is this package's source, for the simulator's module.
//
//go:embed *.go
var Source embed.FS

// Pair is a certificate and its key, both PEM.
type Pair struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// TLS reads the pair.
func (p Pair) TLS() (tls.Certificate, error) {
	return tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key))
}

// Certificates are those that an https endpoint can show.
type Certificates struct {
	// CA is the certificate that clients are to trust, PEM.
	CA string `json:"ca"`
	// Good is the endpoint's own.
	Good Pair `json:"good"`
	// Expired was good, until years ago.
	Expired Pair `json:"expired"`
	// OtherName is of the same CA, and for another host.
	OtherName Pair `json:"otherName"`
	// UnknownCA is for the endpoint, of a CA that nobody trusts.
	UnknownCA Pair `json:"unknownCA"`
}

// OtherHost is the host that the certificate for another name is for.
const OtherHost = "login.example.net"

const year = 365 * 24 * time.Hour

// New makes the certificates of an endpoint at this host, a name or an IP address. They are good for many years before and after
// now: those that simulate have clocks of their own.
func New(host string, now time.Time) (*Certificates, error) {
	trusted, err := newCA("smart-restore run CA", now)
	if err != nil {
		return nil, err
	}
	stranger, err := newCA("a CA that nobody trusts", now)
	if err != nil {
		return nil, err
	}
	c := &Certificates{CA: encode("CERTIFICATE", trusted.certificate.Raw)}
	from, to := now.Add(-15*year), now.Add(15*year)
	for _, one := range []struct {
		into     *Pair
		by       *ca
		host     string
		from, to time.Time
	}{
		{&c.Good, trusted, host, from, to},
		{&c.Expired, trusted, host, from.Add(-year), from},
		{&c.OtherName, trusted, OtherHost, from, to},
		{&c.UnknownCA, stranger, host, from, to},
	} {
		if *one.into, err = one.by.issue(one.host, one.from, one.to); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ReadCA says whether a text is certificates, PEM, by which somebody can be trusted.
func ReadCA(text string) error {
	rest, found := []byte(text), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("want certificates in PEM only, found a block %q", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %d cannot be read: %w", found+1, err)
		}
		if !certificate.IsCA {
			return fmt.Errorf("certificate %d (%s) is no CA's", found+1, certificate.Subject)
		}
		found++
	}
	if found == 0 {
		return errors.New("want a CA's certificate in PEM, found none")
	}
	return nil
}

type ca struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newCA(name string, now time.Time) (*ca, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-20 * year), NotAfter: now.Add(20 * year),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(raw)
	return &ca{certificate, key}, err
}

// issue signs a certificate for a host and, of a name, for what is directly below it: buckets may be hosts.
func (a *ca) issue(host string, from, to time.Time) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: host}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host, "*." + host}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return Pair{}, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Certificate: encode("CERTIFICATE", raw), Key: encode("PRIVATE KEY", encoded)}, nil
}

func serial() *big.Int {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	return new(big.Int).SetBytes(raw)
}

func encode(kind string, raw []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}
