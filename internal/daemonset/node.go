package daemonset

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	schedulinghelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// host is a node as the set sees it.
type host struct {
	node *corev1.Node
	// wanted: a pod is to be created there if there is none. kept: one that is there may
	// stay.
	wanted, kept bool
}

// hostsOf returns what the nodes are to the set, by their names.
func hostsOf(ds *appsv1.DaemonSet, nodes []*corev1.Node) []host {
	spec := &ds.Spec.Template.Spec
	tolerations := tolerationsOf(spec)
	affinity := nodeaffinity.NewRequiredNodeAffinity(spec.NodeSelector, spec.Affinity)
	hosts := make([]host, len(nodes))
	for i, node := range nodes {
		hosts[i] = host{node: node}
		if spec.NodeName != "" && spec.NodeName != node.Name {
			continue
		}
		// A selector that cannot be read matches none.
		if ok, err := affinity.Match(node); err != nil || !ok {
			continue
		}
		hosts[i].wanted = tolerates(node, tolerations, corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule)
		hosts[i].kept = tolerates(node, tolerations, corev1.TaintEffectNoExecute)
	}
	slices.SortFunc(hosts, func(a, b host) int { return compareNames(a.node, b.node) })
	return hosts
}

// tolerates reports whether the taints of these effects are all tolerated.
func tolerates(node *corev1.Node, tolerations []corev1.Toleration, effects ...corev1.TaintEffect) bool {
	if len(node.Spec.Taints) == 0 {
		return true
	}
	_, found := schedulinghelper.FindMatchingUntoleratedTaint(klog.Logger{}, node.Spec.Taints, tolerations,
		func(t *corev1.Taint) bool { return slices.Contains(effects, t.Effect) }, true)
	return !found
}

// tolerationsOf returns the tolerations of the set's pods: those of its template, and
// those that every daemon has. A node that is out of something needs its daemons most.
func tolerationsOf(spec *corev1.PodSpec) []corev1.Toleration {
	all := slices.Clone(spec.Tolerations)
	add := func(key string, effect corev1.TaintEffect) {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		if i := slices.IndexFunc(all, func(other corev1.Toleration) bool { return t.MatchToleration(&other) }); i >= 0 {
			all[i] = t
			return
		}
		all = append(all, t)
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
	return all
}

// pin lets affinity, which it may change, ask for this node and no other. What else it
// asks of nodes, the node has.
func pin(affinity *corev1.Affinity, node string) *corev1.Affinity {
	if affinity == nil {
		affinity = &corev1.Affinity{}
	}
	if affinity.NodeAffinity == nil {
		affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
			Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
		}}}},
	}
	return affinity
}

// nodeOf is the node that a pod runs on, or is to run on by its affinity; "" if it names
// none.
func nodeOf(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && field.Operator == corev1.NodeSelectorOpIn {
				if len(field.Values) == 1 {
					return field.Values[0]
				}
				return ""
			}
		}
	}
	return ""
}
