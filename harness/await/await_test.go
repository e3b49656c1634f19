package await

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smart-restore/conformance/harness/timing"
)

// recorder ends a spec as Ginkgo does: by a panic.
type recorder struct {
	verdict, reason string
	evidence        []string
}

type ended struct{}

func (r *recorder) Evidence(_, text string, _ map[string]any) { r.evidence = append(r.evidence, text) }
func (r *recorder) Fail(reason string)                        { r.verdict, r.reason = "fail", reason; panic(ended{}) }
func (r *recorder) Unknown(reason string)                     { r.verdict, r.reason = "unknown", reason; panic(ended{}) }

// run says what a body comes to: fail, unknown or, where it ends by itself, pass.
func run(t *testing.T, body func(Verbs)) *recorder {
	t.Helper()
	r := &recorder{}
	func() {
		defer func() {
			if e := recover(); e != nil {
				if _, ok := e.(ended); !ok {
					panic(e)
				}
			}
		}()
		body(Verbs{Reporter: r, Times: timing.Default()})
		r.verdict = "pass"
	}()
	return r
}

var errAPI = errors.New("connection refused")

// script plays looks one after the other, by the second in which they are made; the last one stays.
type step struct {
	from  time.Duration
	state State
	err   error
}

func script(steps ...step) Look {
	start := time.Now()
	return func(context.Context) (State, error) {
		now := steps[0]
		for _, s := range steps {
			if time.Since(start) >= s.from {
				now = s
			}
		}
		return now.state, now.err
	}
}

func TestArrangeAndEventually(t *testing.T) {
	const within = 20 * time.Second
	for name, c := range map[string]struct {
		steps               []step
		arrange, eventually string
		says                string
	}{
		"at once":                      {[]step{{state: Reached()}}, "pass", "pass", ""},
		"later":                        {[]step{{state: NotYet("no")}, {from: 19 * time.Second, state: Reached()}}, "pass", "pass", ""},
		"never":                        {[]step{{state: NotYet("no such thing")}}, "unknown", "fail", "no such thing, for 20"},
		"too late":                     {[]step{{state: NotYet("no")}, {from: 21 * time.Second, state: Reached()}}, "unknown", "fail", "no"},
		"ruled out":                    {[]step{{state: NotYet("no")}, {from: time.Second, state: RuledOut("it is gone")}}, "unknown", "fail", "it is gone"},
		"always blind":                 {[]step{{err: errAPI}}, "unknown", "unknown", "connection refused"},
		"blind at the end":             {[]step{{state: NotYet("no")}, {from: 10 * time.Second, err: errAPI}}, "unknown", "unknown", "connection refused"},
		"blind at first":               {[]step{{err: errAPI}, {from: 10 * time.Second, state: NotYet("no")}}, "unknown", "fail", "no"},
		"blind in between":             {[]step{{state: NotYet("no")}, {from: time.Second, err: errAPI}, {from: 2 * time.Second, state: Reached()}}, "pass", "pass", ""},
		"late by what was blind":       {[]step{{err: errAPI}, {from: 10 * time.Second, state: NotYet("no")}, {from: 29 * time.Second, state: Reached()}}, "pass", "pass", ""},
		"blind for longer than it has": {[]step{{err: errAPI}, {from: 35 * time.Second, state: NotYet("no")}}, "unknown", "unknown", "nothing could be seen"},
		"no state":                     {[]step{{}}, "unknown", "unknown", "no state"},
		"a wrapped error":              {[]step{{err: fmt.Errorf("list: %w", errAPI)}}, "unknown", "unknown", "list: connection refused"},
	} {
		for verb, want := range map[string]string{"arrange": c.arrange, "eventually": c.eventually} {
			t.Run(name+"/"+verb, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					look := script(c.steps...)
					r := run(t, func(v Verbs) {
						if verb == "arrange" {
							v.Arrange(t.Context(), "the end", within, look)
						} else {
							v.Eventually(t.Context(), "the end", within, look)
						}
					})
					if r.verdict != want || !strings.Contains(r.reason, c.says) {
						t.Errorf("%s, wanted %s and %q: %s", r.verdict, want, c.says, r.reason)
					}
					// Of what the harness did at once there is nothing to read.
					if quiet := verb == "arrange" && name == "at once"; want == "pass" && (len(r.evidence) == 0) != quiet {
						t.Errorf("evidence: %q", r.evidence)
					}
				})
			})
		}
	}
}

