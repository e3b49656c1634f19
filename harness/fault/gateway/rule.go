package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How long a rule lives, in seconds. A rule always ends by itself, so that a
// fault also heals when whoever set it was killed.
const (
	DefaultTTLSeconds = 300
	MaxTTLSeconds     = 3600
)

// Rule says which requests meet a fault. A request has to fulfil every
// selector that is set; the newest rule that fits acts, and only that one.
type Rule struct {
	// ID names the rule in the control API and in the records it acted on.
	// Putting a rule whose ID exists heals the old one first.
	ID string `json:"id"`
	// PathPrefix is the beginning of the URL path as sent, still escaped, such
	// as "/volsync-backups/ns/pvc/". A listing of a bucket
	// (GET /bucket/?prefix=ns/pvc/) counts as being at /bucket/ns/pvc/: the
	// path alone would put every listing outside of every prefix. Empty: any.
	PathPrefix string `json:"pathPrefix,omitempty"`
	// ClientIPs are addresses without port. Empty: any.
	ClientIPs []string `json:"clientIPs,omitempty"`
	// UserAgentContains is a case-sensitive part of the User-Agent. Empty: any.
	UserAgentContains string `json:"userAgentContains,omitempty"`
	// Methods are HTTP methods in capitals. Empty: any.
	Methods []string `json:"methods,omitempty"`
	// Auth are sorts of credentials, by the names that Record.Auth has for
	// them: with ["aws4"] a rule meets those who sign their requests, such as
	// VolSync's movers, and not those who ask as anybody. Empty: any.
	Auth []string `json:"auth,omitempty"`
	// TTLSeconds is after how long the rule heals by itself: 0 means
	// DefaultTTLSeconds, more than MaxTTLSeconds is refused.
	TTLSeconds int `json:"ttlSeconds,omitempty"`
	// Fault is what happens to the requests.
	Fault Fault `json:"fault"`
}

// RuleStatus is a rule in force.
type RuleStatus struct {
	Rule
	// Hits counts the requests on which the rule acted.
	Hits int64 `json:"hits"`
	// Expires is when the rule heals by itself.
	Expires time.Time `json:"expires"`
}

// RuleList is the answer of GET /rules, newest first.
type RuleList struct {
	Rules []RuleStatus `json:"rules"`
}

var ruleID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)

// Validate says what is wrong with a rule, by the JSON name of the field.
func (r Rule) Validate() error {
	if !ruleID.MatchString(r.ID) {
		return fmt.Errorf("id: want up to 128 letters, digits or ._/- beginning with a letter or digit, found %q", r.ID)
	}
	if r.PathPrefix != "" && !strings.HasPrefix(r.PathPrefix, "/") {
		return fmt.Errorf("pathPrefix: want a path beginning with /, found %q", r.PathPrefix)
	}
	if strings.ContainsAny(r.PathPrefix, "?# ") {
		return fmt.Errorf("pathPrefix: want an escaped path without query, found %q", r.PathPrefix)
	}
	for i, ip := range r.ClientIPs {
		if _, err := netip.ParseAddr(ip); err != nil {
			return fmt.Errorf("clientIPs[%d]: want an IP address, found %q", i, ip)
		}
	}
	for i, m := range r.Methods {
		if m == "" || m != strings.ToUpper(m) {
			return fmt.Errorf("methods[%d]: want a method in capitals, found %q", i, m)
		}
	}
	for i, a := range r.Auth {
		if !slices.Contains(authKinds, a) {
			return fmt.Errorf("auth[%d]: want one of %s, found %q", i, strings.Join(authKinds, ", "), a)
		}
	}
	if r.TTLSeconds < 0 || r.TTLSeconds > MaxTTLSeconds {
		return fmt.Errorf("ttlSeconds: want 0 to %d, found %d", MaxTTLSeconds, r.TTLSeconds)
	}
	return r.Fault.validate()
}

