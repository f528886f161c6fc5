package fit

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// podWith returns a pod with a container, changed by edit.
func podWith(edit func(*corev1.PodSpec)) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	if edit != nil {
		edit(&p.Spec)
	}
	return p
}

func asks(list corev1.ResourceList) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.Containers[0].Resources.Requests = list }
}

func hostPort(port int32, ip string, protocol corev1.Protocol) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: port, HostIP: ip, Protocol: protocol}}
	}
}

// TestRefuses: what a kubelet looks at before it takes a pod that no scheduler has bound, in its words.
func TestRefuses(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{}
	node.Labels = map[string]string{"disk": "ssd"}
	node.Spec.Taints = []corev1.Taint{{Key: "out", Effect: corev1.TaintEffectNoExecute}, {Key: "busy", Effect: corev1.TaintEffectNoSchedule}}
	quantity := resource.MustParse
	node.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: quantity("1"), corev1.ResourceMemory: quantity("1Gi"), corev1.ResourcePods: quantity("3"), "example.com/dongle": quantity("1"),
	}
	tolerating := func(edit func(*corev1.PodSpec)) *corev1.Pod {
		return podWith(func(s *corev1.PodSpec) {
			s.Tolerations = []corev1.Toleration{{Key: "out", Operator: corev1.TolerationOpExists}}
			if edit != nil {
				edit(s)
			}
		})
	}
	half := podWith(asks(corev1.ResourceList{corev1.ResourceCPU: quantity("600m")}))
	web := podWith(hostPort(8080, "", ""))
	local := podWith(hostPort(8080, "127.0.0.1", corev1.ProtocolTCP))
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		others []*corev1.Pod
		want   string
	}{
		"room":      {tolerating(asks(corev1.ResourceList{corev1.ResourceCPU: quantity("400m")})), []*corev1.Pod{half, web}, "<nil>"},
		"processor": {tolerating(asks(corev1.ResourceList{corev1.ResourceCPU: quantity("500m")})), []*corev1.Pod{half}, "&{OutOfcpu Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000}"},
		"memory": {tolerating(asks(corev1.ResourceList{corev1.ResourceMemory: quantity("2Gi")})), nil,
			"&{OutOfmemory Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824}"},
		"extended":       {tolerating(asks(corev1.ResourceList{"example.com/dongle": quantity("2")})), nil, "&{OutOfexample.com/dongle Node didn't have enough resource: example.com/dongle, requested: 2, used: 0, capacity: 1}"},
		"unknown":        {tolerating(asks(corev1.ResourceList{"example.com/gadget": quantity("1")})), nil, "&{OutOfexample.com/gadget Node didn't have enough resource: example.com/gadget, requested: 1, used: 0, capacity: 0}"},
		"pods":           {tolerating(nil), []*corev1.Pod{half, web, local}, "&{OutOfpods Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3}"},
		"port":           {tolerating(hostPort(8080, "192.0.2.1", corev1.ProtocolTCP)), []*corev1.Pod{half, web}, "&{NodePorts Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports}"},
		"port elsewhere": {tolerating(hostPort(8080, "192.0.2.1", corev1.ProtocolTCP)), []*corev1.Pod{local}, "<nil>"},
		"port of UDP":    {tolerating(hostPort(8080, "", corev1.ProtocolUDP)), []*corev1.Pod{web}, "<nil>"},
		"labels": {tolerating(func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "tape"} }), nil,
			"&{NodeAffinity Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector}"},
		"taint": {podWith(nil), nil, "&{TaintToleration Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate}"},
	} {
		if got := fmt.Sprint(Refuses(node, c.pod, c.others)); got != c.want {
			t.Errorf("%s: got %s\nwant %s", name, got, c.want)
		}
	}
}
