package gateway

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// What comes before requests: connections, handshakes, and questions for the endpoint's name.

// configuration is that of a server with this certificate. A session that is resumed would show none, so there are none.
func configuration(pair authority.Pair) (*tls.Config, error) {
	certificate, err := pair.TLS()
	if err != nil {
		return nil, err
	}
	// HTTP/2 has no connection that a fault could take over.
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true}, nil
}

// beneath is the connection that TLS is spoken on, or the connection itself.
func beneath(c net.Conn) net.Conn {
	if secure, ok := c.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return c
}

// resetConn ends a connection with a TCP reset.
func resetConn(c net.Conn) {
	c = beneath(c)
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed connection
	}
	_ = c.Close()
}

// hello is a client that begins TLS, and meets a rule.
type hello struct {
	server *Server
	conn   net.Conn
	rule   *activeRule
	entry  *entry
}

// hello is what becomes of a client that begins TLS.
func (s *Server) hello(info *tls.ClientHelloInfo) (*tls.Config, error) {
	client := info.Conn.RemoteAddr().String()
	rule := s.rules.newest(func(a *activeRule) bool {
		return kinds[a.Fault.Kind].handshake != nil && a.fitsClient(client)
	})
	if rule == nil {
		return s.tls, nil
	}
	h := &hello{server: s, conn: info.Conn, rule: rule, entry: s.book.enter("", api.Record{
		Rule: rule.ID, Client: client, Method: api.MethodTLS, Auth: api.AuthNone,
	})}
	h.entry.note(rule.Fault.Kind)
	defer h.entry.finish()
	return kinds[rule.Fault.Kind].handshake(h)
}

// hold answers nothing until the client goes or the rule ends: then it goes on, however late.
func (h *hello) hold() (*tls.Config, error) {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-h.rule.healed:
			return h.server.tls, nil
		case <-look.C:
			if gone, _ := socketState(h.conn); gone {
				h.entry.ended(api.EndedReset)
				resetConn(h.conn)
				return nil, errors.New("the client went while it was held")
			}
		}
	}
}

// say writes in plain, and ends the connection.
func (h *hello) say(text string) (*tls.Config, error) {
	n, err := h.conn.Write([]byte(text))
	h.entry.rawBytes.Add(int64(n))
	h.entry.ended(api.EndedClosed)
	return nil, errors.Join(errors.New("answered in plain HTTP"), err)
}

// NameFault is what the resolver is to do with a question of this client's (ip:port) for the endpoint's name; empty: answer it. It is
// recorded if it is something.
func (s *Server) NameFault(client, name string) (kind string) {
	rule := s.rules.newest(func(a *activeRule) bool { return kinds[a.Fault.Kind].name && a.fitsClient(client) })
	if rule == nil {
		return ""
	}
	entry := s.book.enter("", api.Record{Rule: rule.ID, Client: client, Method: api.MethodDNS, Query: name, Auth: api.AuthNone, Error: rule.Fault.Kind})
	entry.finish()
	return rule.Fault.Kind
}

// connState closes a connection that was used by somebody who is to meet a rule before the next request.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		s.idle.Delete(c)
		return
	}
	s.idle.Store(c, nil)
	s.endIfMet(c) // a rule that comes now ends it, or is seen here
}

// endIdle ends the idle connections of those whom a rule is for that is met before requests.
func (s *Server) endIdle() {
	s.idle.Range(func(c, _ any) bool {
		s.endIfMet(c.(net.Conn))
		return true
	})
}

func (s *Server) endIfMet(c net.Conn) {
	client := c.RemoteAddr().String()
	if s.rules.newest(func(a *activeRule) bool { return kinds[a.Fault.Kind].beforeRequests() && a.fitsClient(client) }) != nil {
		_ = beneath(c).Close()
	}
}

// ServePortal serves what is where a name leads that leads elsewhere: a login page and, of an https endpoint, another host's certificate.
func (s *Server) ServePortal(listener net.Listener) error {
	if s.tls != nil {
		config, err := configuration(s.certificates.OtherName)
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, config)
	}
	if err := s.portal.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func portal() *http.Server {
	return &http.Server{ReadHeaderTimeout: 10 * time.Second, ErrorLog: silent(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, loginPage)
	})}
}

// silent is for handshakes that clients break off.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }
