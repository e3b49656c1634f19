package subject

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// The PVCs that the templates are tried with, in one namespace.
const (
	triedIn     = "conformance"
	tried       = "conformance-a"
	triedBeside = "conformance-b"
)

// Check refuses templates that cannot be those of one PVC. files are those that they were read from, for positions. given are the
// names of the variables that the suite has values for. beside says that a policy acts on the PVC, too, and may make what is missing.
func (s *Set) Check(files []string, given []string, beside bool) error {
	c := checker{places: placesIn(files)}
	known := map[string]string{}
	for _, name := range given {
		known[name] = "given"
	}
	if c.placeholders(s, given); len(c.problems) > 0 {
		return errors.Join(c.problems...)
	}
	first, err := s.All(triedIn, tried, known)
	if err != nil {
		return c.nowhere(err)
	}
	second, err := s.All(triedIn, triedBeside, known)
	if err != nil {
		return c.nowhere(err)
	}
	for i := range first {
		c.object(s.Objects[i], first[i], second[i])
	}
	c.whole(s, first, beside)
	return errors.Join(c.problems...)
}

type checker struct {
	places
	problems []error
}

func (c *checker) report(at, format string, args ...any) {
	c.problems = append(c.problems, errors.New(at+fmt.Sprintf(format, args...)))
}

// nowhere is an error about the templates that only a name tells the place of.
func (c *checker) nowhere(err error) error {
	if len(c.files) > 0 {
		return fmt.Errorf("%s: %w", c.files[0].name, err)
	}
	return err
}

// flux is a variable, and what follows its name.
var flux = regexp.MustCompile(`(\$+)\{([A-Za-z_][A-Za-z0-9_]*)([^A-Za-z0-9_][^}]*)?\}`)

// placeholders reports each that nothing is known for.
func (c *checker) placeholders(s *Set, given []string) {
	known := slices.Concat(slices.Collect(maps.Keys(s.Variables)), given)
	slices.Sort(known)
	seen := map[string]bool{}
	for _, object := range s.Objects {
		eachText((&unstructured.Unstructured{Object: object}).DeepCopy().Object, func(text string) string {
			for _, found := range brace.FindAllStringSubmatch(text, -1) {
				if name := found[1]; name != "{namespace}" && name != "{pvc}" && !seen[name] {
					seen[name] = true
					c.report(c.ofText(name), "there is no placeholder %s in templates; there are {namespace}, {pvc}, and ${NAME} for the variables of the contract", name)
				}
			}
			for _, found := range flux.FindAllStringSubmatch(text, -1) {
				name, operator := found[2], strings.TrimPrefix(found[3], ":")
				hasDefault := operator != "" && strings.ContainsAny(operator[:1], "-=+?")
				if len(found[1])%2 == 0 || hasDefault || slices.Contains(known, name) || seen[name] {
					continue // $${NAME} is Flux's way to write ${NAME}
				}
				seen[name] = true
				c.report(c.ofText("${"+name), "nobody says what ${%s} is: name it under variables, or give it a default as in ${%[1]s:=value}; known are %s", name, strings.Join(known, ", "))
			}
			return text
		})
		c.unquoted(object, object)
	}
}

// unquoted reports {pvc} without quotes, which YAML reads as a mapping.
func (c *checker) unquoted(object map[string]any, value any) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			c.unquoted(object, item)
		}
	case map[string]any:
		for key, below := range value {
			if below == nil && len(value) == 1 && (key == "pvc" || key == "namespace") {
				c.report(c.of(object), "{%s} stands without quotes, which is a mapping in YAML: write \"{%[1]s}\"", key)
			}
			c.unquoted(object, below)
		}
	}
}

// object is about one object, as it is for two PVCs.
func (c *checker) object(template map[string]any, o, beside *unstructured.Unstructured) {
	what := o.GetKind() + " " + (&unstructured.Unstructured{Object: template}).GetName()
	if namespaced, known := openapi.IsNamespaceScoped(kyaml.TypeMeta{APIVersion: o.GetAPIVersion(), Kind: o.GetKind()}); known && !namespaced || o.GetKind() == "ClusterPolicy" {
		c.report(c.of(template, "kind"), "%s is the cluster's, and not one PVC's: list its file under policy, which is applied once", what)
		return
	}
	if namespace := o.GetNamespace(); namespace != triedIn {
		c.report(c.of(template, "metadata", "namespace"), "%s lies in the namespace %s, and templates are applied in the PVC's: leave metadata.namespace out, or write \"{namespace}\"", what, namespace)
	}
	if kind := o.GetKind(); kind == "SecretStore" && o.GroupVersionKind().Group == "external-secrets.io" {
		c.report(c.of(template), "%s is a secret store, and the suite makes the one that the contract names under secretStore: leave it out", what)
		return
	}
	c.repository(template, o, what)
	if o.GetName() == beside.GetName() {
		c.report(c.of(template, "metadata", "name"), "%s has the same name for every PVC, so that two PVCs of a namespace share it: write {pvc} or a variable with it into its name, list it under policy, or leave it out if backups do not need it", what)
	}
	switch {
	case isClaim(o):
		c.claim(template, o)
	case isVolSync(o, Source):
		if of := text(o, "spec", "sourcePVC"); of != tried {
			c.report(c.of(template, "spec", "sourcePVC"), "%s backs up the PVC %q, and for the PVC %s it must back up that one: write \"{pvc}\"", what, of, tried)
		}
		c.restic(template, o, what)
	case isVolSync(o, Destination):
		if into := text(o, "spec", "restic", "destinationPVC"); into != "" && into != tried {
			c.report(c.of(template, "spec", "restic", "destinationPVC"), "%s restores into the PVC %q, and for the PVC %s it must restore into that one: write \"{pvc}\"", what, into, tried)
		}
		c.restic(template, o, what)
	}
}

