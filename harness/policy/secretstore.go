package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	texttemplate "text/template"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/stack"
)

// The kinds of a SecretStore.
const (
	ClusterSecretStore   = "ClusterSecretStore"
	NamespaceSecretStore = "SecretStore"
)

// ChangesSecretStore labels specs that change the store that the contract names.
const ChangesSecretStore = "changes-secret-store"

// storePlaceholders are those of a value in a store.
var storePlaceholders = []string{"accessKey", "secretKey", "resticPassword", "endpoint", "host", "bucket", caPlaceholder}

// StoreValues are what the placeholders of a store's values stand for.
type StoreValues struct {
	AccessKey, SecretKey, ResticPassword, CA, Bucket string
	Endpoint                                         endpoint.Endpoint
}

func (v StoreValues) fill(value string) string {
	return strings.NewReplacer("{accessKey}", v.AccessKey, "{secretKey}", v.SecretKey, "{resticPassword}", v.ResticPassword,
		"{endpoint}", v.Endpoint.URL, "{host}", v.Endpoint.Host(), "{bucket}", v.Bucket, "{ca}", v.CA).Replace(value)
}

// Filled is the text of an entry. One with properties is a JSON object of them.
func (e StoreEntry) Filled(values StoreValues) string {
	if len(e.Properties) == 0 {
		return values.fill(e.Value)
	}
	filled := map[string]string{}
	for name, value := range e.Properties {
		filled[name] = values.fill(value)
	}
	raw, err := json.Marshal(filled)
	if err != nil {
		panic(err) // of texts it cannot be
	}
	return string(raw)
}

// Named says whether a contract names a store.
func (s SecretStore) Named() bool { return s.Name != "" }

// Object is the store with what it holds: of the provider that answers with what stands in the store itself.
func (s SecretStore) Object(namespace string, values StoreValues) *unstructured.Unstructured {
	var data []any
	for _, entry := range s.Entries {
		one := map[string]any{"key": entry.Key, "value": entry.Filled(values)}
		if entry.Version != "" {
			one["version"] = entry.Version
		}
		data = append(data, one)
	}
	store := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "external-secrets.io/v1", "kind": s.Kind, "metadata": map[string]any{"name": s.Name},
		"spec": map[string]any{"provider": map[string]any{"fake": map[string]any{"data": data}}},
	}}
	if s.Kind == NamespaceSecretStore {
		store.SetNamespace(namespace)
	}
	return store
}

func (s SecretStore) entry(key, version string) (StoreEntry, bool) {
	i := slices.IndexFunc(s.Entries, func(e StoreEntry) bool { return e.Key == key && e.Version == version })
	if i < 0 {
		return StoreEntry{}, false
	}
	return s.Entries[i], true
}

// says whether one of the store's values has this text.
func (s SecretStore) says(text string) bool {
	return slices.ContainsFunc(s.Entries, func(e StoreEntry) bool {
		return strings.Contains(e.Value, text) || slices.ContainsFunc(slices.Collect(maps.Values(e.Properties)), func(value string) bool { return strings.Contains(value, text) })
	})
}

func (c *Contract) validateSecretStore(report func(string, ...any)) (problems []error) {
	for i, entry := range c.SecretStore.Entries {
		at := []any{"secretStore", "entries", i}
		if (entry.Value == "") == (len(entry.Properties) == 0) {
			report("an entry has either a value or properties", at...)
		}
		if slices.ContainsFunc(c.SecretStore.Entries[:i], func(e StoreEntry) bool { return e.Key == entry.Key && e.Version == entry.Version }) {
			report(fmt.Sprintf("key %q is there twice", entry.Key), append(at, "key")...)
		}
		check := func(value string, path ...any) {
			if problem := Template(value).check(storePlaceholders...); problem != nil {
				problems = append(problems, c.doc.In(problem.offset, problem.text, append(slices.Clone(at), path...)...))
			}
		}
		check(entry.Value, "value")
		for _, name := range slices.Sorted(maps.Keys(entry.Properties)) {
			check(entry.Properties[name], "properties", name)
		}
	}
	return problems
}

// withOperator are those of the named stacks that have what the contract's store needs.
func (c Contract) withOperator(known []stack.Stack, names []string) (able []string) {
	for _, name := range names {
		i := slices.IndexFunc(known, func(s stack.Stack) bool { return s.Name == name })
		if !c.SecretStore.Named() || known[i].HasExternalSecrets() {
			able = append(able, name)
		}
	}
	return able
}

// checkOperator refuses a stack without the External Secrets Operator where the contract names a store of it.
func (c Contract) checkOperator(of *stack.Stack, known []stack.Stack) error {
	if !c.SecretStore.Named() || of.HasExternalSecrets() {
		return nil
	}
	return c.doc.At(fmt.Sprintf("secretStore needs the External Secrets Operator, which the stack %s does not have: %s", of.Name, c.choose(known, (*stack.Stack).HasExternalSecrets)), "secretStore")
}

