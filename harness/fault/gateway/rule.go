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
	"time"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

var ruleID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)

// Validate says what is wrong with a rule, by the JSON name of the field.
func Validate(r api.Rule) error {
	if !ruleID.MatchString(r.ID) {
		return fmt.Errorf("id: want up to 128 letters, digits or ._/- beginning with a letter or digit, found %q", r.ID)
	}
	if r.PathPrefix != "" && !strings.HasPrefix(r.PathPrefix, "/") {
		return fmt.Errorf("pathPrefix: want a path beginning with /, found %q", r.PathPrefix)
	}
	if strings.ContainsAny(r.PathPrefix, "?# ") {
		return fmt.Errorf("pathPrefix: want an escaped path without query, found %q", r.PathPrefix)
	}
	for i, m := range r.Methods {
		if m == "" || m != strings.ToUpper(m) {
			return fmt.Errorf("methods[%d]: want a method in capitals, found %q", i, m)
		}
	}
	for i, a := range r.Auth {
		if !slices.Contains(api.AuthKinds(), a) {
			return fmt.Errorf("auth[%d]: want one of %s, found %q", i, strings.Join(api.AuthKinds(), ", "), a)
		}
	}
	if !slices.Contains([]string{"", api.AboutObjects, api.AboutListings}, r.About) {
		return fmt.Errorf("about: want %s or %s, found %q", api.AboutObjects, api.AboutListings, r.About)
	}
	if r.To != "" && r.To != api.ToOracle {
		return fmt.Errorf("to: want %s or nothing, found %q", api.ToOracle, r.To)
	}
	if kinds[r.Fault.Kind].oracle && r.To != api.ToOracle {
		return fmt.Errorf("fault of kind %s: want a rule to %s: S3 does not speak so", r.Fault.Kind, api.ToOracle)
	}
	for i, c := range r.Clients {
		if _, err := netip.ParseAddr(c); err != nil {
			return fmt.Errorf("clients[%d]: want an IP address, found %q", i, c)
		}
	}
	if k := kinds[r.Fault.Kind]; k.beforeRequests() && (r.PathPrefix != "" || len(r.Methods) > 0 || len(r.Auth) > 0 || r.About != "" || r.To != "") {
		return fmt.Errorf("fault of kind %s: want no selector but clients: it is met before there is a request", r.Fault.Kind)
	}
	if r.TTLSeconds < 0 || r.TTLSeconds > api.MaxTTLSeconds {
		return fmt.Errorf("ttlSeconds: want 0 to %d, found %d", api.MaxTTLSeconds, r.TTLSeconds)
	}
	return validateFault(r.Fault)
}

func validateFault(f api.Fault) error {
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
	api.Rule
	expires time.Time
	bodies  *line         // that bodies go over; nil: none
	healed  chan struct{} // closed when the rule ends
	expiry  *time.Timer

	mu       sync.Mutex
	answered map[string]int // questions so far, of a rule that counts them
}

// counts counts a question by who asks what, and says whether it is one of the first so many. 0: all are.
func (a *activeRule) counts(by string, most int) bool {
	if most == 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answered == nil {
		a.answered = map[string]int{}
	}
	a.answered[by]++
	return a.answered[by] <= most
}

func (a *activeRule) fits(r *http.Request, to, resource string) bool {
	return !kinds[a.Fault.Kind].beforeRequests() &&
		a.To == to &&
		a.fitsClient(r.RemoteAddr) &&
		strings.HasPrefix(resource, a.PathPrefix) &&
		(len(a.Methods) == 0 || slices.Contains(a.Methods, r.Method)) &&
		(len(a.Auth) == 0 || slices.Contains(a.Auth, authKind(r))) &&
		(a.About == "" || a.About == about(r))
}

// fitsClient says whether it is a rule for who is at an address, ip:port.
func (a *activeRule) fitsClient(address string) bool {
	return len(a.Clients) == 0 || slices.Contains(a.Clients, clientOf(address))
}

// clientOf is the IP address of ip:port, as rules have it.
func clientOf(address string) string {
	from, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	return from.Addr().Unmap().String()
}

// ruleSet is the rules in force, oldest first.
type ruleSet struct {
	mu    sync.RWMutex
	rules []*activeRule
}

func (s *ruleSet) put(r api.Rule) (api.RuleStatus, error) {
	if err := Validate(r); err != nil {
		return api.RuleStatus{}, err
	}
	if r.TTLSeconds == 0 {
		r.TTLSeconds = api.DefaultTTLSeconds
	}
	ttl := time.Duration(r.TTLSeconds) * time.Second
	a := &activeRule{Rule: r, healed: make(chan struct{}), expires: time.Now().Add(ttl)}
	if k := kinds[r.Fault.Kind]; k.bodies {
		a.bodies = newLine(k.toxic(r.Fault))
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

// match returns the newest rule that fits, or nil.
func (s *ruleSet) match(r *http.Request, to, resource string) *activeRule {
	return s.newest(func(a *activeRule) bool { return a.fits(r, to, resource) })
}

func (s *ruleSet) newest(fits func(*activeRule) bool) *activeRule {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range slices.Backward(s.rules) {
		if fits(a) {
			return a
		}
	}
	return nil
}

func (s *ruleSet) list() api.RuleList {
	s.mu.RLock()
	defer s.mu.RUnlock()
	l := api.RuleList{Rules: []api.RuleStatus{}}
	for _, a := range slices.Backward(s.rules) {
		l.Rules = append(l.Rules, a.status())
	}
	return l
}

func (a *activeRule) status() api.RuleStatus {
	return api.RuleStatus{Rule: a.Rule, Expires: a.expires}
}
