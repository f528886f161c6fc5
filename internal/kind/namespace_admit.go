package kind

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/change"
)

// MayEnter returns why nothing new may be in a namespace: it is not there, or is being deleted. nil: it
// may. The words are those of Kubernetes' admission (NamespaceLifecycle), about an object of a resource.
func MayEnter(view Getter, namespace string, of schema.GroupResource, name string) error {
	obj, ok := view.Get(Namespaces.Key("", namespace))
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: string(Namespaces)}, namespace)
	}
	if obj.GetDeletionTimestamp() == nil && obj.(*corev1.Namespace).Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	return terminating(namespace, of, name)
}

func terminating(namespace string, of schema.GroupResource, name string) error {
	err := apierrors.NewForbidden(of, name, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", namespace),
		Field:   "metadata.namespace",
	})
	return err
}

// NamespaceTerminates reports whether err says that nothing new is taken because the namespace is being
// deleted: whoever controls something there has nothing to tell of that, and nothing to do.
func NamespaceTerminates(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// NamespaceLifecycle refuses writes that create something where nothing new may be. The store asks it about
// each set, under its lock, so that who creates, and who deletes the namespace, cannot miss each other,
// whoever they are. A namespace that the set itself creates is there.
func NamespaceLifecycle(view change.View, writes []change.Write) ([]change.Write, error) {
	taken, open := 0, ""
	for i := range writes {
		w := &writes[i]
		if w.Op != change.Create {
			continue
		}
		if in := w.Key.Namespace; in != "" && in != open {
			err := MayEnter(view, in, schema.ParseGroupResource(string(w.Key.Resource)), w.Key.Name)
			if err != nil && !creates(writes, Namespaces.Key("", in)) {
				return nil, &change.Refusal{Err: err, Taken: taken}
			}
			open = in
		}
		taken++
	}
	return nil, nil
}

func creates(writes []change.Write, key change.Key) bool {
	for i := range writes {
		if writes[i].Op == change.Create && writes[i].Key == key {
			return true
		}
	}
	return false
}