func TestThroughout(t *testing.T) {
	const window = 20 * time.Second
	type look struct {
		from      time.Duration
		violation string
		err       error
	}
	for name, c := range map[string]struct {
		looks      []look
		want, says string
	}{
		"all is well":                {[]look{{}}, "pass", ""},
		"seen at once":               {[]look{{violation: "it was made"}}, "fail", "it was made"},
		"seen at the end":            {[]look{{}, {from: 19 * time.Second, violation: "it was made"}}, "fail", "it was made"},
		"seen after it":              {[]look{{}, {from: 21 * time.Second, violation: "it was made"}}, "pass", ""},
		"a short gap":                {[]look{{}, {from: 5 * time.Second, err: errAPI}, {from: 7 * time.Second}}, "pass", ""},
		"a long gap":                 {[]look{{}, {from: 5 * time.Second, err: errAPI}, {from: 15 * time.Second}}, "unknown", "a gap"},
		"a long gap, and then seen":  {[]look{{}, {from: 5 * time.Second, err: errAPI}, {from: 15 * time.Second, violation: "it was made"}}, "fail", "it was made"},
		"blind at the end":           {[]look{{}, {from: 19 * time.Second, err: errAPI}}, "unknown", "connection refused"},
		"blind at the end for a bit": {[]look{{}, {from: 19 * time.Second, err: errAPI}, {from: 22 * time.Second}}, "pass", ""},
		"always blind":               {[]look{{err: errAPI}}, "unknown", "connection refused"},
	} {
		for how, verb := range map[string]func(Verbs, context.Context, string, time.Duration, Watch){"": Verbs.Throughout, " of what lasts": Verbs.ThroughoutLasting} {
			want := c.want
			if how != "" && c.says == "a gap" { // a gap hides nothing then
				want = "pass"
			}
			t.Run(name+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					r := run(t, func(v Verbs) {
						verb(v, t.Context(), "nothing made", window, func(context.Context) (string, error) {
							now := c.looks[0]
							for _, l := range c.looks {
								if time.Since(start) >= l.from {
									now = l
								}
							}
							return now.violation, now.err
						})
					})
					if r.verdict != want || want == c.want && !strings.Contains(r.reason, c.says) {
						t.Errorf("%s, wanted %s and %q: %s", r.verdict, want, c.says, r.reason)
					}
					if took := time.Since(start); want == "pass" && took < window {
						t.Errorf("looked for %s only", took)
					}
				})
			})
		}
	}
}

func TestAnInterruptIsUnknown(t *testing.T) {
	for name, body := range map[string]func(context.Context, Verbs){
		"arrange": func(ctx context.Context, v Verbs) {
			v.Arrange(ctx, "the end", time.Hour, script(step{state: NotYet("no")}))
		},
		"eventually": func(ctx context.Context, v Verbs) {
			v.Eventually(ctx, "the end", time.Hour, script(step{state: NotYet("no")}))
		},
		"throughout": func(ctx context.Context, v Verbs) {
			v.Throughout(ctx, "the end", time.Hour, func(context.Context) (string, error) { return "", nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				if r := run(t, func(v Verbs) { body(ctx, v) }); r.verdict != "unknown" || !strings.Contains(r.reason, "interrupted") {
					t.Errorf("%s: %s", r.verdict, r.reason)
				}
			})
		})
	}
}

// A look is cut off after Times.Look, and is blind then; what it would have seen is not made up.
func TestALookThatHangsIsBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, func(v Verbs) {
			v.Eventually(t.Context(), "the end", 20*time.Second, func(ctx context.Context) (State, error) {
				<-ctx.Done()
				return State{}, ctx.Err()
			})
		})
		if r.verdict != "unknown" || !strings.Contains(r.reason, "deadline exceeded") {
			t.Errorf("%s: %s", r.verdict, r.reason)
		}
	})
}

// A look that takes long leaves a gap, too: what it saw may be of its beginning.
func TestASlowLookIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		r := run(t, func(v Verbs) {
			v.Throughout(t.Context(), "nothing made", 20*time.Second, func(context.Context) (string, error) {
				if looks++; looks == 5 {
					time.Sleep(v.Times.Gap + time.Second)
				}
				return "", nil
			})
		})
		if r.verdict != "unknown" || !strings.Contains(r.reason, "a gap") {
			t.Errorf("%s: %s", r.verdict, r.reason)
		}
	})
}
