package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// BenchmarkGet measures a small GET on a kept connection, straight and through
// the gateway; the difference of the medians is what the gateway adds.
func BenchmarkGet(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(serveObject))
	defer upstream.Close()
	g := startBefore(b, upstream.Listener.Addr().String(), 0)
	for _, way := range []struct{ name, addr string }{
		{"direct", upstream.Listener.Addr().String()},
		{"gateway", g.data},
	} {
		b.Run(way.name, func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				res, err := client.Get("http://" + way.addr + "/b/k")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					b.Fatal(err)
				}
				res.Body.Close()
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
