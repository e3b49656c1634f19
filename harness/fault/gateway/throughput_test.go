package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"
)

// BenchmarkBody measures large bodies, straight and through the gateway. Client, gateway and server share the cores, and
// server and client do nothing with the bytes, so the rates are far from restic's. The difference of the processor times
// is what the gateway costs, on a busy machine too.
func BenchmarkBody(b *testing.B) {
	const size = 16 << 20 // restic's packs
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
		for _, way := range []struct{ name, addr string }{
			{"direct", upstream.Listener.Addr().String()},
			{"gateway", g.data},
		} {
			b.Run(method+"/"+way.name, func(b *testing.B) {
				client := &http.Client{Transport: &http.Transport{WriteBufferSize: 256 << 10}}
				defer client.CloseIdleConnections()
				sink := make([]byte, 256<<10)
				b.SetBytes(size)
				began := cpuTime(b)
				defer func() { b.ReportMetric((cpuTime(b)-began).Seconds()*1000/float64(b.N), "cpu-ms/op") }()
				for b.Loop() {
					var body io.Reader
					if method == http.MethodPut {
						body = bytes.NewReader(content)
					}
					req, err := http.NewRequest(method, "http://"+way.addr+"/b/k", body)
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
				}
			})
		}
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
