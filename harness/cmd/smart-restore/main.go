package main

import (
	"context"
	"fmt"
	"os"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/images"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/scripts"
)

func main() {
	ctx := context.Background()
	dir, _ := cache.Open()
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		panic(err)
	}
	eng, err := engine.Up(ctx, scripts.Files, dir.Path("scripts", ""), os.Stderr)
	if err != nil {
		panic(err)
	}
	m := images.New(lock, images.Auto, dir, fixtures.Files, eng, progress.New(os.Stderr))
	defer m.Close()
	s, _ := lock.Stack("")
	if len(os.Args) > 1 {
		rows, err := m.Plan(ctx, s)
		for _, r := range rows {
			fmt.Println(r)
		}
		fmt.Println(err)
		return
	}
	set, err := m.Make(ctx, s, "test")
	fmt.Println(set, err)
}
