package daemonset

import (
	"cmp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/podset"
)

// census is the nodes and the set's pods.
type census struct {
	set       *appsv1.DaemonSet
	owner     podset.Owner
	hosts     []host
	pods      []*corev1.Pod            // all of the set's, by name
	on        map[string][]*corev1.Pod // by node; those that have ended and are being deleted are nowhere
	adopted   []*corev1.Pod            // of the pods, those that have no owner yet
	unmatched []*corev1.Pod            // are the set's, but match its selector no longer
}

func takeCensus(s State) census {
	c := census{
		set: s.Set, owner: ownerOf(s.Set),
		hosts: hostsOf(s.Set, s.Nodes), on: make(map[string][]*corev1.Pod),
	}
	claim := c.owner.Claims()
	for _, pod := range s.Pods {
		switch claim(pod) {
		case podset.Mine:
			c.pods = append(c.pods, pod)
		case podset.Adoptable:
			c.pods = append(c.pods, pod)
			c.adopted = append(c.adopted, pod)
		case podset.Unmatched:
			c.unmatched = append(c.unmatched, pod)
		}
	}
	// The order in which pods were listed must not show.
	slices.SortFunc(c.pods, compareNames[*corev1.Pod])
	for _, pod := range c.pods {
		if node := nodeOf(pod); node != "" && !(kind.PodEnded(pod) && pod.DeletionTimestamp != nil) {
			c.on[node] = append(c.on[node], pod)
		}
	}
	for _, pods := range c.on {
		slices.SortFunc(pods, oldestFirst)
	}
	return c
}

func ownerOf(ds *appsv1.DaemonSet) podset.Owner {
	return podset.Owner{
		Object: ds, Kind: appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
		Selector: ds.Spec.Selector, Template: &ds.Spec.Template,
	}
}

// oldestFirst orders pods that a node has before those that still wait for one.
func oldestFirst(a, b *corev1.Pod) int {
	switch {
	case a.Spec.NodeName != "" && b.Spec.NodeName == "":
		return -1
	case a.Spec.NodeName == "" && b.Spec.NodeName != "":
		return 1
	}
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), compareNames(a, b))
}

func compareNames[T metav1.Object](a, b T) int { return strings.Compare(a.GetName(), b.GetName()) }

// wanted is how many nodes are to have a pod.
func (c *census) wanted() int {
	n := 0
	for _, h := range c.hosts {
		if h.wanted {
			n++
		}
	}
	return n
}

// host returns a node as the set sees it; nothing is wanted of one that does not exist.
func (c *census) host(name string) host {
	if i := slices.IndexFunc(c.hosts, func(h host) bool { return h.node.Name == name }); i >= 0 {
		return c.hosts[i]
	}
	return host{}
}