// externalSecret is an ExternalSecret that is applied, or that a policy generates.
type externalSecret struct {
	name string
	spec map[string]any
}

// externalSecretsIn finds ExternalSecrets, however deep in a value: a policy that generates one has it in a rule.
func externalSecretsIn(value any) (found []externalSecret) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			found = append(found, externalSecretsIn(item)...)
		}
	case map[string]any:
		spec := map[string]any{}
		switch kind := value["kind"]; kind {
		case "ExternalSecret":
			spec, _, _ = unstructured.NestedMap(value, "spec")
			if spec == nil {
				spec, _, _ = unstructured.NestedMap(value, "data", "spec")
			}
		case "ClusterExternalSecret":
			spec, _, _ = unstructured.NestedMap(value, "spec", "externalSecretSpec")
		}
		if len(spec) > 0 {
			name, _, _ := unstructured.NestedString(value, "metadata", "name")
			if generated, _ := value["name"].(string); name == "" {
				name = generated
			}
			found = append(found, externalSecret{strings.TrimSpace(fmt.Sprint(value["kind"], " ", name)), spec})
		}
		for _, key := range slices.Sorted(maps.Keys(value)) {
			found = append(found, externalSecretsIn(value[key])...)
		}
	}
	return found
}

// static says whether a text is what it will be: it has no expression, variable or placeholder in it.
func static(text string) bool { return text != "" && !strings.ContainsAny(text, "{$") }

// checkSecretStore refuses ExternalSecrets that take what the store of the contract does not hold.
func (p *Policy) checkSecretStore() error {
	var all []any
	brought := map[string]bool{} // stores that the policy brings
	for _, object := range p.Objects {
		all = append(all, object.Object)
		if kind := object.GetKind(); kind == ClusterSecretStore || kind == NamespaceSecretStore {
			brought[kind+" "+object.GetName()] = true
		}
	}
	if p.Templates != nil {
		for _, object := range p.Templates.Objects {
			all = append(all, object)
		}
	}
	filled, err := p.filled(anyClaim)
	if err != nil {
		return err
	}
	store, found := p.Contract.SecretStore, externalSecretsIn(all)
	var problems []error
	report := func(one externalSecret, format string, args ...any) {
		at := []any{"secretStore"}
		if store.Named() {
			at = append(at, "entries")
		}
		problems = append(problems, p.Contract.doc.At(one.name+fmt.Sprintf(format, args...), at...))
	}
	for _, one := range found {
		name, _, _ := unstructured.NestedString(one.spec, "secretStoreRef", "name")
		kind, _, _ := unstructured.NestedString(one.spec, "secretStoreRef", "kind")
		if kind == "" {
			kind = NamespaceSecretStore // the operator's default
		}
		switch {
		case name == "" || !static(name) || brought[kind+" "+name]:
		case !store.Named():
			report(one, " takes from the %s %s, and the contract names no store: say under secretStore in %s what it holds", kind, name, contractFile)
		case kind != store.Kind || name != store.Name:
			report(one, " takes from the %s %s; the store of the contract is the %s %s", kind, name, store.Kind, store.Name)
		default:
			for _, ref := range refsOf(one.spec) {
				if text := store.lacks(ref); text != "" {
					report(one, "%s", text)
				}
			}
		}
	}
	for _, object := range filled {
		for _, one := range externalSecretsIn(object.Object) {
			for _, ref := range refsOf(one.spec) {
				if strings.Contains(ref.key, anyClaim) {
					report(one, " takes a key of the PVC's own, %q, and the store has the same keys for every PVC: write one for the tests that takes a fixed key, and list it instead", ref.key)
				}
			}
		}
	}
	return errors.Join(problems...)
}

// anyClaim is a PVC whose name is nothing else's.
const anyClaim = "any-pvc-of-these-templates"

// ref is what an ExternalSecret takes from its store.
type ref struct {
	key, version, property string
	extracts               bool
}

func refsOf(spec map[string]any) (refs []ref) {
	for _, list := range []struct{ field, below string }{{"data", "remoteRef"}, {"dataFrom", "extract"}} {
		items, _, _ := unstructured.NestedSlice(spec, list.field)
		for _, item := range items {
			entry, _ := item.(map[string]any)
			if _, elsewhere := entry["sourceRef"]; elsewhere {
				continue
			}
			from, there := entry[list.below].(map[string]any)
			if !there {
				continue // it finds by pattern
			}
			refs = append(refs, ref{textOf(from, "key"), textOf(from, "version"), textOf(from, "property"), list.below == "extract"})
		}
	}
	return refs
}

// lacks says what of a reference is not in the store; empty: nothing.
func (s SecretStore) lacks(r ref) string {
	if !static(r.key) || r.version != "" && !static(r.version) {
		return ""
	}
	entry, there := s.entry(r.key, r.version)
	switch {
	case !there:
		var keys []string
		for _, e := range s.Entries {
			keys = append(keys, strings.TrimSuffix(e.Key+" in version "+e.Version, " in version "))
		}
		return fmt.Sprintf(" takes the key %q%s, which the store does not have: add it to the entries, which have %s", r.key, strings.TrimSuffix(" in version "+r.version, " in version "), strings.Join(keys, ", "))
	case len(entry.Properties) == 0 && (r.property != "" || r.extracts):
		return fmt.Sprintf(" takes properties of the key %q, which is one text in the store: give the entry properties", r.key)
	case static(r.property) && entry.Properties[r.property] == "":
		return fmt.Sprintf(" takes the property %q of the key %q, which the store does not have: add it to the entry's properties, which are %s", r.property, r.key, strings.Join(slices.Sorted(maps.Keys(entry.Properties)), ", "))
	}
	return ""
}

// ErrNotRead says that what an ExternalSecret makes cannot be told without the operator.
var ErrNotRead = errors.New("only the operator can tell")

// Secret is what the operator makes of an ExternalSecret that is applied as it is, with these values in the store: the name of the
// Secret, and its data.
func (s SecretStore) Secret(object *unstructured.Unstructured, values StoreValues) (name string, data map[string]string, err error) {
	spec, _, _ := unstructured.NestedMap(object.Object, "spec")
	if name, _, _ = unstructured.NestedString(spec, "target", "name"); name == "" {
		name = object.GetName()
	}
	taken, err := s.taken(spec, values)
	if err != nil {
		return name, nil, err
	}
	template, templated, _ := unstructured.NestedMap(spec, "target", "template")
	if !templated {
		return name, taken, nil
	}
	texts, _, _ := unstructured.NestedStringMap(template, "data")
	version, _ := template["engineVersion"].(string)
	switch {
	case template["templateFrom"] != nil || version != "" && version != "v2":
		return name, nil, fmt.Errorf("%w: its template is in another object, or of another engine", ErrNotRead)
	case len(texts) == 0:
		return name, taken, nil
	}
	data = map[string]string{}
	if template["mergePolicy"] == "Merge" {
		maps.Copy(data, taken)
	}
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		parsed, err := texttemplate.New(key).Option("missingkey=error").Parse(texts[key])
		if err != nil { // of the operator's functions none is known here
			return name, nil, fmt.Errorf("%w: the template of %s uses more than fields", ErrNotRead, key)
		}
		var filled strings.Builder
		if err := parsed.Execute(&filled, taken); err != nil {
			return name, nil, fmt.Errorf("the template of %s cannot be filled in: the store gives %s", key, strings.Join(slices.Sorted(maps.Keys(taken)), ", "))
		}
		data[key] = filled.String()
	}
	return name, data, nil
}

// taken is what the operator takes from the store, before the template.
func (s SecretStore) taken(spec map[string]any, values StoreValues) (map[string]string, error) {
	taken := map[string]string{}
	from, _, _ := unstructured.NestedSlice(spec, "dataFrom")
	for _, item := range from {
		one, _ := item.(map[string]any)
		extract, extracts := one["extract"].(map[string]any)
		if !extracts || one["rewrite"] != nil || one["sourceRef"] != nil || plainly(extract) != nil {
			return nil, fmt.Errorf("%w: dataFrom does more than extract a key", ErrNotRead)
		}
		entry, there := s.entry(fmt.Sprint(extract["key"]), textOf(extract, "version"))
		if !there || textOf(extract, "property") != "" {
			return nil, fmt.Errorf("%w: dataFrom takes what is not in the store as it is", ErrNotRead)
		}
		for name, value := range entry.Properties {
			taken[name] = values.fill(value)
		}
	}
	single, _, _ := unstructured.NestedSlice(spec, "data")
	for _, item := range single {
		one, _ := item.(map[string]any)
		remote, _ := one["remoteRef"].(map[string]any)
		entry, there := s.entry(textOf(remote, "key"), textOf(remote, "version"))
		if !there || one["sourceRef"] != nil || plainly(remote) != nil {
			return nil, fmt.Errorf("%w: data takes what is not in the store as it is", ErrNotRead)
		}
		value := entry.Filled(values)
		if property := textOf(remote, "property"); property != "" {
			value = values.fill(entry.Properties[property])
		}
		taken[textOf(one, "secretKey")] = value
	}
	return taken, nil
}

// plainly is ErrNotRead where a reference changes what it takes.
func plainly(remote map[string]any) error {
	for field, usual := range map[string]string{"conversionStrategy": "Default", "decodingStrategy": "None", "metadataPolicy": "None"} {
		if found := textOf(remote, field); found != "" && found != usual {
			return ErrNotRead
		}
	}
	return nil
}

func textOf(object map[string]any, field string) string {
	text, _ := object[field].(string)
	return text
}
