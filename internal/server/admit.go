package server

import (
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
	pod.Namespace = namespace // the library allows it to be left out
	var account *corev1.ServiceAccount
	if found, ok := view.Get(kind.AccountKey(pod)); ok {
		account = found.(*corev1.ServiceAccount)
	}
	err = kind.AdmitAccount(pod, account)
	if err == nil {
		err = kind.AdmitPod(pod)
	}
	if err != nil {
		return nil, apierrors.NewForbidden(r.gr, obj.GetName(), err)
	}
	return guard, nil
}
