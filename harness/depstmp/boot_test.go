package depstmp

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/images"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/stand"
	"github.com/smart-restore/conformance/scripts"
)

func TestStand(t *testing.T) {
	ctx := context.Background()
	dir, _ := cache.Open()
	lock, _ := stack.Load(fixtures.Files)
	eng, err := engine.Up(ctx, scripts.Files, dir.Path("scripts", ""), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	log := progress.New(os.Stdout)
	m := images.New(lock, images.Auto, dir, fixtures.Files, eng, log)
	defer m.Close()
	st, _ := lock.Stack("")
	root := dir.Path("runs", "")
	removed, err := runs.Reap(ctx, eng, root)
	fmt.Println(removed, err)
	run, err := runs.New(root)
	if err != nil {
		t.Fatal(err)
	}
	set, err := m.Make(ctx, st, run.ID)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := settings.FromEnvironment("/work/main", lock.StackNames(), []string{"auto", "pull", "build"})
	if err != nil {
		t.Fatal(err)
	}
	os.MkdirAll("/tmp/boot/audit2", 0o755)
	s := time.Now()
	sd, err := stand.Up(ctx, stand.Options{Run: run, Engine: eng, Lock: lock, Stack: st, Images: set,
		Renderer: &install.Renderer{Cache: dir, Fixtures: fixtures.Files, Modules: m.Modules}, Fixtures: fixtures.Files,
		Settings: conf, AuditDir: "/tmp/boot/audit2", Log: log})
	fmt.Println(err, time.Since(s))
	if err != nil {
		t.Fatal(err)
	}
	run.Keep(sd)
	p, err := policy.Load(conf.Policy, conf.S3Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(sd.ApplyPolicy(ctx, p), time.Since(s))
	run.Keep(sd)
	raw, _ := json.Marshal(sd.Store)
	fmt.Println(string(raw), sd.Kubeconfig)
}
