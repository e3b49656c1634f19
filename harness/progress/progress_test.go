package progress

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestATaskSaysHowItBeganAndEnded(t *testing.T) {
	var out bytes.Buffer
	log := New(&out)
	task := log.Task("boot %s", "x")
	task.Status("%d of %d", 1, 2)
	boom := errors.New("boom")
	if err := task.Done(boom); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	_ = log.Task("install").Done(nil)
	for _, want := range []string{"boot x …", "boot x FAILED after", "install …", "install done in"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
}

func TestANilLogIsSilent(t *testing.T) {
	var log *Log
	if err := log.Task("x").Done(nil); err != nil {
		t.Error(err)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		340 * time.Millisecond: "0.3 s", 12 * time.Second: "12 s", 250 * time.Second: "4 min 10 s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: %s, wanted %s", d, got, want)
		}
	}
}
