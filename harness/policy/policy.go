// Package policy reads the policy under test as it will be deployed: a manifest, a folder of manifests, or a
// kustomization. Nothing in it is changed.
package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/konfig"

	"github.com/smart-restore/conformance/harness/alerts"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/subject"
)

// Policy is the policy under test.
type Policy struct {
	Path      string                       // as it was given to Load
	Endpoint  endpoint.Endpoint            // of S3: what the setting or else the contract says, and what is served
	Objects   []*unstructured.Unstructured // in the order they are applied in, once
	Templates *subject.Set                 // what is applied for each PVC; nil: nothing
	SHA256    string                       // of the objects as they are sent to the API server, and of the templates, hex
	Contract  Contract                     // complete: fields that its file omits have their defaults
	Documents []Document                   // the objects and the contract as their files have them, for positions
	Earlier   *Earlier                     // the policy that this one replaces; nil: its contract names none
	Alerts    []byte                       // the file of alerting rules that the contract names; nil: it names none
}

// Load reads a policy and its contract. Both must parse, and the policy must contain a Kyverno policy, or templates, and name the S3
// endpoint: the one that is set, else the contract's. Check says whether it can be tested.
func Load(path string, set endpoint.Endpoint) (*Policy, error) {
	objects, templates, contract, rules, err := read(path)
	var earlier *Earlier
	if err == nil {
		earlier, err = earlierOf(contractFileOf(path), contract)
	}
	if err != nil {
		return nil, fmt.Errorf("POLICY=%s: %w", path, err)
	}
	endpoint, err := contract.resolveEndpoint(set)
	if err != nil {
		return nil, fmt.Errorf("POLICY=%s: s3.endpoint: %w", path, err)
	}
	raw, err := json.Marshal(objects)
	if err == nil && templates != nil {
		var more []byte
		more, err = json.Marshal(templates)
		raw = append(raw, more...)
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	p := &Policy{Path: path, Endpoint: endpoint, Objects: objects, Templates: templates, SHA256: hex.EncodeToString(sum[:]), Contract: contract, Documents: Documents(path), Earlier: earlier, Alerts: rules}
	if len(p.Kyverno()) == 0 && p.Templates == nil {
		return nil, fmt.Errorf("POLICY=%s: none of its %d objects is a Kyverno policy (of kyverno.io or policies.kyverno.io); manifests that are applied for each PVC are listed as templates in %s", path, len(objects), contractFile)
	}
	if mover := p.otherMover(); mover != "" {
		return nil, fmt.Errorf("POLICY=%s: its backups are made by VolSync's mover %s, and only restic's repositories can be looked into", path, mover)
	}
	if err := p.checkSecretStore(); err != nil {
		return nil, fmt.Errorf("POLICY=%s: %w", path, err)
	}
	if err := p.checkTrust(); err != nil {
		return nil, fmt.Errorf("POLICY=%s: %w", path, err)
	}
	if err := p.checkOracle(); err != nil {
		return nil, fmt.Errorf("POLICY=%s: %w", path, err)
	}
	store := contract.SecretStore
	if address := endpoint.Host(); !p.names(address) && !store.says("{endpoint}") && !store.says("{host}") {
		if promised := contract.S3.Endpoint; set.URL != "" && set.URL != promised {
			return nil, fmt.Errorf("POLICY=%s: no object in it mentions the S3 endpoint %s, which S3_ENDPOINT sets; its contract says %s: leave S3_ENDPOINT out, or set the endpoint that the policy mentions", path, address, promised)
		}
		return nil, fmt.Errorf("POLICY=%s: no object in it mentions the S3 endpoint %s: set s3.endpoint in conformance.yaml, or S3_ENDPOINT, to the one it uses", path, address)
	}
	return p, nil
}

// alertsOf is the file of alerting rules that a contract in this file names, if it names one.
func alertsOf(file string, contract Contract) ([]byte, error) {
	if contract.Alerts == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(alertsFile(file, contract))
	if errors.Is(err, os.ErrNotExist) {
		return nil, contract.doc.At(fmt.Sprintf("there is no file %s in this file's folder", contract.Alerts), "alerts")
	}
	if err == nil {
		_, err = alerts.Parse(contract.Alerts, raw)
	}
	if err != nil {
		return nil, contract.doc.At(err.Error(), "alerts")
	}
	return raw, nil
}

func alertsFile(file string, contract Contract) string {
	return filepath.Join(filepath.Dir(file), filepath.FromSlash(contract.Alerts))
}

// alertsApart refuses alerting rules among the manifests of a folder, which are all the policy's.
func alertsApart(sources []string, file string, contract Contract) error {
	if contract.Alerts == "" {
		return nil
	}
	for _, source := range sources {
		if filepath.Dir(alertsFile(file, contract)) == filepath.Clean(source) && kustomizationIn(source) == "" {
			return contract.doc.At("it is among the manifests of the policy: put it into a folder of its own, like alerts/rules.yaml", "alerts")
		}
	}
	return nil
}

// names says whether a text is in one of the objects, or in what the base Secret brings to them.
func (p *Policy) names(text string) bool {
	for _, object := range p.Objects {
		if raw, err := json.Marshal(object); err == nil && bytes.Contains(raw, []byte(text)) {
			return true
		}
	}
	if raw, err := json.Marshal(p.Templates); err == nil && bytes.Contains(raw, []byte(text)) {
		return true
	}
	if filled, err := p.filled("data"); err == nil { // it may be put together from variables
		if raw, err := json.Marshal(filled); err == nil && bytes.Contains(raw, []byte(text)) {
			return true
		}
	}
	for _, value := range p.Contract.BaseSecret.Data {
		if strings.Contains(value, text) {
			return true
		}
	}
	return p.Contract.SecretStore.says(text)
}

// moverIn is a mover that an object of VolSync's has, in a manifest or in an expression that makes one.
var moverIn = regexp.MustCompile(`["'](restic|kopia|rclone|rsync|rsyncTLS|syncthing)\\?["']\s*:`)

// otherMover is the mover of a policy that uses another one than restic's; empty: it uses that one, or none.
func (p *Policy) otherMover() (other string) {
	raw, err := json.Marshal(p.Objects)
	if err != nil {
		return ""
	}
	for _, found := range moverIn.FindAllSubmatch(raw, -1) {
		if other = string(found[1]); other == "restic" {
			return ""
		}
	}
	return other
}

// filled are the templates as they are for a PVC of this name, with nothing in them that is secret.
func (p *Policy) filled(pvc string) ([]*unstructured.Unstructured, error) {
	if p.Templates == nil {
		return nil, nil
	}
	given := map[string]string{}
	for _, variable := range p.Contract.BaseSecret.Variables() {
		given[variable] = variable
	}
	return p.Templates.All("namespace", pvc, given)
}

// Kyverno lists the Kyverno policies among the policy's objects.
func (p *Policy) Kyverno() []*unstructured.Unstructured { return Kyverno(p.Objects) }

// Kyverno lists the Kyverno policies among objects.
func Kyverno(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	return slices.DeleteFunc(slices.Clone(objects), func(o *unstructured.Unstructured) bool {
		group := o.GroupVersionKind().Group
		return group != "kyverno.io" && group != "policies.kyverno.io"
	})
}

// Scanned says whether Kyverno's background scan asks for something to be made or changed by one of these objects.
func Scanned(objects []*unstructured.Unstructured) bool {
	return slices.ContainsFunc(Kyverno(objects), func(o *unstructured.Unstructured) bool { return scanned(o.Object["spec"]) })
}

// scanned says whether something within a policy's spec is on that is about what exists: for policies of rules a boolean, for those in CEL an
// object with enabled. Of what a rule clones, a scan asks nothing.
func scanned(within any) bool {
	switch within := within.(type) {
	case []any:
		return slices.ContainsFunc(within, scanned)
	case map[string]any:
		for field, value := range within {
			inner, _ := value.(map[string]any)
			on := value == true || inner["enabled"] == true
			switch field {
			case "generateExisting", "mutateExisting", "mutateExistingOnPolicyUpdate":
			case "synchronize":
				_, clones := within["clone"]
				_, list := within["cloneList"]
				on = on && !clones && !list
			default:
				on = scanned(value)
			}
			if on {
				return true
			}
		}
	}
	return false
}

// Judged lists the policies among the policy's objects: Kyverno's, and those that the API server enforces itself, with what binds
// them.
func (p *Policy) Judged() []*unstructured.Unstructured {
	kyverno := p.Kyverno()
	return slices.DeleteFunc(slices.Clone(p.Objects), func(o *unstructured.Unstructured) bool {
		return !slices.Contains(kyverno, o) && !IsNative(o)
	})
}

// The kinds of the API server's own policies.
const (
	NativePolicy  = "ValidatingAdmissionPolicy"
	NativeBinding = "ValidatingAdmissionPolicyBinding"
)

// IsNative says whether an object is a policy that the API server enforces itself, or binds one.
func IsNative(o *unstructured.Unstructured) bool {
	return o.GroupVersionKind().Group == "admissionregistration.k8s.io" &&
		slices.Contains([]string{NativePolicy, NativeBinding, "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}, o.GetKind())
}

// Describe lists the objects as kind/name.
func (p *Policy) Describe() []string {
	var names []string
	for _, o := range p.Objects {
		names = append(names, o.GetKind()+"/"+o.GetName())
	}
	if p.Templates != nil {
		for _, content := range p.Templates.Objects {
			o := unstructured.Unstructured{Object: content}
			names = append(names, "for each PVC: "+o.GetKind()+"/"+o.GetName())
		}
	}
	return names
}

// read reads the contract first: it may say what the policy is, and what its templates are.
func read(path string) (objects []*unstructured.Unstructured, templates *subject.Set, contract Contract, rules []byte, err error) {
	sources, contract, file, err := sourcesOf(path)
	if err == nil {
		err = alertsApart(sources, file, contract)
	}
	if err == nil {
		rules, err = alertsOf(file, contract)
	}
	if err != nil {
		return nil, nil, Contract{}, nil, err
	}
	if templates, err = templatesOf(file, contract); err != nil {
		return nil, nil, Contract{}, nil, err
	}
	if err := contract.restoresAs(templates); err != nil {
		return nil, nil, Contract{}, nil, err
	}
	if len(contract.Policy) == 0 && templates == nil {
		if objects, err = readAll(sources[0]); err == nil {
			err = once(objects)
		}
		return objects, nil, contract, rules, err
	}
	for i, source := range sources {
		more, err := readAll(source)
		if err != nil {
			return nil, nil, Contract{}, nil, contract.doc.At(fmt.Sprintf("%s: %v", contract.Policy[i], err), "policy", i)
		}
		objects = append(objects, more...)
	}
	return objects, templates, contract, rules, once(objects)
}

// sourcesOf are the manifests, folders and kustomizations that a policy is read from, one for each that its contract lists
// or else one, unless it is templates only, and the file of its contract, if it has one.
func sourcesOf(path string) (sources []string, contract Contract, file string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, Contract{}, "", missing(err)
	}
	contract, file, err = contractOf(path, info.IsDir())
	for _, part := range contract.Policy {
		sources = append(sources, filepath.Join(filepath.Dir(file), filepath.FromSlash(part)))
	}
	if len(sources) == 0 && len(contract.Templates) == 0 {
		sources = []string{described(path, info.IsDir())}
	}
	return sources, contract, file, err
}

// described is what a contract is about that does not say it: its folder, or the manifest that it stands beside. Any other
// path is the policy's own.
func described(path string, folder bool) string {
	name := filepath.Base(path)
	switch {
	case folder || !isContract(name):
		return path
	case name == contractFile:
		return filepath.Dir(path)
	}
	manifest := strings.TrimSuffix(path, "."+contractFile)
	if _, err := os.Stat(manifest + ".yml"); err == nil {
		return manifest + ".yml"
	}
	return manifest + ".yaml"
}

// once refuses an object that is there twice: which one counts would be chance.
func once(objects []*unstructured.Unstructured) error {
	seen := map[string]bool{}
	for _, o := range objects {
		name := strings.Join([]string{o.GroupVersionKind().GroupKind().String(), o.GetNamespace(), o.GetName()}, "/")
		if seen[name] {
			return fmt.Errorf("%s %s is in it twice", o.GetKind(), o.GetName())
		}
		seen[name] = true
	}
	return nil
}

func readAll(path string) ([]*unstructured.Unstructured, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, missing(err)
	}
	objects, err := readObjects(path, info.IsDir())
	if err != nil {
		return nil, err
	}
	return objects, encrypted(objects)
}

// encrypted refuses what SOPS has encrypted: the suite has no keys, and whoever has them should not hand them out.
func encrypted(objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if _, is := o.Object["sops"].(map[string]any); is {
			return fmt.Errorf("%s %s is encrypted by SOPS, and the suite has no keys: list the other files, and a %[1]s of that name with RESTIC_REPOSITORY, and with ${NAME} for each key of the base Secret", o.GetKind(), o.GetName())
		}
	}
	return nil
}

