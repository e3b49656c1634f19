package depstmp

import (
	"context"
	"fmt"
	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/scripts"
	"os"
	"testing"
	"time"
)

func TestBoot(t *testing.T) {
	ctx := context.Background()
	e, err := engine.Up(ctx, scripts.Files, "/tmp/boot/scripts", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	e.Docker(ctx, "network", "create", "--label", "smart-restore.run=boottest", "smart-restore-boottest")
	os.MkdirAll("/tmp/boot/audit", 0o755)
	s := time.Now()
	c, err := cluster.Create(ctx, e, fixtures.Files, cluster.Options{Name: "smart-restore-boottest", Network: "smart-restore-boottest", NodeImage: os.Getenv("NODE"), Kubeconfig: "/tmp/boot/kubeconfig", AuditDir: "/tmp/boot/audit", StateDir: "/tmp/boot", Status: func(f string, a ...any) { fmt.Printf("%.1f "+f+"\n", append([]any{time.Since(s).Seconds()}, a...)...) }})
	fmt.Println(c, err, time.Since(s))
}
