// Package rights says what RBAC allows: the roles of a cluster, aggregated and bound as Kubernetes does it. The simulator, which is
// compiled among Kyverno's modules, imports it, so it may import Kubernetes' API and its comparison of rules only.
package rights

import (
	"embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// Source is this package's source, for the simulator's module.
//
//go:embed *.go
var Source embed.FS

// Group is the API group of roles and bindings.
const Group = rbacv1.GroupName

// Rights are what roles and bindings allow.
type Rights struct {
	clusterRoles map[string]rbacv1.ClusterRole
	roles        map[string]rbacv1.Role // by namespace/name
	bindings     []binding
}

// binding is a RoleBinding, or a ClusterRoleBinding if it has no namespace.
type binding struct {
	namespace string
	role      rbacv1.RoleRef
	subjects  []rbacv1.Subject
}

// Request is what somebody asks of the API server.
type Request struct {
	User                                             string
	Groups                                           []string
	Verb, APIGroup, Resource, Subresource, Namespace string
	Name                                             string
}

// New reads roles and bindings. Where two objects have one name, the later one is there. Other objects are left out.
func New(objects []map[string]any) (*Rights, error) {
	r := &Rights{clusterRoles: map[string]rbacv1.ClusterRole{}, roles: map[string]rbacv1.Role{}}
	bindings := map[string]binding{}
	for _, object := range objects {
		if apiVersion, _ := object["apiVersion"].(string); !strings.HasPrefix(apiVersion, Group+"/") {
			continue
		}
		var err error
		switch kind, _ := object["kind"].(string); kind {
		case "ClusterRole":
			var role rbacv1.ClusterRole
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(object, &role)
			if role.AggregationRule != nil {
				role.Rules = nil // Kubernetes writes over them
			}
			r.clusterRoles[role.Name] = role
		case "Role":
			var role rbacv1.Role
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(object, &role)
			r.roles[role.Namespace+"/"+role.Name] = role
		case "ClusterRoleBinding", "RoleBinding": // they have the same fields
			var b rbacv1.RoleBinding
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(object, &b)
			bindings[b.Namespace+"/"+b.Name] = binding{b.Namespace, b.RoleRef, b.Subjects}
		}
		if err != nil {
			return nil, fmt.Errorf("%v %v: %w", object["kind"], object["metadata"], err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(bindings)) {
		r.bindings = append(r.bindings, bindings[key])
	}
	return r, r.aggregate()
}

// aggregate gives each ClusterRole with an aggregationRule the rules of those that it selects, as Kubernetes' controller does. One
// may select another such one, so it is done until nothing changes.
func (r *Rights) aggregate() error {
	names := slices.Sorted(maps.Keys(r.clusterRoles))
	for changed := true; changed; {
		changed = false
		for _, name := range names {
			role := r.clusterRoles[name]
			if role.AggregationRule == nil {
				continue
			}
			var rules []rbacv1.PolicyRule
			for _, selector := range role.AggregationRule.ClusterRoleSelectors {
				selects, err := metav1.LabelSelectorAsSelector(&selector)
				if err != nil {
					return fmt.Errorf("ClusterRole %s: %w", name, err)
				}
				for _, other := range names {
					if other != name && selects.Matches(labels.Set(r.clusterRoles[other].Labels)) {
						rules = append(rules, r.clusterRoles[other].Rules...)
					}
				}
			}
			if covered, _ := validation.Covers(role.Rules, rules); !covered {
				role.Rules = rules
				r.clusterRoles[name] = role
				changed = true
			}
		}
	}
	return nil
}

// Allow says whether a request is allowed.
func (r *Rights) Allow(q Request) bool {
	resource := q.Resource
	if q.Subresource != "" {
		resource += "/" + q.Subresource
	}
	asked := rbacv1.PolicyRule{Verbs: []string{q.Verb}, APIGroups: []string{q.APIGroup}, Resources: []string{resource}}
	if q.Name != "" {
		asked.ResourceNames = []string{q.Name}
	}
	return slices.ContainsFunc(r.bindings, func(b binding) bool {
		if b.namespace != "" && b.namespace != q.Namespace || !b.isOf(q.User, q.Groups) {
			return false
		}
		covered, _ := validation.Covers(r.rules(b), []rbacv1.PolicyRule{asked})
		return covered
	})
}

// rules are those that a binding gives.
func (r *Rights) rules(b binding) []rbacv1.PolicyRule {
	if b.role.Kind == "ClusterRole" {
		return r.clusterRoles[b.role.Name].Rules
	}
	return r.roles[b.namespace+"/"+b.role.Name].Rules
}

func (b binding) isOf(user string, groups []string) bool {
	return slices.ContainsFunc(b.subjects, func(s rbacv1.Subject) bool {
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			namespace := s.Namespace
			if namespace == "" {
				namespace = b.namespace
			}
			return user == "system:serviceaccount:"+namespace+":"+s.Name
		case rbacv1.GroupKind:
			return slices.Contains(groups, s.Name)
		}
		return s.Kind == rbacv1.UserKind && s.Name == user
	})
}

// Label is the label, like key: "value", by which a ClusterRole becomes part of what a user may do everywhere. Empty: there is none.
func (r *Rights) Label(user string) string {
	for _, b := range r.bindings {
		role, known := r.clusterRoles[b.role.Name]
		if b.namespace != "" || b.role.Kind != "ClusterRole" || !b.isOf(user, nil) || !known || role.AggregationRule == nil {
			continue
		}
		for _, selector := range role.AggregationRule.ClusterRoleSelectors {
			for key, value := range selector.MatchLabels {
				if len(selector.MatchLabels) == 1 {
					return fmt.Sprintf("%s: %q", key, value)
				}
			}
		}
	}
	return ""
}