// missing says of a path that leads nowhere what a person looks for.
func missing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("there is no such file or folder")
	}
	return err
}

// chartFile makes a folder a Helm chart.
const chartFile = "Chart.yaml"

// noCharts says what to do about templates of Helm's.
const noCharts = "Helm templates are not rendered here: write what helm template prints into a file, and name that"

func readObjects(path string, folder bool) ([]*unstructured.Unstructured, error) {
	if !folder {
		return decode(path)
	}
	if file := kustomizationIn(path); file != "" {
		build := install.Kustomize
		if isComponent(file) {
			build = component
		}
		objects, err := build(path)
		if err != nil {
			return nil, whyNotBuilt(path, err)
		}
		return objects, checkKustomizations(path, objects)
	}
	if _, err := os.Stat(filepath.Join(path, chartFile)); err == nil {
		return nil, fmt.Errorf("it is a Helm chart: %s", noCharts)
	}
	files, err := manifestsIn(path)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		more, err := decode(file)
		if err != nil {
			return nil, err
		}
		objects = append(objects, more...)
	}
	if len(objects) == 0 {
		return nil, errors.New("no .yaml file in this folder has an object in it")
	}
	return objects, nil
}

// kustomizationIn is the file that makes a folder a kustomization; empty: it is none.
func kustomizationIn(folder string) string {
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		file := filepath.Join(folder, name)
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

// manifestsIn are the files of a folder of manifests, in order.
func manifestsIn(folder string) (files []string, err error) {
	entries, err := os.ReadDir(folder)
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); !entry.IsDir() && !isContract(entry.Name()) && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(folder, entry.Name()))
		}
	}
	return files, err
}

