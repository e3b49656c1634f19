// Package artifacts names the files that a run leaves, so that who writes one and who reads it mean the same file.
package artifacts

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/smart-restore/conformance/harness/text"
)

// Dir is the artifacts folder of one run.
type Dir string

func (d Dir) file(names ...string) string {
	return filepath.Join(append([]string{string(d)}, names...)...)
}

// The reports, for programs and for people.

// ReportYAML is the report.
func (d Dir) ReportYAML() string { return d.file("report.yaml") }

// ReportJSON is the same report as JSON.
func (d Dir) ReportJSON() string { return d.file("report.json") }

// Page is the report as one HTML file.
func (d Dir) Page() string { return d.file("report.html") }

// JUnit is the report as JUnit XML, a test case per requirement.
func (d Dir) JUnit() string { return d.file("junit.xml") }

// What Ginkgo itself writes. It knows of no secrets: these files are redacted by whoever runs it.

// GinkgoLog is what Ginkgo and the specs print.
func (d Dir) GinkgoLog() string { return d.file("ginkgo.log") }

// GinkgoJSON is Ginkgo's report, of which the verdicts are made.
func (d Dir) GinkgoJSON() string { return d.file("ginkgo.json") }

// GinkgoJUnit is Ginkgo's report as JUnit XML.
func (d Dir) GinkgoJUnit() string { return d.file("ginkgo-junit.xml") }

// OfGinkgo are the files that Ginkgo writes.
func (d Dir) OfGinkgo() []string { return []string{d.GinkgoLog(), d.GinkgoJSON(), d.GinkgoJUnit()} }

// What specs append to, a line of JSON at a time: see AppendLine.

// Progress is what each spec is doing, for who watches.
func (d Dir) Progress() string { return d.file("progress.jsonl") }

// Absences are what specs proved not to have happened, to be looked at again after the run.
func (d Dir) Absences() string { return d.file("absence.jsonl") }

// Pictures are what there was after each event of a history, where they are taken.
func (d Dir) Pictures() string { return d.file("pictures.jsonl") }

// What was observed of the cluster.

// AuditLog is the API server's audit log.
func (d Dir) AuditLog() string { return d.file(auditLog) }

// Events are the cluster's events, one per line.
func (d Dir) Events() string { return d.file("events.jsonl") }

// Logs is the folder of all logs.
func (d Dir) Logs() string { return d.file(logs) }

// CollectorSummary says what of the logs and events was collected, and what was lost.
func (d Dir) CollectorSummary() string { return d.file(logs, "_collector.txt") }

// NamespaceLogs is the folder of the logs of a namespace's pods.
func (d Dir) NamespaceLogs(namespace string) string { return d.file(logs, oneName(namespace)) }

// ContainerLog is a container's log.
func (d Dir) ContainerLog(namespace, pod, container string) string {
	return d.file(logs, oneName(namespace), oneName(pod+"-"+container)+".log")
}

// ContainerLogApart is a container's log where ContainerLog is another's: pod a-b with container c has the same as pod a
// with container b-c. No name has the "_" that tells them apart.
func (d Dir) ContainerLogApart(namespace, pod, container string) string {
	return d.file(logs, oneName(namespace), oneName(pod+"_"+container)+".log")
}

// S3Logs is the folder of the logs of the S3 stack's containers.
func (d Dir) S3Logs() string { return d.file(logs, "s3") }

// S3Log is the log of one of them, named by the last word of the container's name: gateway, for the one through which all
// requests pass.
func (d Dir) S3Log(container string) string {
	return d.file(logs, "s3", oneName(container[strings.LastIndexByte(container, '-')+1:])+".log")
}

// GatewayLog is where the gateway records each request to S3.
func (d Dir) GatewayLog() string { return d.S3Log("gateway") }

// Dump is the folder of what was in the namespaces of a requirement's spec when it did not pass.
func (d Dir) Dump(requirement string) string { return d.file("dumps", text.Slug(requirement)) }

// Private is a run's private folder, which only the user may read: it holds credentials.
type Private string

// Testbed is the testbed that the specs run on, with its credentials.
func (p Private) Testbed() string { return filepath.Join(string(p), "testbed.json") }

const (
	auditLog = "audit.log"
	logs     = "logs"
)

// AuditLogIn is where the API server writes its audit log, in the folder that is given to it.
func AuditLogIn(dir string) string { return filepath.Join(dir, auditLog) }

// Below is a file's path below the folder, with slashes, as links and messages have it.
func (d Dir) Below(path string) string {
	if below, err := filepath.Rel(string(d), path); err == nil {
		path = below
	}
	return filepath.ToSlash(path)
}

// oneName keeps a name from being more than one part of a path.
func oneName(name string) string { return strings.ReplaceAll(name, string(filepath.Separator), "_") }

// AppendLine appends a line to a file, in one write: lines of several processes do not mix, and a killed one leaves those
// before it.
func AppendLine(path string, line []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}
