package plan

import (
	"errors"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/manifest"
)

// own are the labels that a node of this machine has whatever is said of it.
var own = []string{corev1.LabelHostname, corev1.LabelOSStable, corev1.LabelArchStable}

// Nodes makes the nodes of a machine of manifests: name, labels, annotations, taints, whether
// they are cordoned, and status.capacity and status.allocatable. What else a Node has comes
// about while it runs, and is refused. The error joins all that is wrong, each with its place.
func Nodes(input []manifest.Object, most int) ([]*corev1.Node, error) {
	p := &planner{kinds: kind.Builtin()}
	var err error
	if p.scheme, err = kind.NewVersionedScheme(p.kinds.All()); err != nil {
		return nil, err
	}
	var nodes []*corev1.Node
	first := map[string]manifest.Object{}
	for i, in := range input {
		it := &item{in: in, kind: p.kinds.ByGVK(in.GroupVersionKind()), origin: nameOf(in.GetKind(), in.GetName(), in.GetGenerateName())}
		switch node := p.node(it); {
		case i == most:
			it.refuse("", "there can be at most %d nodes", most)
		case node == nil:
		case first[node.Name].Unstructured != nil:
			it.refuse("metadata.name", "the name is taken: %s has the same", first[node.Name].At("metadata.name"))
		default:
			first[node.Name] = in
			nodes = append(nodes, node)
		}
		p.errs = append(p.errs, it.errs...)
		if i == most {
			break
		}
	}
	return nodes, errors.Join(p.errs...)
}

// node makes a node of one manifest; nil: it is wrong.
func (p *planner) node(it *item) *corev1.Node {
	if it.kind == nil || it.kind.Resource != kind.Nodes {
		it.refuse("kind", "want a Node of v1: this describes the nodes of this machine")
		return nil
	}
	obj, err := p.strictly(it.in)
	if err != nil {
		it.undecodable(err)
		return nil
	}
	node := obj.(*corev1.Node)
	if node.Name == "" {
		it.refuse("metadata.name", "a node needs a name")
		return nil
	}
	it.obj = node
	p.check(it)
	for _, why := range validation.IsValidLabelValue(node.Name) {
		it.refuse("metadata.name", "it is the value of the label %s, too: %s", corev1.LabelHostname, why)
	}
	for _, label := range own {
		if _, given := node.Labels[label]; given {
			it.refuse("metadata.labels", "%s is the node's own to set", label)
		}
	}
	it.onlyDescribes(node)
	if len(it.errs) > 0 {
		return nil
	}
	return node
}

// onlyDescribes refuses what nobody can say beforehand of a node.
func (it *item) onlyDescribes(node *corev1.Node) {
	rest := node.DeepCopy()
	rest.Spec.Taints, rest.Spec.Unschedulable = nil, false
	rest.Status.Capacity, rest.Status.Allocatable = nil, nil
	refuse := func(path string, is bool) {
		if is {
			it.refuse(path, "comes about while the node runs: it cannot be described")
		}
	}
	status, spec := &rest.Status, &rest.Spec
	refuse("status.conditions", len(status.Conditions) > 0)
	refuse("status.addresses", len(status.Addresses) > 0)
	refuse("status.images", len(status.Images) > 0)
	refuse("status.nodeInfo", status.NodeInfo != corev1.NodeSystemInfo{})
	refuse("spec.podCIDR", spec.PodCIDR != "")
	refuse("spec.podCIDRs", len(spec.PodCIDRs) > 0)
	refuse("spec.providerID", spec.ProviderID != "")
	refuse("metadata.finalizers", len(rest.Finalizers) > 0)
	refuse("metadata.ownerReferences", len(rest.OwnerReferences) > 0)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods, corev1.ResourceEphemeralStorage} {
		if q, given := node.Status.Capacity[name]; given && q.Sign() <= 0 {
			it.refuse("status.capacity."+string(name), "has to be more than nothing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(node.Status.Allocatable)) {
		q := node.Status.Allocatable[name]
		if whole, given := node.Status.Capacity[name]; given && q.Cmp(whole) > 0 {
			it.refuse("status.allocatable."+string(name), "is more than the node has: %s of %s", q.String(), whole.String())
		}
	}
}
