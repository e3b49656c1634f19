package endpoint

import "testing"

func TestEndpointWithoutPortIsPort80(t *testing.T) {
	e, err := Parse("http://192.168.1.1/")
	if err != nil || e.Addr.String() != "192.168.1.1:80" || e.URL != "http://192.168.1.1" {
		t.Errorf("got %+v, %v", e, err)
	}
}
