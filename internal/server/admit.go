package server

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// admit does what Kubernetes' admission does to a new object: its namespace
// exists (the guard holds that until the commit), and a pod gets what every pod
// has.
func (r *resource) admit(view *store.View, namespace string, obj change.Object) (*change.Guard, error) {
	guard, err := r.guardNamespace(view, namespace, obj.GetName())
	if err != nil {
		return nil, err
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return guard, nil
	}
	if err := kind.AdmitPod(pod); err != nil {
		return nil, apierrors.NewForbidden(r.gr, obj.GetName(), err)
	}
	// The account "default" needs no object here: nothing is in it.
	if name := pod.Spec.ServiceAccountName; name != "default" {
		key := change.Key{Resource: "serviceaccounts", Namespace: namespace, Name: name}
		if _, ok := view.Get(key); !ok {
			return nil, apierrors.NewForbidden(r.gr, obj.GetName(),
				fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", namespace, name, name))
		}
	}
	return guard, nil
}
