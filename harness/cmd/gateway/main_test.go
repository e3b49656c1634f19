package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

func TestRunUntilToldToStop(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	defer upstream.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	records, recordsIn := io.Pipe()
	status, statusIn := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--listen", "127.0.0.1:0", "--upstream", upstream.URL, "--control", "127.0.0.1:0"}, secrets{token: "token"}, recordsIn, statusIn)
		statusIn.Close()
	}()

	ready, err := bufio.NewReader(status).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`^gateway: ready on (\S+) for (\S+), control on (\S+)\n$`).FindStringSubmatch(ready)
	if m == nil || m[2] != upstream.URL {
		t.Fatalf("want a line of readiness for %s, found %q", upstream.URL, ready)
	}
	get := func(url string) string {
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if b := get("http://" + m[3] + "/healthz"); b != "ok\n" {
		t.Errorf("healthz: %q", b)
	}
	if b := get("http://" + m[1] + "/b/k"); b != "hello" {
		t.Errorf("through the gateway: %q", b)
	}
	var r gateway.Record
	if err := json.NewDecoder(records).Decode(&r); err != nil || r.Path != "/b/k" || r.Status != 200 {
		t.Errorf("record %+v %v", r, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("want a clean end, found %v", err)
	}
}

// The oracle is at the endpoint's address, and asks S3 as its clients do.
func TestRunWithAnOracle(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "a config")
	}))
	defer upstream.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free.Addr().(*net.TCPAddr).Port)
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	status, statusIn := io.Pipe()
	records := &lines{}
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--listen", "127.0.0.1:0", "--upstream", upstream.URL, "--control", "127.0.0.1:0", "--endpoint", "http://10.9.8.7:9000", "--oracle", port}, secrets{token: "token"}, records, statusIn)
		statusIn.Close()
	}()
	ready, err := bufio.NewReader(status).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	control := "http://" + strings.TrimSpace(ready[strings.LastIndex(ready, " ")+1:])
	answer := gateway.OracleAnswer{Status: 200, Body: "{}"}
	if err := fault.New(control, "token").SetOracle(ctx, &gateway.Oracle{
		Question: "/{namespace}/{pvc}", Bucket: "b", Repository: "{namespace}/{pvc}/",
		Answers: map[string]gateway.OracleAnswer{gateway.OracleBackup: answer, gateway.OracleNone: answer, gateway.OracleUnknown: answer},
	}); err != nil {
		t.Fatal(err)
	}
	res, err := http.Get("http://127.0.0.1:" + port + "/ns/data")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got := res.Header.Get("Server"); got != gateway.OracleServer+gateway.OracleBackup {
		t.Errorf("it found %q", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("want a clean end, found %v", err)
	}
	if text := records.String(); !strings.Contains(text, `"path":"/b/ns/data/config"`) || !strings.Contains(text, `"to":"oracle"`) {
		t.Errorf("records: %s", text)
	}
}

// lines are what was written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		args, token, want string
		usage             bool
		certificates      string
	}{
		{"--upstream http://127.0.0.1:1", "t", `--listen: want ip:port, found ""`, true, ""},
		{"--listen nas:9000 --upstream http://127.0.0.1:1", "t", `found "nas:9000"`, true, ""},
		{"--listen 127.0.0.1:0", "t", "upstream: want http://host:port", true, ""},
		{"--listen 127.0.0.1:0 --upstream http://127.0.0.1:1", "", "GATEWAY_TOKEN", true, ""},
		{"--listen 127.0.0.1:0 --upstream http://127.0.0.1:1 more", "t", `found ["more"]`, true, ""},
		{"--listen 127.0.0.1:0 --upstream http://127.0.0.1:1", "t", "want the endpoint's certificates in GATEWAY_CERTIFICATES", true, `{"key`},
		{"--listen 127.0.0.1:0 --upstream http://127.0.0.1:1", "t", "certificate: ", true, "{}"},
		{"--token x", "t", "flag provided but not defined", true, ""},
		{"--listen 127.0.0.1:0 --upstream http://127.0.0.1:1 --control 127.0.0.1:x", "t", "listen tcp", false, ""},
	} {
		err := run(t.Context(), strings.Fields(c.args), secrets{c.token, c.certificates}, io.Discard, io.Discard)
		var usage usageError
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &usage) != c.usage {
			t.Errorf("%s: want %q (usage: %v), found %v", c.args, c.want, c.usage, err)
		}
	}
}
