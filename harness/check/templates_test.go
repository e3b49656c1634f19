package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
)

type noSimulator struct{}

func (noSimulator) Play(context.Context, play.Play) (*play.Record, error) {
	return nil, errors.New("templates are not played")
}

// Of templates, everything that can be read is found, with its file and line; nothing is played.
func TestTemplatesAreRead(t *testing.T) {
	gallery := filepath.Join("..", "..", "fixtures", "gallery")
	for name, c := range map[string]struct{ of, file, old, by, want string }{
		"app-template":             {"app-template", "", "", "", "safety/two-inits destination.yaml:11 ReplicationDestination data-dst restores into the volume that is backed up"},
		"populator-template":       {"populator-template", "", "", "", ""},
		"external-secret":          {"external-secret", "", "", "", ""},
		"nothing of that name":     {"external-secret", "external-secret.yaml", ".RESTIC_PASSWORD", ".NOPE", "core/backup external-secret.yaml:15 ExternalSecret data-volsync: the template of RESTIC_PASSWORD cannot be filled in"},
		"all in one repository":    {"external-secret", "external-secret.yaml", "/{namespace}/${APP}", "", `core/backup external-secret.yaml:15 the Secret of ReplicationSource has the repository "s3:http://192.168.10.133:9000/volsync-backups"`},
		"the wrong key":            {"external-secret", "external-secret.yaml", "{{ .AWS_SECRET_ACCESS_KEY }}", "{{ .AWS_ACCESS_KEY_ID }}", "core/backup external-secret.yaml:18 AWS_SECRET_ACCESS_KEY in the Secret of ReplicationSource is not that of the store"},
		"another schedule":         {"app-template", "source.yaml", "0 * * * *", "30 1 * * *", `core/backup source.yaml:8 ReplicationSource data has the schedule "30 1 * * *"`},
		"another copyMethod":       {"app-template", "source.yaml", "Direct", "Clone", `core/backup source.yaml:10 ReplicationSource data has the copyMethod "Clone"`},
		"another retention":        {"app-template", "source.yaml", "hourly: 24", "hourly: 2", "core/backup source.yaml:14 ReplicationSource data keeps map[daily:7 hourly:2], promised is hourly: 24"},
		"on a schedule":            {"app-template", "destination.yaml", "manual: restore-once", "schedule: 0 * * * *", "core/restore destination.yaml:8 ReplicationDestination data-dst has no manual trigger"},
		"by hand, too":             {"populator-template", "destination.yaml", "manual: restore-once", "manual: restore-once\n    schedule: 0 * * * *", ""},
		"backed up once":           {"app-template", "source.yaml", "  trigger:\n", "  trigger:\n    manual: first\n", `core/backup source.yaml:8 ReplicationSource data has the manual trigger "first"`},
		"an older snapshot":        {"app-template", "destination.yaml", "    copyMethod: Direct\n", "    copyMethod: Direct\n    previous: 1\n", "core/restore destination.yaml:11 ReplicationDestination data-dst has previous: 1"},
		"as it was":                {"app-template", "destination.yaml", "    copyMethod: Direct\n", "    copyMethod: Direct\n    restoreAsOf: \"2026-01-01T00:00:00Z\"\n", "core/restore destination.yaml:11 ReplicationDestination data-dst has restoreAsOf"},
		"backups are paused":       {"app-template", "source.yaml", "spec:\n", "spec:\n  paused: true\n", "core/backup source.yaml:6 ReplicationSource data is paused, and nothing lets it go on"},
		"the restore is paused":    {"app-template", "destination.yaml", "spec:\n", "spec:\n  paused: true\n", "core/restore destination.yaml:7 ReplicationDestination data-dst is paused"},
		"too small":                {"populator-template", "destination.yaml", "capacity: ${VOLSYNC_CAPACITY:=256Mi}", "capacity: 1Mi", "core/restore destination.yaml:12 ReplicationDestination data-dst restores into a volume of 1Mi"},
		"into nothing":             {"app-template", "destination.yaml", "    destinationPVC: ${APP}\n", "", "core/restore destination.yaml:10 ReplicationDestination data-dst restores into no PVC"},
		"populator without images": {"populator-template", "destination.yaml", "copyMethod: Snapshot", "copyMethod: Direct", "core/restore destination.yaml:10 ReplicationDestination data-dst has the copyMethod Direct"},
		"another name":             {"app-template", "source.yaml", "name: ${APP}", "name: ${APP}-src", "core/backup source.yaml:4 ReplicationSource is named data-src"},
		"another repository":       {"app-template", "secret.yaml", "{namespace}/${APP}", "${APP}", `core/backup secret.yaml:7 the Secret of ReplicationSource has the repository "s3:http://192.168.10.133:9000/volsync-backups/data"`},
		"a password of its own":    {"app-template", "secret.yaml", "${RESTIC_PASSWORD}", "abc", "core/backup secret.yaml:8 RESTIC_PASSWORD in the Secret of ReplicationSource is not what the base Secret has"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.CopyFS(folder, os.DirFS(filepath.Join(gallery, c.of))); err != nil {
				t.Fatal(err)
			}
			if c.file != "" {
				raw, err := os.ReadFile(filepath.Join(folder, c.file))
				if err != nil || !strings.Contains(string(raw), c.old) {
					t.Fatalf("%s: %v", raw, err)
				}
				if err := os.WriteFile(filepath.Join(folder, c.file), []byte(strings.Replace(string(raw), c.old, c.by, 1)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := policy.Load(folder, endpoint.Endpoint{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := Run(t.Context(), p, "kyverno-1.19", noSimulator{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range r.Findings {
				got = append(got, f.Requirement+" "+filepath.Base(f.File)+":"+strings.TrimSpace(fmt.Sprint(f.Line, " ", f.Text)))
			}
			switch {
			case c.want == "" && len(got) > 0, c.want != "" && !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, c.want) }):
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), c.want)
			}
			if len(r.Rows) > 0 || !slices.ContainsFunc(r.NotLookedAt, func(text string) bool { return strings.HasPrefix(text, "every situation") }) {
				t.Errorf("%d rows, not looked at: %v", len(r.Rows), r.NotLookedAt)
			}
			var text strings.Builder
			if err := r.Text(&text); err != nil || !strings.Contains(text.String(), "no policy of Kyverno's to be played") {
				t.Errorf("%v: %s", err, text.String())
			}
		})
	}
}
