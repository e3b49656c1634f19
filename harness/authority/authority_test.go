package authority

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCertificatesAreWhatTheyAreCalled(t *testing.T) {
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	for _, host := range []string{"s3.home.example.org", "192.168.10.133"} {
		c, err := New(host, now)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(c.CA)) {
			t.Fatal("the CA cannot be read")
		}
		for _, one := range []struct {
			name string
			pair Pair
			want string
		}{
			{"good", c.Good, ""},
			{"expired", c.Expired, "expired"},
			{"other name", c.OtherName, "valid"},
			{"unknown CA", c.UnknownCA, "unknown authority"},
		} {
			pair, err := one.pair.TLS()
			if err != nil {
				t.Fatal(err)
			}
			_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now})
			if err == nil {
				err = pair.Leaf.VerifyHostname(host)
			}
			if (one.want == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), one.want) {
				t.Errorf("%s, %s: want an error with %q, found %v", host, one.name, one.want, err)
			}
		}
	}
}

func TestACertificateIsForTheBucketsBelowItsName(t *testing.T) {
	c, err := New("s3.home.example.org", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := c.Good.TLS()
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Leaf.VerifyHostname("backups.s3.home.example.org"); err != nil {
		t.Error(err)
	}
}

func TestEachRunHasItsOwnCA(t *testing.T) {
	a, err := New("a", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := New("a", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if a.CA == b.CA || a.Good.Key == b.Good.Key {
		t.Error("two runs share a CA or a key")
	}
}

func TestReadCA(t *testing.T) {
	c, err := New("a", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct{ name, text, want string }{
		{"a CA", c.CA, ""},
		{"two", c.CA + c.CA, ""},
		{"nothing", "", "found none"},
		{"no PEM", "LS0tLS1CRUdJTg==", "found none"},
		{"a key", c.Good.Key, `found a block "PRIVATE KEY"`},
		{"a server's", c.Good.Certificate, "is no CA's"},
		{"cut", strings.Replace(c.CA, "MII", "AAA", 1), "certificate 1 cannot be read"},
	} {
		err := ReadCA(one.text)
		if one.want == "" && err != nil || one.want != "" && (err == nil || !strings.Contains(err.Error(), one.want)) {
			t.Errorf("%s: want %q, found %v", one.name, one.want, err)
		}
	}
}
