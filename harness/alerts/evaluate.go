package alerts

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// Scrape is what a target's /metrics said at a time.
type Scrape struct {
	At     time.Time
	Target map[string]string // labels that a scrape adds, such as namespace and pod; a metric's own are called exported_… beside them
	Text   []byte
	// Without says of which series to make as if they were not there; nil: of none.
	Without func(labels map[string]string) bool
}

// Told is an alert whose expression is true.
type Told struct {
	Alert  string
	Labels map[string]string // of what it is true for, and of the rule
	For    time.Duration     // how long that must last until the alert fires
}

func (t Told) String() string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(t.Labels)) {
		pairs = append(pairs, name+"="+t.Labels[name])
	}
	return fmt.Sprintf("%s{%s} for %s", t.Alert, strings.Join(pairs, ", "), t.For)
}

// Has says whether each of the values is the value of some label. What the label is called is the rule's business.
func (t Told) Has(values ...string) bool {
	found := slices.Collect(maps.Values(t.Labels))
	return !slices.ContainsFunc(values, func(value string) bool { return !slices.Contains(found, value) })
}

// Says lists what it says of a metric, for the labels that keep takes, as name{labels} value.
func (s Scrape) Says(metric string, keep func(labels map[string]string) bool) (lines []string, err error) {
	s.Without = func(labels map[string]string) bool {
		return labels[model.MetricNameLabel] != metric || !keep(labels)
	}
	s.Target = nil
	samples := series{}
	err = samples.add(s)
	for _, key := range slices.Sorted(maps.Keys(samples)) {
		lines = append(lines, fmt.Sprintf("%s %g", key, samples[key].Floats[0].F))
	}
	return lines, err
}

// lookback is Prometheus' own default: how long a sample counts that nothing followed.
const lookback = 5 * time.Minute

// Tell says which alerts are true at a time, after these scrapes. Rules see nothing else: no earlier sample, and no other target.
func (r *Rules) Tell(ctx context.Context, at time.Time, scrapes ...Scrape) (told []Told, err error) {
	samples := series{}
	for _, scrape := range scrapes {
		if err := samples.add(scrape); err != nil {
			return nil, err
		}
	}
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 10_000_000, Timeout: 10 * time.Second, LookbackDelta: lookback, EnableAtModifier: true, EnableNegativeOffset: true, Parser: promParser(),
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})
	defer func() { _ = engine.Close() }()
	for _, one := range r.rules {
		query, err := engine.NewInstantQuery(ctx, samples, nil, one.expr, at)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.alert+one.record, err)
		}
		result := query.Exec(ctx)
		found, err := vector(result)
		query.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.alert+one.record, err)
		}
		for _, sample := range found {
			names := sample.Metric.Map()
			delete(names, model.MetricNameLabel)
			maps.Copy(names, one.labels)
			if one.alert != "" {
				told = append(told, Told{one.alert, names, one.after})
				continue
			}
			names[model.MetricNameLabel] = one.record
			samples.append(names, at, sample.F)
		}
	}
	return told, nil
}

// vector is what Prometheus makes of a rule's result.
func vector(result *promql.Result) (promql.Vector, error) {
	if scalar, ok := result.Value.(promql.Scalar); ok && result.Err == nil {
		return promql.Vector{{T: scalar.T, F: scalar.V}}, nil
	}
	return result.Vector()
}

// series are samples in memory, by their labels.
type series map[string]*promql.Series

// add takes in what a target said.
func (s series) add(scrape Scrape) error {
	decoder := expfmt.NewTextParser(model.UTF8Validation)
	families, err := decoder.TextToMetricFamilies(bytes.NewReader(scrape.Text))
	if err != nil {
		return fmt.Errorf("metrics of %v: %w", scrape.Target, err)
	}
	for _, family := range families {
		samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(scrape.At.UnixNano())}, family)
		if err != nil {
			return fmt.Errorf("metrics of %v: %w", scrape.Target, err)
		}
		for _, sample := range samples {
			names := map[string]string{}
			for name, value := range sample.Metric {
				names[string(name)] = string(value)
			}
			if scrape.Without != nil && scrape.Without(names) {
				continue
			}
			for name, value := range scrape.Target {
				if own, taken := names[name]; taken {
					names["exported_"+name] = own
				}
				names[name] = value
			}
			s.append(names, sample.Timestamp.Time(), float64(sample.Value))
		}
	}
	return nil
}

func (s series) append(names map[string]string, at time.Time, value float64) {
	of := labels.FromMap(names)
	key := of.String()
	if s[key] == nil {
		s[key] = &promql.Series{Metric: of}
	}
	points := append(s[key].Floats, promql.FPoint{T: at.UnixMilli(), F: value})
	slices.SortStableFunc(points, func(a, b promql.FPoint) int { return cmp.Compare(a.T, b.T) })
	s[key].Floats = points
}

// Querier implements storage.Queryable.
func (s series) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: s.matching}, nil
}

// matching are the series that all of these match. The engine itself looks at times.
func (s series) matching(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := &set{}
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if one := s[key]; !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(one.Metric.Get(m.Name)) }) {
			found.rest = append(found.rest, promql.NewStorageSeries(*one))
		}
	}
	return found
}

// set implements storage.SeriesSet.
type set struct {
	current storage.Series
	rest    []storage.Series
}

func (s *set) Next() bool {
	if len(s.rest) == 0 {
		return false
	}
	s.current, s.rest = s.rest[0], s.rest[1:]
	return true
}

func (s *set) At() storage.Series                { return s.current }
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }
