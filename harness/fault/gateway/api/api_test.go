package api

import "testing"

func TestAnswer(t *testing.T) {
	for want, r := range map[string]Record{
		"200":                         {Status: 200, BytesOut: 3},
		"200, then connection closed": {Status: 200, BytesOut: 3, Ended: EndedClosed},
		"34 bytes that are no HTTP reply, then connection reset": {RawBytes: 34, Ended: EndedReset},
		"no answer, connection reset":                            {Ended: EndedReset},
		"no answer":                                              {Ended: EndedReset, Error: "the client went while it was held"},
	} {
		if got := r.Answer(); got != want {
			t.Errorf("want %q, found %q", want, got)
		}
	}
}
