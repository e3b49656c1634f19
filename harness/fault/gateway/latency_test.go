package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// BenchmarkGet measures what the gateway adds to a small GET on a kept connection. Straight requests and those through it
// take turns, so that both meet the machine as it is.
func BenchmarkGet(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(serveObject))
	defer upstream.Close()
	g := startBefore(b, upstream.Listener.Addr().String(), 0)
	ways := []struct {
		name, addr string
		took       []time.Duration
	}{
		{name: "direct", addr: upstream.Listener.Addr().String()},
		{name: "gateway", addr: g.data},
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for b.Loop() {
		for i := range ways {
			began := time.Now()
			res, err := client.Get("http://" + ways[i].addr + "/b/k")
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				b.Fatal(err)
			}
			res.Body.Close()
			ways[i].took = append(ways[i].took, time.Since(began))
		}
	}
	for _, way := range ways {
		slices.Sort(way.took)
		b.ReportMetric(micros(percentile(way.took, 50)), way.name+"-median-µs")
		b.ReportMetric(micros(percentile(way.took, 99)), way.name+"-p99-µs")
	}
	b.ReportMetric(micros(percentile(ways[1].took, 50)-percentile(ways[0].took, 50)), "added-median-µs")
	b.ReportMetric(0, "ns/op") // of both together, which says nothing
}

// percentile wants sorted times.
func percentile(took []time.Duration, p int) time.Duration {
	return took[min(len(took)*p/100, len(took)-1)]
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