// Fault is what happens to a request. Which parameters belong to which kind is
// in the table of kinds; one that does not belong is refused, since a fault
// that is not the one meant proves nothing.
type Fault struct {
	// Kind is a key of the table of kinds.
	Kind string `json:"kind"`
	// Status is the HTTP status of kinds status and redirect.
	Status int `json:"status,omitempty"`
	// Code is the S3 error code of kind status. Empty: one that fits Status.
	Code string `json:"code,omitempty"`
	// Body replaces the S3 error document of kind status.
	Body string `json:"body,omitempty"`
	// ContentType is that of Body. Empty: application/xml.
	ContentType string `json:"contentType,omitempty"`
	// Headers are added to the reply of kind status.
	Headers map[string]string `json:"headers,omitempty"`
	// Location is where kind redirect sends the client.
	Location string `json:"location,omitempty"`
	// Bytes is how much of the body kind truncate lets through. A body that
	// is no longer than this loses its last byte; one of unknown length, the
	// mark of its end.
	Bytes int64 `json:"bytes,omitempty"`
	// DelayMillis is how long kind slow waits before it passes a request on.
	DelayMillis int64 `json:"delayMillis,omitempty"`
	// KilobytesPerSecond is the rate of kind throttle, in 1000 bytes: of all
	// body bytes, in both directions, of all requests of the rule together, as
	// on one narrow line. restic would outrun a limit per request with its many
	// connections.
	KilobytesPerSecond int64 `json:"kilobytesPerSecond,omitempty"`
	// OnHeal is what becomes of the requests held by kind hang when the rule
	// ends: "reset" (default), or "answer", which passes them on late.
	OnHeal string `json:"onHeal,omitempty"`
}

func (f Fault) validate() error {
	k, ok := kinds[f.Kind]
	if !ok {
		return fmt.Errorf("fault.kind: want one of %s, found %q", strings.Join(kindNames(), ", "), f.Kind)
	}
	v := reflect.ValueOf(f)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name != "kind" && !v.Field(i).IsZero() && !slices.Contains(k.takes, name) {
			return fmt.Errorf("fault.%s: kind %s does not take it, it takes [%s]", name, f.Kind, strings.Join(k.takes, " "))
		}
	}
	if k.check == nil {
		return nil
	}
	if err := k.check(f); err != nil {
		return fmt.Errorf("fault of kind %s: %w", f.Kind, err)
	}
	return nil
}

// activeRule is a rule in force.
type activeRule struct {
	Rule
	clients []netip.Addr
	expires time.Time
	hits    atomic.Int64
	bodies  *line         // that bodies go over; nil: none
	healed  chan struct{} // closed when the rule ends
	expiry  *time.Timer
}

func (a *activeRule) fits(r *http.Request, client netip.Addr, resource string) bool {
	return strings.HasPrefix(resource, a.PathPrefix) &&
		(len(a.clients) == 0 || slices.Contains(a.clients, client)) &&
		(len(a.Methods) == 0 || slices.Contains(a.Methods, r.Method)) &&
		(len(a.Auth) == 0 || slices.Contains(a.Auth, authKind(r))) &&
		strings.Contains(r.UserAgent(), a.UserAgentContains)
}

// ruleSet is the rules in force, oldest first.
type ruleSet struct {
	mu    sync.RWMutex
	rules []*activeRule
}

func (s *ruleSet) put(r Rule) (RuleStatus, error) {
	if err := r.Validate(); err != nil {
		return RuleStatus{}, err
	}
	if r.TTLSeconds == 0 {
		r.TTLSeconds = DefaultTTLSeconds
	}
	ttl := time.Duration(r.TTLSeconds) * time.Second
	a := &activeRule{Rule: r, healed: make(chan struct{}), expires: time.Now().Add(ttl)}
	if k := kinds[r.Fault.Kind]; k.bodies {
		a.bodies = newLine(k.toxic(r.Fault))
	}
	for _, ip := range r.ClientIPs {
		a.clients = append(a.clients, netip.MustParseAddr(ip).Unmap())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(func(old *activeRule) bool { return old.ID == r.ID })
	s.rules = append(s.rules, a)
	a.expiry = time.AfterFunc(ttl, func() { s.remove(func(old *activeRule) bool { return old == a }) })
	return a.status(), nil
}

func (s *ruleSet) remove(which func(*activeRule) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(which)
}

// drop wants mu held.
func (s *ruleSet) drop(which func(*activeRule) bool) {
	s.rules = slices.DeleteFunc(s.rules, func(a *activeRule) bool {
		if !which(a) {
			return false
		}
		a.expiry.Stop()
		close(a.healed)
		if a.bodies != nil {
			go a.bodies.heal()
		}
		return true
	})
}

// match returns the newest rule that fits and counts the hit, or nil.
func (s *ruleSet) match(r *http.Request, client netip.Addr, resource string) *activeRule {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range slices.Backward(s.rules) {
		if a.fits(r, client, resource) {
			a.hits.Add(1)
			return a
		}
	}
	return nil
}

func (s *ruleSet) list() RuleList {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l := RuleList{Rules: []RuleStatus{}}
	for _, a := range slices.Backward(s.rules) {
		l.Rules = append(l.Rules, a.status())
	}
	return l
}

func (a *activeRule) status() RuleStatus {
	return RuleStatus{Rule: a.Rule, Hits: a.hits.Load(), Expires: a.expires}
}
