package check

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/strict"
	perclaim "github.com/smart-restore/conformance/harness/subject" // a subject is something else here
	"github.com/smart-restore/conformance/harness/volsync"
)

// What is applied for each PVC can be read, and not played: what VolSync makes of it only a cluster shows.

// template is an object that is applied for each PVC, as it is for one.
type template struct {
	*unstructured.Unstructured
	source *unstructured.Unstructured // with its placeholders
}

// twoInits is the requirement about movers that make a repository at the same moment.
const twoInits = "safety/two-inits"

// theCA stands for the certificate of the run's CA where nobody has to be trusted by it.
const theCA = "the run's CA"

// templatesNamespace is where the PVC is that templates are read for.
const templatesNamespace = "conformance"

// templates reads what is applied for each PVC, and takes down what is not as the contract says.
func (c *checker) templates(p *policy.Policy) error {
	given := map[string]string{}
	for _, key := range c.contract.BaseSecret.Variables() {
		given[key] = sourceOf(key)
	}
	for key, value := range c.contract.BaseSecret.Filled(theCA) {
		given[key] = value
	}
	instance, err := p.Templates.For(templatesNamespace, claimName, given)
	if err != nil {
		return err
	}
	t := &templates{checker: c, documents: p.Documents, set: p.Templates, given: given, endpoint: p.Endpoint.URL}
	if instance.Claim != nil {
		t.needs = instance.Claim.Spec.Resources.Requests[corev1.ResourceStorage]
		t.populatedBy, _ = perclaim.Populates(instance.Claim)
	}
	for _, content := range p.Templates.Objects {
		one, err := (&perclaim.Set{Objects: []map[string]any{content}, Variables: p.Templates.Variables}).For(templatesNamespace, claimName, given)
		if err != nil {
			return err
		}
		for _, o := range one.Rest() {
			t.all = append(t.all, template{o, &unstructured.Unstructured{Object: content}})
		}
	}
	for _, one := range t.all {
		switch one.GetKind() {
		case source:
			t.backsUp(one)
		case destination:
			t.restores(one)
		}
	}
	return nil
}

type templates struct {
	*checker
	documents   []policy.Document
	set         *perclaim.Set
	given       map[string]string
	endpoint    string
	needs       resource.Quantity // of storage, of the PVC
	populatedBy string
	all         []template
	elsewhere   []string // Secrets that no template is
	broken      []string // ExternalSecrets of which nothing can be made
}

// wrong takes down what is wrong with a field of a template.
func (t *templates) wrong(requirement string, one template, path []any, format string, args ...any) {
	name := one.source.GetKind() + "/" + one.source.GetName()
	t.trouble(requirement, problem{text: fmt.Sprintf(format, args...), cause: name + " " + format})
	found := &t.Findings[len(t.Findings)-1]
	found.Policy = name
	if document := policy.DocumentOf(t.documents, one.source.GetKind(), one.source.GetName()); document.Root != nil {
		node, _ := strict.Find(document.Root, path...)
		found.File, found.Line = document.File, node.Line
	}
}

func (t *templates) backsUp(one template) {
	const requirement = "core/backup"
	name := "ReplicationSource " + one.GetName()
	if schedule := stringAt(one.Unstructured, "spec", "trigger", "schedule"); !t.contract.Schedules(schedule) {
		t.wrong(requirement, one, []any{"spec", "trigger", "schedule"}, "%s has the schedule %q, wanted %s", name, schedule, t.contract.Schedule)
	}
	if why := backsUpOnce(one.Unstructured); why != "" {
		t.wrong(requirement, one, []any{"spec", "trigger", "manual"}, "%s %s", name, why)
	}
	t.paused(requirement, one)
	if method := stringAt(one.Unstructured, "spec", "restic", "copyMethod"); method != t.contract.CopyMethod {
		t.wrong(requirement, one, []any{"spec", "restic", "copyMethod"}, "%s has the copyMethod %q, wanted %s", name, method, t.contract.CopyMethod)
	}
	retain, _, _ := unstructured.NestedMap(one.Object, "spec", "restic", "retain")
	if broken := t.contract.Retain.Broken(retain); broken != "" {
		t.wrong(requirement, one, []any{"spec", "restic", "retain"}, "%s %s", name, broken)
	}
	t.named(requirement, one, t.contract.Names.ReplicationSource)
	t.repository(requirement, one)
	t.trusts(requirement, one)
}

func (t *templates) restores(one template) {
	const requirement = "core/restore"
	name := "ReplicationDestination " + one.GetName()
	if why := restoresAgain(one.Unstructured); why != "" {
		t.wrong(requirement, one, []any{"spec", "trigger"}, "%s %s", name, why)
	}
	if field, why := restoresAnother(one.Unstructured); field != "" {
		t.wrong(requirement, one, []any{"spec", "restic", field}, "%s %s", name, why)
	}
	t.paused(requirement, one)
	into, method := stringAt(one.Unstructured, "spec", "restic", "destinationPVC"), stringAt(one.Unstructured, "spec", "restic", "copyMethod")
	populates := t.populatedBy == one.GetName()
	switch {
	case populates && method == policy.CopyDirect:
		t.wrong(requirement, one, []any{"spec", "restic", "copyMethod"}, "%s has the copyMethod %s, and the PVC is filled from its snapshot: VolSync's populator takes Snapshot only, and the PVC waits for ever", name, method)
	case !populates && into == "":
		t.wrong(requirement, one, []any{"spec", "restic"}, "%s restores into no PVC that an app uses: it has no destinationPVC, and no PVC of the templates has it as its dataSourceRef", name)
	}
	if populates {
		if why := smaller(one.Unstructured, claimName, t.needs); why != "" {
			t.wrong(requirement, one, []any{"spec", "restic", "capacity"}, "%s %s", name, why)
		}
	}
	if into != "" && t.set.Has(perclaim.Source) {
		t.wrong(twoInits, one, []any{"spec", "restic", "destinationPVC"}, "%s restores into the volume that is backed up, from the moment that both are there: on an empty bucket the movers of both make a repository, and a backup of that may never be readable; a PVC that is filled before it is bound (dataSourceRef) has no backup meanwhile", name)
	}
	t.named(requirement, one, t.contract.Names.ReplicationDestination)
	t.repository(requirement, one)
	t.trusts(requirement, one)
}

