package artifacts

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The names are what people and CI look for: README and workflows have them.
func TestNames(t *testing.T) {
	const d = Dir("artifacts/latest")
	for got, want := range map[string]string{
		d.ReportYAML(): "report.yaml", d.ReportJSON(): "report.json", d.Page(): "report.html", d.JUnit(): "junit.xml",
		d.GinkgoLog(): "ginkgo.log", d.GinkgoJSON(): "ginkgo.json", d.GinkgoJUnit(): "ginkgo-junit.xml",
		d.Progress(): "progress.jsonl", d.Absences(): "absence.jsonl", d.AuditLog(): "audit.log", d.Events(): "events.jsonl",
		d.Logs(): "logs", d.CollectorSummary(): "logs/_collector.txt", d.NamespaceLogs("a"): "logs/a",
		d.ContainerLog("ns", "pod", "app"): "logs/ns/pod-app.log", d.ContainerLogApart("ns", "pod", "app"): "logs/ns/pod_app.log",
		d.ContainerLog("../ns", "p/q", "../c"): "logs/.._ns/p_q-.._c.log",
		d.S3Logs():                             "logs/s3", d.S3Log("smart-restore-abc-minio"): "logs/s3/minio.log", d.S3Log("minio"): "logs/s3/minio.log",
		d.GatewayLog(): "logs/s3/gateway.log", d.Dump("core/S3-down/refused"): "dumps/core-s3-down-refused",
	} {
		if d.Below(got) != want {
			t.Errorf("%s, want %s", d.Below(got), want)
		}
	}
	if d.S3Log("smart-restore-abc-gateway") != d.GatewayLog() {
		t.Error("the gateway's log has two names")
	}
	if filepath.Base(AuditLogIn("a")) != filepath.Base(d.AuditLog()) {
		t.Error("the audit log has two names")
	}
	if got := Private("runs/a").Testbed(); got != filepath.Join("runs", "a", "testbed.json") {
		t.Error(got)
	}
}

func TestAppendLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	var all sync.WaitGroup
	line := strings.Repeat("x", 5000)
	for range 20 {
		all.Go(func() {
			if err := AppendLine(path, []byte(line)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(path)
	if err != nil || string(text) != strings.Repeat(line+"\n", 20) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if err := AppendLine(filepath.Join(path, "below"), nil); err == nil {
		t.Error("no error")
	}
}
