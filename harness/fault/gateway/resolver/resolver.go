// Package resolver is the DNS server that knows the endpoint's name. The DNS of the test's cluster forwards questions for that name to
// it, with the address of the pod that asked as EDNS client subnet, so that a fault of names can be one client's. Nobody else is asked:
// the name exists in the test's cluster only, and no other name of outside does.
package resolver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// Config is what the resolver answers.
type Config struct {
	Name      string     // the endpoint's; what is below it leads there too, for buckets may be hosts
	Address   netip.Addr // where it leads
	Elsewhere netip.Addr // where it leads under the fault of that name
	// Fault says what becomes of a client's question, by the kinds of names in package api; empty: it is answered.
	Fault func(client, name string) string
}

// Answer is the reply to a message; nil: none. from is whom the message came from, where it does not say who asked.
func (c Config) Answer(message []byte, from netip.AddrPort) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil || header.Response {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return reply(header, nil, dnsmessage.RCodeFormatError, netip.Addr{})
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	if name != c.Name && !strings.HasSuffix(name, "."+c.Name) {
		return reply(header, &question, dnsmessage.RCodeNameError, netip.Addr{})
	}
	if err := parser.SkipAllQuestions(); err != nil {
		return reply(header, &question, dnsmessage.RCodeFormatError, netip.Addr{})
	}
	switch kind := c.Fault(asker(&parser, from).String(), name); kind {
	case api.NameUnheard:
		return nil
	case api.NameFails:
		return reply(header, &question, dnsmessage.RCodeServerFailure, netip.Addr{})
	case api.NameNotFound:
		return reply(header, &question, dnsmessage.RCodeNameError, netip.Addr{})
	case api.NameElsewhere:
		return reply(header, &question, dnsmessage.RCodeSuccess, c.Elsewhere)
	}
	return reply(header, &question, dnsmessage.RCodeSuccess, c.Address)
}

// reply has the address where the question is for one. It is not to be kept by anybody: the next question may meet a fault.
func reply(header dnsmessage.Header, question *dnsmessage.Question, code dnsmessage.RCode, address netip.Addr) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: header.ID, Response: true, OpCode: header.OpCode, Authoritative: true, RecursionDesired: header.RecursionDesired, RCode: code,
	})
	b.EnableCompression()
	var problems []error
	if question != nil {
		problems = append(problems, b.StartQuestions(), b.Question(*question))
		if question.Type == dnsmessage.TypeA && address.Is4() {
			problems = append(problems, b.StartAnswers(),
				b.AResource(dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}, dnsmessage.AResource{A: address.As4()}))
		}
	}
	message, err := b.Finish()
	if errors.Join(append(problems, err)...) != nil {
		return nil
	}
	return message
}

// clientSubnet is the EDNS option that says for whom a resolver asks (RFC 7871).
const clientSubnet = 8

// asker is who asked: by the client subnet, where that is one address, or else the sender.
func asker(parser *dnsmessage.Parser, from netip.AddrPort) netip.AddrPort {
	if errors.Join(parser.SkipAllAnswers(), parser.SkipAllAuthorities()) != nil {
		return from
	}
	for {
		header, err := parser.AdditionalHeader()
		if err != nil {
			return from
		}
		if header.Type != dnsmessage.TypeOPT {
			if parser.SkipAdditional() != nil {
				return from
			}
			continue
		}
		opt, err := parser.OPTResource()
		if err != nil {
			return from
		}
		for _, option := range opt.Options {
			// family 1 is IPv4; then the lengths of the prefix that is asked for and that is answered, and the address
			if d := option.Data; option.Code == clientSubnet && len(d) == 8 && binary.BigEndian.Uint16(d) == 1 && d[2] == 32 {
				return netip.AddrPortFrom(netip.AddrFrom4([4]byte(d[4:])), from.Port())
			}
		}
	}
}

// Serve answers over UDP and TCP until both are closed.
func (c Config) Serve(udp net.PacketConn, tcp net.Listener) error {
	var serving sync.WaitGroup
	var failures [2]error
	serving.Go(func() { failures[0] = c.serveUDP(udp) })
	serving.Go(func() { failures[1] = c.serveTCP(tcp) })
	serving.Wait()
	return errors.Join(failures[:]...)
}

func (c Config) serveUDP(conn net.PacketConn) error {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return unlessClosed(err)
		}
		if answer := c.Answer(buffer[:n], addressOf(from)); answer != nil {
			_, _ = conn.WriteTo(answer, from) // whoever asked asks again
		}
	}
}

func (c Config) serveTCP(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return unlessClosed(err)
		}
		go c.converse(conn)
	}
}

// converse answers the messages on a TCP connection, each of which has its length before it.
func (c Config) converse(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		message := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, message); err != nil {
			return
		}
		answer := c.Answer(message, addressOf(conn.RemoteAddr()))
		if answer == nil {
			continue
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func addressOf(a net.Addr) netip.AddrPort {
	from, err := netip.ParseAddrPort(fmt.Sprint(a))
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