// paused is about what nothing lets go on: there is no policy.
func (t *templates) paused(requirement string, one template) {
	if volsync.Paused(one.Unstructured) && len(t.subjects.all) == 0 {
		t.wrong(requirement, one, []any{"spec", "paused"}, "%s %s is paused, and nothing lets it go on", one.GetKind(), one.GetName())
	}
}

func (t *templates) named(requirement string, one template, promised policy.Template) {
	if promised == "" || strings.Contains(string(promised), "{uid}") {
		return
	}
	if want := promised.Expand(templatesNamespace, claimName, ""); one.GetName() != want {
		t.wrong(requirement, one, []any{"metadata", "name"}, "%s is named %s for the PVC %s, promised is %s (%s)", one.GetKind(), one.GetName(), claimName, want, promised)
	}
}

// repository is about the Secret that an object names: where it is, and what VolSync's movers read in it.
func (t *templates) repository(requirement string, one template) {
	name := stringAt(one.Unstructured, "spec", "restic", "repository")
	secret, at, data := t.secret(name)
	if data == nil {
		why := "which no template is"
		if secret.Unstructured != nil {
			why = "which the External Secrets Operator makes in a way that is not read here"
		}
		if text := fmt.Sprintf("the Secret %s of %s/%s, %s", name, one.source.GetKind(), one.source.GetName(), why); !slices.Contains(t.elsewhere, text) {
			t.elsewhere = append(t.elsewhere, text)
			t.NotLookedAt = append(t.NotLookedAt, text)
		}
		return
	}
	place := func(key string) []any { return append(slices.Clone(at), key) }
	if got, want := data["RESTIC_REPOSITORY"], repository(t.contract, t.endpoint, templatesNamespace, claimName); got != want {
		t.wrong(requirement, secret, place("RESTIC_REPOSITORY"), "the Secret of %s has the repository %q for the PVC %s/%s, wanted %q", one.GetKind(), got, templatesNamespace, claimName, want)
	}
	keys := t.contract.BaseSecret.Keys
	for _, k := range [][2]string{{"AWS_ACCESS_KEY_ID", keys.AccessKey}, {"AWS_SECRET_ACCESS_KEY", keys.SecretKey}, {"RESTIC_PASSWORD", keys.ResticPassword}} {
		switch {
		case data[k[0]] == t.given[k[1]]:
		case secret.GetKind() == externalSecret:
			t.wrong(requirement, secret, place(k[0]), "%s in the Secret of %s is not that of the store, by the placeholders of secretStore in the contract", k[0], one.GetKind())
		default:
			t.wrong(requirement, secret, place(k[0]), "%s in the Secret of %s is not what the base Secret has as %s: write ${%[3]s}", k[0], one.GetKind(), k[1])
		}
	}
}

const externalSecret = "ExternalSecret"

// secret is the template that is a Secret of this name, or that the operator makes one of; where its data are written; and the data. Without
// data, they are not known.
func (t *templates) secret(name string) (found template, at []any, data map[string]string) {
	for _, one := range t.all {
		switch {
		case one.GetKind() == "Secret" && one.GetName() == name:
			data = map[string]string{}
			encoded, _, _ := unstructured.NestedStringMap(one.Object, "data")
			for key, value := range encoded {
				decoded, _ := base64.StdEncoding.DecodeString(value)
				data[key] = string(decoded)
			}
			plain, _, _ := unstructured.NestedStringMap(one.Object, "stringData")
			maps.Copy(data, plain)
			return one, []any{"stringData"}, data
		case one.GetKind() == externalSecret:
			keys := t.contract.BaseSecret.Keys
			made, data, err := t.contract.SecretStore.Secret(one.Unstructured, policy.StoreValues{
				AccessKey: t.given[keys.AccessKey], SecretKey: t.given[keys.SecretKey], ResticPassword: t.given[keys.ResticPassword],
				Endpoint: endpoint.Endpoint{URL: t.endpoint}, CA: theCA, Bucket: t.contract.S3.Bucket,
			})
			if made != name {
				continue
			}
			if err != nil && !errors.Is(err, policy.ErrNotRead) && !slices.Contains(t.broken, one.GetName()) {
				t.broken = append(t.broken, one.GetName())
				t.wrong("core/backup", one, []any{"spec", "target", "template", "data"}, "%s %s: %v", one.GetKind(), one.GetName(), err)
			}
			return one, []any{"spec", "target", "template", "data"}, data
		}
	}
	return template{}, nil, nil
}

// notPlayed is what a check says nothing about where there is no policy to be played.
func (c *checker) notPlayed() {
	c.NotLookedAt = append(c.NotLookedAt,
		"every situation: what VolSync does with what is applied only a cluster shows",
		"whether a cluster of your own has the classes and the kinds that the templates name",
	)
}
