package engine

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// itself refuses to do something in the name of another node.
func (c *nodeClient) itself(resource change.Resource, name string) error {
	if name != c.node {
		return c.forbidden(resource, name)
	}
	return nil
}

// refersTo refuses what no pod of the node refers to. A node that is the only one may read what
// any pod may refer to, so that nobody looks through its pods.
func (c *nodeClient) refersTo(resource change.Resource, namespace, name string) error {
	if c.alone {
		return nil
	}
	for obj := range c.store.View().Index(kind.Pods, kind.ActivePods(c.node)) {
		if pod := obj.(*corev1.Pod); pod.Namespace == namespace && mentions(pod, resource, name) {
			return nil
		}
	}
	return c.forbidden(resource, name)
}

// mentions reports whether a pod refers to an object of its namespace.
func mentions(pod *corev1.Pod, resource change.Resource, name string) bool {
	found := false // what the visits return says nothing of containers
	look := func(mentioned string) bool {
		found = found || mentioned == name
		return !found
	}
	switch resource {
	case kind.Secrets:
		podutil.VisitPodSecretNames(pod, look)
	case kind.ConfigMaps:
		podutil.VisitPodConfigmapNames(pod, look)
	case kind.ServiceAccounts:
		found = pod.Spec.ServiceAccountName == name
	}
	return found
}

// forbidden is the answer of the API to a node that asks for what is none of its business.
func (c *nodeClient) forbidden(resource change.Resource, name string) error {
	gr := schema.ParseGroupResource(string(resource))
	return apierrors.NewForbidden(gr, name, fmt.Errorf("it is none of the node %s", c.node))
}