// repositoryKey is that of the repository, in what VolSync reads.
const repositoryKey = "RESTIC_REPOSITORY"

// elsewhere is a repository that restic keeps elsewhere than in S3.
var elsewhere = regexp.MustCompile(`^(\.{0,2}/|(local|sftp|rest|swift|b2|azure|gs|rclone):)`)

// repository refuses a repository that is not in S3, in a Secret or in what the External Secrets Operator makes one of.
func (c *checker) repository(template map[string]any, o *unstructured.Unstructured, what string) {
	for _, keys := range [][]string{{"stringData", repositoryKey}, {"data", repositoryKey}, {"spec", "target", "template", "data", repositoryKey}} {
		value := text(o, keys...)
		if decoded, err := base64.StdEncoding.DecodeString(value); err == nil && keys[0] == "data" {
			value = string(decoded)
		}
		if !elsewhere.MatchString(value) {
			continue
		}
		var path []any
		for _, key := range keys {
			path = append(path, key)
		}
		c.report(c.of(template, path...), "the repository %q of %s is not in S3, and the suite has no other storage: its movers would write nowhere", value, what)
	}
}

// restic refuses other movers than VolSync's restic.
func (c *checker) restic(template map[string]any, o *unstructured.Unstructured, what string) {
	if _, found, _ := unstructured.NestedMap(o.Object, "spec", "restic"); !found {
		c.report(c.of(template, "spec"), "%s has no spec.restic: repositories of other movers cannot be looked into", what)
	}
}

func (c *checker) claim(template map[string]any, o *unstructured.Unstructured) {
	if o.GetName() != tried {
		c.report(c.of(template, "metadata", "name"), "the PVC of the templates is called %q for the PVC %s: write \"{pvc}\"", o.GetName(), tried)
	}
	if text(o, "spec", "volumeName") != "" {
		c.report(c.of(template, "spec", "volumeName"), "the PVC of the templates names its volume, which a spec's PVC cannot have: leave spec.volumeName out")
	}
}

// whole is about the templates together.
func (c *checker) whole(s *Set, objects []*unstructured.Unstructured, beside bool) {
	var claims, sources, restores []int
	destinations := map[string]bool{}
	for i, o := range objects {
		switch {
		case isClaim(o):
			claims = append(claims, i)
		case isVolSync(o, Source):
			sources = append(sources, i)
		case isVolSync(o, Destination):
			restores = append(restores, i)
			destinations[o.GetName()] = true
		}
	}
	if len(claims) > 1 {
		c.report(c.of(s.Objects[claims[1]]), "there are %d PersistentVolumeClaims in the templates, which are applied for each PVC: leave one in them", len(claims))
	}
	for _, of := range [][]int{sources, restores} {
		if len(of) > 1 { // one would be judged, and the others would not
			c.report(c.of(s.Objects[of[1]]), "there are %d %ss in the templates, and a contract is about one repository: list the files of one of them, and write another contract for the other", len(of), objects[of[1]].GetKind())
		}
	}
	if len(sources) == 0 && !beside {
		c.report(c.start(), "no template is a ReplicationSource: nothing backs the PVC up; add it, or list a policy under policy that makes it")
	}
	if len(claims) != 1 {
		return
	}
	template, pvc := s.Objects[claims[0]], objects[claims[0]]
	if from, is, _ := unstructured.NestedMap(pvc.Object, "spec", "dataSource"); is {
		c.report(c.of(template, "spec", "dataSource"), "the PVC is made from a %v: known here is VolSync's volume populator, a %s of %s under dataSourceRef", from["kind"], Destination, Group)
	}
	from, is, _ := unstructured.NestedMap(pvc.Object, "spec", "dataSourceRef")
	if !is {
		return
	}
	switch group, kind, name := from["apiGroup"], from["kind"], fmt.Sprint(from["name"]); {
	case group != Group || kind != Destination:
		c.report(c.of(template, "spec", "dataSourceRef"), "the PVC is filled from a %v of %v: known here is VolSync's volume populator: name a %s of %s", kind, group, Destination, Group)
	case !destinations[name] && !beside:
		c.report(c.of(template, "spec", "dataSourceRef", "name"), "the PVC is filled by the ReplicationDestination %s, which no template is: the PVC would wait for ever; %s",
			name, choice(destinations))
	}
}

// choice says which ReplicationDestination a PVC may be filled from.
func choice(destinations map[string]bool) string {
	if len(destinations) == 0 {
		return "there is none in the templates: add it"
	}
	return "choose " + strings.Join(slices.Sorted(maps.Keys(destinations)), " or ") + ", or add it"
}

func text(o *unstructured.Unstructured, fields ...string) string {
	value, _, _ := unstructured.NestedString(o.Object, fields...)
	return value
}
