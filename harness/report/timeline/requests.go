package timeline

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/probe"
)

// slowRequest is what a request takes at least to be shown as a span.
const slowRequest = 500 * time.Millisecond

// readRequests takes the requests that reached the endpoint. Those that packets were dropped of did not.
func (w *world) readRequests(path string) error {
	return eachLine(path, func(line []byte) {
		var r gateway.Record
		if json.Unmarshal(line, &r) != nil {
			return // the gateway's own words
		}
		namespace, key := objectOf(r)
		b := w.in(namespace, r.Time)
		if b == nil {
			return
		}
		lane := b.lane(S3, sender(r))
		took := time.Duration(r.DurationMillis * float64(time.Millisecond))
		class, state := fmt.Sprintf("%s %d", r.Method, r.Status), Plain
		if r.Status == 0 {
			class = r.Method + " without a reply"
		}
		if r.Rule != "" {
			class += " by the fault"
		}
		if r.Rule != "" {
			state = Bad
		} else if r.Error != "" || r.Status == 0 || r.Status >= 400 && r.Status != 404 {
			state = Warn
		}
		text := fmt.Sprintf("%s %s: %d in %.0f ms", r.Method, key, r.Status, r.DurationMillis)
		if r.Status == 0 {
			text = fmt.Sprintf("%s %s: no reply in %.0f ms", r.Method, key, r.DurationMillis)
		}
		if r.Error != "" {
			text += ", " + r.Error
		}
		if r.Rule != "" {
			text += ", by the fault"
		}
		if took >= slowRequest {
			lane.Spans = append(lane.Spans, Span{From: r.Time, To: r.Time.Add(took), State: state, Text: short(text)})
			return
		}
		lane.point(Point{At: r.Time, State: state, Text: short(text), class: class})
	})
}

// objectOf finds the namespace that a request is about, and what in it: in its path, or in the prefix that it lists.
func objectOf(r gateway.Record) (namespace, key string) {
	parts := strings.SplitN(strings.TrimPrefix(r.Path, "/"), "/", 3)
	if len(parts) == 3 && parts[1] != "" {
		return parts[1], shorten(parts[2])
	}
	query, err := url.ParseQuery(r.Query)
	if err != nil {
		return "", ""
	}
	namespace, key, _ = strings.Cut(query.Get("prefix"), "/")
	return namespace, "list " + key
}

// shorten leaves of a restic object's name what a person can tell it by.
func shorten(key string) string {
	at := strings.LastIndexByte(key, '/') + 1
	if name := key[at:]; len(name) == 64 {
		return key[:at] + name[:8] + "…"
	}
	return key
}

// sender is who a request is from, as far as it shows.
func sender(r gateway.Record) string {
	switch {
	case r.UserAgent == probe.UserAgent:
		return "asked by the suite"
	case r.To == gateway.ToOracle:
		return "the oracle, asked by Kyverno"
	case r.UserAgent == gateway.OracleAgent:
		return "asked by the oracle"
	case r.Auth == gateway.AuthNone:
		return "asked by Kyverno"
	}
	return "asked by restic" // movers, and the suite's own look into a repository
}
