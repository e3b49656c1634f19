package timeline

import (
	"encoding/json"
	"time"

	"github.com/smart-restore/conformance/harness/verdict"
)

// suiteLane is the one lane of what a spec did and saw.
const suiteLane = "spec"

// evidence puts on the timeline what the spec recorded, and where it gave up.
func (b *builder) evidence(result verdict.Result) {
	lane := b.lane(Suite, suiteLane)
	var faults []Span
	open := map[string]int{} // by name, its place in faults
	for _, e := range result.Evidence {
		b.said = true
		if e.Kind == verdict.KindFault {
			name, _ := e.Data["fault"].(string)
			on, _ := e.Data["on"].(bool)
			if i, is := open[name]; is && !on {
				faults[i].To = e.Time
				delete(open, name)
			} else if !is && on {
				open[name] = len(faults)
				faults = append(faults, Span{From: e.Time, To: b.To, State: Bad, Text: name + ": " + short(e.Text)})
			}
		}
		lane.point(Point{At: e.Time, Text: short(e.Text), class: e.Kind})
	}
	if len(faults) > 0 {
		b.lane(Fault, "S3").Spans = faults
	}
	if !result.FailedAt.IsZero() {
		lane.point(Point{At: result.FailedAt, State: Bad, Text: string(result.Verdict) + ": " + short(verdict.FirstLine(result.Message))})
	}
}

// readProgress is for specs of which the report has no evidence, because their process died: what they did is in the
// progress file all the same.
func (w *world) readProgress(path string) error {
	return eachLine(path, func(line []byte) {
		var p struct {
			Time       time.Time
			Spec, Text string
		}
		if json.Unmarshal(line, &p) != nil {
			return // cut short
		}
		if b := w.specs[p.Spec]; b != nil && !b.said && !p.Time.Before(b.From) && !p.Time.After(b.To) {
			b.lane(Suite, suiteLane).point(Point{At: p.Time, Text: short(p.Text)})
		}
	})
}