func decode(path string) ([]*unstructured.Unstructured, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
	for n := 1; ; n++ {
		var content map[string]any
		if err := decoder.Decode(&content); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s, document %d does not parse: %w", filepath.Base(path), n, whyNotParsed(raw, err))
		}
		if len(content) == 0 {
			continue
		}
		object := &unstructured.Unstructured{Object: content}
		if object.GetKind() == Default().Kind {
			return nil, fmt.Errorf("%s is a %s: only one called %s, or NAME.%[3]s, is read as such", filepath.Base(path), object.GetKind(), contractFile)
		}
		if object.GetAPIVersion() == "" || object.GetKind() == "" || object.GetName() == "" {
			return nil, fmt.Errorf("%s, document %d is no Kubernetes object: apiVersion, kind and metadata.name are needed, and quotes around a name that begins with a brace", filepath.Base(path), n)
		}
		objects = append(objects, object)
	}
}

// otherKind is what the decoder says of a document that is no mapping.
var otherKind = regexp.MustCompile(`cannot unmarshal (\w+) into Go value`)

// whyNotParsed is the error of a manifest in the words of whoever wrote it.
func whyNotParsed(raw []byte, err error) error {
	found := otherKind.FindStringSubmatch(err.Error())
	switch {
	case bytes.Contains(raw, []byte("{{ .")) || bytes.Contains(raw, []byte("{{- ")) || bytes.Contains(raw, []byte("{{.")):
		return fmt.Errorf("%w: it looks like a Helm template; %s", err, noCharts)
	case found != nil:
		return fmt.Errorf("found %s, wanted a mapping with apiVersion, kind and metadata", found[1])
	}
	return err
}
