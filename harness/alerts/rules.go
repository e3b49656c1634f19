// Package alerts evaluates Prometheus alerting rules, with Prometheus' own parser and engine, on metrics that were read from the
// stack. It says for what an alert's expression is true.
//
// Prometheus calls such an alert pending, and firing once it was pending for as long as the rule's "for" says. Rules wait for minutes
// or hours, and a spec does not: so an alert "is told" here if its expression is true of real metrics, and Told.For is the bound within
// which a person hears of it, if that stays so. That it stays so is not looked at.
package alerts

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/smart-restore/conformance/harness/strict"
)

// Rules are the rules of a file, in its order.
type Rules struct{ rules []rule }

type rule struct {
	record, alert string // one of them
	expr          string
	after         time.Duration
	labels        map[string]string
}

// Read reads a file of rules: one that Prometheus itself reads, or a PrometheusRule of the Prometheus operator. Errors begin with the
// place: file:line:column.
func Read(path string) (*Rules, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(filepath.Base(path), raw)
}

// Parse is Read of what a file holds. Its name is for errors only.
func Parse(file string, raw []byte) (*Rules, error) {
	content, err := groupsOf(raw)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	groups, problems := rulefmt.Parse(content, false, model.UTF8Validation, promParser(), promslog.NewNopLogger())
	for i, problem := range problems {
		problems[i] = fmt.Errorf("%s:%w", file, problem)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	r := &Rules{}
	for _, group := range groups.Groups {
		for _, one := range group.Rules {
			labels := maps.Clone(one.Labels)
			if labels == nil {
				labels = map[string]string{}
			}
			for name, value := range group.Labels {
				if _, own := labels[name]; !own {
					labels[name] = value
				}
			}
			r.rules = append(r.rules, rule{one.Record, one.Alert, one.Expr, time.Duration(one.For), labels})
		}
	}
	if len(r.Names()) == 0 {
		return nil, fmt.Errorf("%s:1:1: no rule in it is an alert: wanted is groups[].rules[].alert, or a PrometheusRule with that in its spec", file)
	}
	return r, nil
}

func promParser() parser.Parser { return parser.NewParser(parser.Options{}) }

// Names are those of the alerts.
func (r *Rules) Names() (names []string) {
	for _, one := range r.rules {
		if one.alert != "" && !slices.Contains(names, one.alert) {
			names = append(names, one.alert)
		}
	}
	return names
}

// groupsOf is a rule file as Prometheus reads it. Of a PrometheusRule that is its spec, on the lines and columns that it has there.
func groupsOf(raw []byte) ([]byte, error) {
	var document yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(raw)).Decode(&document); err != nil || len(document.Content) == 0 {
		return raw, nil // Prometheus' own parser says it better
	}
	root := document.Content[0]
	kind, isObject := strict.Find(root, "kind")
	spec, hasSpec := strict.Find(root, "spec")
	end := len(raw) // the line of what follows the spec
	for i := 0; i < len(root.Content); i += 2 {
		if line := root.Content[i].Line; hasSpec && line > spec.Line {
			end = min(end, line)
		}
	}
	switch {
	case !isObject:
		return raw, nil
	case kind.Value != "PrometheusRule":
		return nil, fmt.Errorf("%d:%d: it is a %s: wanted is a PrometheusRule, or a rule file of Prometheus", kind.Line, kind.Column, kind.Value)
	case !hasSpec || spec.Kind != yaml.MappingNode || spec.Style&yaml.FlowStyle != 0:
		return nil, fmt.Errorf("%d:%d: wanted is a spec that is a mapping with groups, in block style", kind.Line, kind.Column)
	}
	lines := strings.Split(string(raw), "\n")
	for i := range lines {
		if line := i + 1; line < spec.Line || line >= end {
			lines[i] = ""
		}
	}
	return []byte(strings.Join(lines, "\n")), nil
}
