package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkBody measures large bodies, straight and through the gateway in turns. Client, gateway and server share the
// cores, and server and client do nothing with the bytes, so the rates are far from restic's. The difference of the
// processor times is what the gateway costs, on a busy machine too.
func BenchmarkBody(b *testing.B) {
	const size = 64 << 20
	content := make([]byte, size)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 256<<10))
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(content)
	}))
	defer upstream.Close()
	g := startBefore(b, upstream.Listener.Addr().String(), 0)
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		b.Run(method, func(b *testing.B) {
			ways := []struct {
				name, addr string
				took       []time.Duration
				cpu        time.Duration
			}{
				{name: "direct", addr: upstream.Listener.Addr().String()},
				{name: "gateway", addr: g.data},
			}
			client := &http.Client{Transport: &http.Transport{WriteBufferSize: 256 << 10}}
			defer client.CloseIdleConnections()
			sink := make([]byte, 256<<10)
			for b.Loop() {
				for i := range ways {
					var body io.Reader
					if method == http.MethodPut {
						body = bytes.NewReader(content)
					}
					began, used := time.Now(), cpuTime(b)
					req, err := http.NewRequest(method, "http://"+ways[i].addr+"/b/k", body)
					if err != nil {
						b.Fatal(err)
					}
					res, err := client.Do(req)
					if err != nil {
						b.Fatal(err)
					}
					n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, res.Body, sink)
					if err != nil || method == http.MethodGet && n != size {
						b.Fatalf("%d bytes, %v", n, err)
					}
					res.Body.Close()
					ways[i].took = append(ways[i].took, time.Since(began))
					ways[i].cpu += cpuTime(b) - used
				}
			}
			for _, way := range ways {
				slices.Sort(way.took)
				b.ReportMetric(size/1e6/percentile(way.took, 50).Seconds(), way.name+"-MB/s")
				b.ReportMetric(way.cpu.Seconds()*1000/float64(len(way.took)), way.name+"-cpu-ms")
			}
			b.ReportMetric(0, "ns/op") // of both together, which says nothing
		})
	}
}

// cpuTime is the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
