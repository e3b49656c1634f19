package picture

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	data := func(pvc PVC) Picture { return Picture{"shop/data": pvc} }
	restored := PVC{Claim: There, Decision: "restore", Source: Done, Destination: Done, App: Runs, Volume: Content("shop/data", 1), Latest: Content("shop/data", 1)}
	for name, c := range map[string]struct {
		events                int
		foreseen, shown       []Picture
		differences           []Difference
		compared, notLookedAt int
		unseen                []int
	}{
		"the same": {1, []Picture{data(restored)}, []Picture{data(restored)}, nil, 7, 0, nil},
		"a field differs": {
			2, []Picture{data(restored), data(PVC{Source: Held, App: Off})}, []Picture{data(restored), data(PVC{Source: Done, App: Off})},
			[]Difference{{2, "shop/data", "ReplicationSource", Held, Done}}, 9, 5, nil,
		},
		"other content": {
			1, []Picture{data(PVC{Volume: Content("shop/data", 1), Latest: Nothing})}, []Picture{data(PVC{Volume: Content("shop/data", 3), Latest: None})},
			[]Difference{
				{1, "shop/data", "volume", "what shop/data has of event 1", "what shop/data has of event 3"},
				{1, "shop/data", "latest snapshot", Nothing, None},
			}, 2, 5, nil,
		},
		"what one has not looked at is not equal": {1, []Picture{data(PVC{Claim: There, App: Runs})}, []Picture{data(PVC{Claim: There, Volume: Nothing})}, nil, 1, 6, nil},
		"nobody has looked at an event":           {2, []Picture{data(restored), data(PVC{})}, []Picture{data(restored), data(PVC{})}, nil, 7, 7, []int{2}},
		"one ended before the other":              {2, []Picture{data(restored), data(restored)}, []Picture{data(restored)}, nil, 7, 7, []int{2}},
		"both ended before the end":               {2, []Picture{data(restored)}, []Picture{data(restored)}, nil, 7, 0, []int{2}},
		"a PVC that one does not know": {
			1, []Picture{{"shop/data": PVC{Claim: There}, "office/data": PVC{Claim: None}}}, []Picture{data(PVC{Claim: There})}, nil, 1, 13, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Compare(c.events, c.foreseen, c.shown)
			if !slices.Equal(got.Differences, c.differences) {
				t.Errorf("differences %+v, want %+v", got.Differences, c.differences)
			}
			if got.Compared != c.compared || got.NotLookedAt != c.notLookedAt || !slices.Equal(got.Unseen, c.unseen) {
				t.Errorf("%d compared, %d not looked at, unseen %v, want %d, %d and %v", got.Compared, got.NotLookedAt, got.Unseen, c.compared, c.notLookedAt, c.unseen)
			}
		})
	}
}

// A field that is not compared would be one in which nobody sees a difference.
func TestEveryFieldIsCompared(t *testing.T) {
	if n := reflect.TypeFor[PVC]().NumField(); len(fields) != n {
		t.Errorf("%d fields are compared, and a PVC has %d", len(fields), n)
	}
	for i := range reflect.TypeFor[PVC]().NumField() {
		var a, b PVC
		reflect.ValueOf(&a).Elem().Field(i).SetString("this")
		reflect.ValueOf(&b).Elem().Field(i).SetString("that")
		if r := Compare(1, []Picture{{"shop/data": a}}, []Picture{{"shop/data": b}}); len(r.Differences) != 1 {
			t.Errorf("a difference in %s is not seen: %+v", reflect.TypeFor[PVC]().Field(i).Name, r)
		}
	}
}

func TestStill(t *testing.T) {
	got := Picture{"shop/data": {Claim: There, Decision: "restore", Source: Works, Destination: Works, App: Held, Volume: Nothing, Latest: None}}.Still()
	if want := (PVC{Claim: There, Decision: "restore"}); got["shop/data"] != want {
		t.Errorf("%+v, want %+v", got["shop/data"], want)
	}
}

func TestSeveral(t *testing.T) {
	for want, states := range map[string][]string{None: nil, Done: {Done}, "done and held": {Held, Done}, "": {Done, ""}} {
		if got := Several(states); got != want {
			t.Errorf("%v: %q, want %q", states, got, want)
		}
	}
}

func TestText(t *testing.T) {
	var got strings.Builder
	Picture{
		"shop/data":   {Claim: There, Decision: "restore", Source: Done, Destination: None, App: Off, Latest: Content("shop/data", 1)},
		"office/data": {Claim: None, App: Off},
	}.Text(&got)
	if want := "      shop/data: PVC: there, decision: restore, ReplicationSource: done, latest snapshot: what shop/data has of event 1\n"; got.String() != want {
		t.Errorf("%q, want %q", got.String(), want)
	}
}

func TestWithin(t *testing.T) {
	p := Picture{"shop/data": {}, "shop/data-2": {}, "office/data": {}, "shops/data": {}}
	if got := keys(p.Within([]string{"shop"}), nil); !slices.Equal(got, []string{"shop/data", "shop/data-2"}) {
		t.Errorf("%v", got)
	}
	if len(p) != 4 {
		t.Errorf("%d are left of it", len(p))
	}
}
