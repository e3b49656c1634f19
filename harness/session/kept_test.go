package session

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/verdict"
)

// dockerSays puts a docker command in front of PATH that prints this, whatever it is asked.
func dockerSays(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte("#!/bin/sh\nprintf '%s' '"+text+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestAStackThatIsNotWholeIsNeitherKeptNorAnnounced(t *testing.T) {
	dockerSays(t, "")
	for name, c := range map[string]struct {
		testbed *testbed.Testbed
		kept    bool // before
		stays   bool
		err     string
	}{
		"nothing was put up":               {testbed: nil},
		"the installation was interrupted": {testbed: &testbed.Testbed{Nodes: []string{"node"}, Store: &objectstore.Handle{}}},
		"nothing was recorded":             {testbed: &testbed.Testbed{Ready: true}, err: "the stack is not kept"},
		"a kept one is damaged":            {testbed: &testbed.Testbed{Ready: true}, kept: true, stays: true, err: "the stack that is kept up is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			run, err := runs.New(root)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			r := &e2eRun{Session: &Session{Settings: &settings.Settings{Keep: settings.KeepAlways}, Out: &out, engine: &engine.Engine{}},
				run: run, testbed: c.testbed, kept: c.kept, report: &verdict.Report{}}
			err = r.keepOrRemove(t.Context())
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("found %v, wanted %q", err, c.err)
			}
			if out.Len() != 0 {
				t.Errorf("it is announced: %s", out.String())
			}
			found, err := runs.Kept(root, &testbed.Testbed{})
			if err != nil || (found != nil) != c.stays {
				t.Errorf("kept: %v, %v, wanted %v", found, err, c.stays)
			}
			if found != nil {
				found.Release()
			}
		})
	}
}

func TestAKeptStackThatIsNotWholeIsRefused(t *testing.T) {
	dockerSays(t, "true")
	s := &Session{Stack: &stack.Stack{Name: "one"}, engine: &engine.Engine{}}
	at := endpoint.Endpoint{URL: "http://192.168.10.133:9000"}
	kept := &testbed.Testbed{RunID: "abcdefgh", Stack: "one", Endpoint: at, Nodes: []string{"node"}, Store: &objectstore.Handle{}}
	err := s.usable(t.Context(), kept, &policy.Policy{Endpoint: at})
	if err == nil || !strings.Contains(err.Error(), "never came to its end") || !strings.Contains(err.Error(), "make down removes it") {
		t.Errorf("found %v", err)
	}
}

// Who trusts the CA is decided when containers are started: another contract may want it otherwise.
func TestAKeptStackWhoseCAOthersTrustIsRefused(t *testing.T) {
	dockerSays(t, "true")
	s := &Session{Stack: &stack.Stack{Name: "one"}, engine: &engine.Engine{}}
	at := endpoint.Endpoint{URL: "https://s3.home.example.org"}
	kept := &testbed.Testbed{RunID: "abcdefgh", Stack: "one", Endpoint: at, Trust: policy.TrustImages, Nodes: []string{"node"}, Store: &objectstore.Handle{}}
	for trust, want := range map[string]string{policy.TrustImages: "never came to its end", policy.TrustPolicy: "is trusted by images, and by the contract of policy p it is by policy (s3.trust)"} {
		err := s.usable(t.Context(), kept, &policy.Policy{Endpoint: at, Contract: policy.Contract{Name: "p", S3: policy.S3{Trust: trust}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, found %v", trust, want, err)
		}
	}
}

func TestWhatBecomesOfAKeptTestbedIsWrittenDown(t *testing.T) {
	run, err := runs.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kept := &testbed.Testbed{RunID: run.ID}
	(&Session{}).take(run, kept)
	kept.PolicyState = testbed.PolicyApplying
	if err := kept.Save(); err != nil {
		t.Fatal(err)
	}
	run.Release()
	var file testbed.Testbed
	found, err := runs.Kept(filepath.Dir(run.Dir), &file)
	if err != nil || found == nil || file.PolicyState != testbed.PolicyApplying {
		t.Fatalf("found %v, %v, %v", found, file.PolicyState, err)
	}
	found.Release()
	if _, err := json.Marshal(kept); err != nil {
		t.Error(err)
	}
}
