package app

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
)

func TestWhatIsRestoredOfAnAppThatKeepsWriting(t *testing.T) {
	moment := func(ctx context.Context, a *App) { a.HoldsAMoment(ctx, 40) }
	wentOn := func(ctx context.Context, a *App) { a.WentOn(ctx, 40) }
	torn := func(ctx context.Context, a *App) { a.TornFileByFile(ctx) }
	whole, broken := reply{stdout: `{"log":41,"table":40}`}, reply{stdout: `{"log":41,"table":52,"broken":"the table is of later"}`}
	for name, c := range map[string]struct {
		part       func(context.Context, *App)
		replies    []reply
		want, says string
	}{
		"of a moment":                     {moment, []reply{whole}, "pass", ""},
		"of the moment before":            {moment, []reply{{stdout: `{"log":40,"table":40}`}}, "pass", ""},
		"of no one moment":                {moment, []reply{broken}, "fail", "the table is of later"},
		"older than the backup":           {moment, []reply{{stdout: `{"log":39,"table":39}`}}, "fail", "record 40 was on the disk"},
		"nothing":                         {moment, []reply{{code: 1, stderr: "no such file"}}, "fail", "no such file"},
		"not seen":                        {moment, []reply{{lost: true}}, "unknown", "connection reset"},
		"it went on":                      {wentOn, []reply{broken}, "pass", ""},
		"it wrote no more":                {wentOn, []reply{{stdout: `{"log":40,"table":40}`}}, "unknown", "did not write"},
		"a copy is torn":                  {torn, []reply{broken}, "pass", ""},
		"there is no log at first":        {torn, []reply{{code: 1, stderr: "no such file"}, whole, broken}, "pass", ""},
		"a copy is whole":                 {torn, []reply{whole}, "unknown", "not of one moment"},
		"how a copy is could not be seen": {torn, []reply{{lost: true}}, "unknown", "connection reset"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &App{env: in(t, env.Parts{Pods: &agent{replies: c.replies}}), pod: "app-data"}
				check(t, recorded.Outcome(func() { c.part(t.Context(), a) }), c.want, c.says)
			})
		})
	}
}
