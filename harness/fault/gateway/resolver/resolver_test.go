package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

const name = "s3.home.example.org"

// served is a resolver, and a client of it as pods have.
type served struct {
	client  *net.Resolver
	network string

	mu    sync.Mutex
	fault string
	asked []string
}

func (s *served) set(fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *served) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func serve(t *testing.T) *served {
	t.Helper()
	s := &served{network: "udp"}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	config := Config{
		Name: name, Address: netip.MustParseAddr("192.168.10.133"), Elsewhere: netip.MustParseAddr("172.18.0.2"),
		Fault: func(client, name string) string {
			s.mu.Lock()
			defer s.mu.Unlock()
			host, _, _ := strings.Cut(client, ":")
			s.asked = append(s.asked, host+" "+name)
			return s.fault
		},
	}
	go func() { ended <- config.Serve(udp, tcp) }()
	t.Cleanup(func() {
		if err := errors.Join(udp.Close(), tcp.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	s.client = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, s.network, udp.LocalAddr().String())
	}}
	return s
}

func TestTheNameLeadsToTheEndpoint(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		s := serve(t)
		s.network = network
		for _, host := range []string{name, "backups." + name, "S3.Home.Example.org"} {
			found, err := s.client.LookupHost(t.Context(), host+".")
			if err != nil || len(found) != 1 || found[0] != "192.168.10.133" {
				t.Errorf("%s by %s: found %v, %v", host, network, found, err)
			}
		}
		if asked := s.questions(); len(asked) == 0 || asked[0] != "127.0.0.1 "+name {
			t.Errorf("by %s: asked %q", network, asked)
		}
	}
}

func TestFaultsOfTheName(t *testing.T) {
	for fault, want := range map[string]func([]string, error) bool{
		api.NameNotFound: func(_ []string, err error) bool {
			var dns *net.DNSError
			return errors.As(err, &dns) && dns.IsNotFound
		},
		api.NameFails: func(_ []string, err error) bool {
			var dns *net.DNSError
			return errors.As(err, &dns) && !dns.IsNotFound && dns.IsTemporary
		},
		api.NameUnheard:   func(_ []string, err error) bool { return err != nil },
		api.NameElsewhere: func(found []string, _ error) bool { return len(found) == 1 && found[0] == "172.18.0.2" },
	} {
		t.Run(fault, func(t *testing.T) {
			s := serve(t)
			s.set(fault)
			ctx := t.Context()
			if fault == api.NameUnheard {
				limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				ctx = limited
			}
			if found, err := s.client.LookupHost(ctx, name+"."); !want(found, err) {
				t.Errorf("found %v, %v", found, err)
			}
			s.set("")
			if found, err := s.client.LookupHost(t.Context(), name+"."); err != nil || found[0] != "192.168.10.133" {
				t.Errorf("healed: found %v, %v", found, err)
			}
		})
	}
}

// ask builds a question, with the address of a client where there is one.
func ask(t *testing.T, host string, kind dnsmessage.Type, subnet []byte) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
	problems := []error{b.StartQuestions(), b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(host), Type: kind, Class: dnsmessage.ClassINET})}
	if subnet != nil {
		var h dnsmessage.ResourceHeader
		problems = append(problems, h.SetEDNS0(1232, dnsmessage.RCodeSuccess, false), b.StartAdditionals(),
			b.OPTResource(h, dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: []byte("cookie")}, {Code: clientSubnet, Data: subnet}}}))
	}
	message, err := b.Finish()
	if err := errors.Join(append(problems, err)...); err != nil {
		t.Fatal(err)
	}
	return message
}

func TestAnswer(t *testing.T) {
	from := netip.MustParseAddrPort("10.244.0.3:1234")
	for what, c := range map[string]struct {
		message []byte
		asker   string
		code    dnsmessage.RCode
		answers int
	}{
		"by the sender's address":     {ask(t, name+".", dnsmessage.TypeA, nil), "10.244.0.3", dnsmessage.RCodeSuccess, 1},
		"by the client's address":     {ask(t, name+".", dnsmessage.TypeA, []byte{0, 1, 32, 0, 10, 244, 0, 9}), "10.244.0.9", dnsmessage.RCodeSuccess, 1},
		"by a whole subnet":           {ask(t, name+".", dnsmessage.TypeA, []byte{0, 1, 24, 0, 10, 244, 0}), "10.244.0.3", dnsmessage.RCodeSuccess, 1},
		"an IPv6 address":             {ask(t, name+".", dnsmessage.TypeAAAA, nil), "10.244.0.3", dnsmessage.RCodeSuccess, 0},
		"another name":                {ask(t, "example.org.", dnsmessage.TypeA, nil), "", dnsmessage.RCodeNameError, 0},
		"a name that ends like it":    {ask(t, "x"+name+".", dnsmessage.TypeA, nil), "", dnsmessage.RCodeNameError, 0},
		"a header without a question": {ask(t, name+".", dnsmessage.TypeA, nil)[:12], "", dnsmessage.RCodeFormatError, 0},
	} {
		t.Run(what, func(t *testing.T) {
			asked := ""
			config := Config{Name: name, Address: netip.MustParseAddr("192.168.10.133"), Fault: func(client, _ string) string {
				asked = strings.TrimSuffix(client, ":1234")
				return ""
			}}
			var answer dnsmessage.Message
			if err := answer.Unpack(config.Answer(c.message, from)); err != nil {
				t.Fatal(err)
			}
			if answer.ID != 7 || !answer.Response || answer.RCode != c.code || len(answer.Answers) != c.answers || asked != c.asker {
				t.Errorf("want %v with %d answers for %q, found %+v for %q", c.code, c.answers, c.asker, answer, asked)
			}
			for _, a := range answer.Answers {
				if a.Header.TTL != 0 {
					t.Errorf("want an answer that nobody keeps, found a TTL of %d s", a.Header.TTL)
				}
			}
		})
	}
	if answer := (Config{Name: name}).Answer([]byte("no message"), from); answer != nil {
		t.Errorf("want no answer to what is no message, found %x", answer)
	}
}
