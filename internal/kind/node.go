package kind

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
)

// Node is the row of v1 nodes.
func Node() *Kind {
	return &Kind{
		Names: Names{
			Resource:   Nodes,
			Singular:   "node",
			ShortNames: []string{"no"},
			GVK:        corev1.SchemeGroupVersion.WithKind("Node"),
		},
		Types: Types{
			New:     func() Object { return &corev1.Node{} },
			NewList: func() runtime.Object { return &corev1.NodeList{} },
			Default: changes(defaultNode),
			AddToScheme: func(s *runtime.Scheme) error {
				addVersion(s, corev1.SchemeGroupVersion, &corev1.NodeProxyOptions{})
				return parses(s, func(q query, out *corev1.NodeProxyOptions) { q.text("path", &out.Path) })
			},
		},
		Create: Create{Prepare: changes(prepareNode), Validate: checks(validateNode)},
		Update: Update{Prepare: updates(prepareNodeUpdate), Validate: checksUpdate(validateNodeUpdate)},
		Status: &Update{Prepare: updates(prepareNodeStatus), Validate: checksUpdate(validateNodeChange)},
		Warn:   warns(func(n, _ *corev1.Node) []string { return warnNode(n) }),
		Select: Select{Fields: selects(func(n *corev1.Node) fields.Set {
			return fields.Set{"spec.unschedulable": fmt.Sprint(n.Spec.Unschedulable)}
		})},
		Table: Printer{Columns: nodeColumns(), Cells: prints(nodeCells)},

		Subresources: []Subresource{Proxy},
	}
}

func nodeColumns() []metav1.TableColumnDefinition {
	system := corev1.NodeSystemInfo{}.SwaggerDoc()
	addresses := corev1.NodeStatus{}.SwaggerDoc()["addresses"]
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("Status", "string", "The status of the node"),
		column("Roles", "string", "The roles of the node"),
		ageColumn(),
		column("Version", "string", system["kubeletVersion"]),
		wideColumn("Internal-IP", "string", addresses),
		wideColumn("External-IP", "string", addresses),
		wideColumn("OS-Image", "string", system["osImage"]),
		wideColumn("Kernel-Version", "string", system["kernelVersion"]),
		wideColumn("Container-Runtime", "string", system["containerRuntimeVersion"]),
	}
}

func defaultNode(n *corev1.Node) {
	// podCIDR is the old name of the first podCIDRs.
	if first := n.Spec.PodCIDR; first != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != first) {
		n.Spec.PodCIDRs = []string{first}
	}
	if len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
}

// prepareNode lets a new node bring its status along: a kubelet registers so.
func prepareNode(n *corev1.Node) {
	//lint:ignore SA1019 what Kubernetes no longer reads, clients still send
	n.Spec.ConfigSource = nil
	n.Status.Config = nil
	n.Spec.PodPreemptionPolicy = nil // behind a gate that is off by default
}

func prepareNodeUpdate(n, old *corev1.Node) {
	n.Status = old.Status
	//lint:ignore SA1019 what Kubernetes no longer reads, clients still send
	if old.Spec.ConfigSource == nil {
		//lint:ignore SA1019 what Kubernetes no longer reads, clients still send
		n.Spec.ConfigSource = nil
	}
	if old.Spec.PodPreemptionPolicy == nil {
		n.Spec.PodPreemptionPolicy = nil
	}
}

func prepareNodeStatus(n, old *corev1.Node) {
	n.Spec = old.Spec
	if old.Status.Config == nil {
		n.Status.Config = nil
	}
}

func nodeCells(n *corev1.Node, now time.Time) []any {
	info := n.Status.NodeInfo
	kernel := orElse(info.KernelVersion, "<unknown>")
	if info.Architecture != "" {
		kernel += " (" + info.Architecture + ")"
	}
	return []any{
		n.Name, nodeStatus(n), orElse(strings.Join(nodeRoles(n), ","), "<none>"),
		age(n.CreationTimestamp, now), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		orElse(info.OSImage, "<unknown>"), kernel, orElse(info.ContainerRuntimeVersion, "<unknown>"),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if status = "NotReady"; c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

// nodeRoles returns the roles that labels give the node, sorted.
func nodeRoles(n *corev1.Node) []string {
	var roles []string
	for key, value := range n.Labels {
		role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/")
		if key == "kubernetes.io/role" {
			role, ok = value, true
		}
		if ok && role != "" {
			roles = append(roles, role)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

func nodeAddress(n *corev1.Node, of corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == of {
			return a.Address
		}
	}
	return "<none>"
}
