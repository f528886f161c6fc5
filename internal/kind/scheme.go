package kind

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	batchv1beta1 "k8s.io/api/batch/v1beta1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// NewScheme returns the server's scheme: the types, defaults, conversions and
// field labels of Table. An error in it is an error in this program, and
// panics.
//
// k8s.io/apiserver insists on converting every request to an internal "hub"
// version of its group. A type of k8s.io/api is therefore registered twice:
// as group/v1 and as group/__internal. The conversion between the two is the
// identity, and the scheme knows to skip it. Only the types that are not the
// stored ones (events.k8s.io Events, v1beta1 CronJobs) are converted, and
// both ways lead over the stored type.
func NewScheme() *runtime.Scheme {
	s := NewVersionedScheme()
	for _, gv := range hubVersions() {
		utilruntime.Must(addHub(s, gv))
	}
	// Of events.k8s.io, the stored v1.Event is the hub.
	s.AddKnownTypes(internalVersion(eventsv1.GroupName), &corev1.Event{}, &corev1.EventList{})
	return s
}

// NewVersionedScheme returns the same scheme without the hubs: each type has
// the group, version and kind that clients know, and no other. It is what
// names the models of the OpenAPI documents.
func NewVersionedScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme,
		batchv1.AddToScheme,
		appsv1.AddToScheme,
		coordinationv1.AddToScheme,
		// What subresources take and give: Eviction, TokenRequest, Scale.
		policyv1.AddToScheme,
		authenticationv1.AddToScheme,
		autoscalingv1.AddToScheme,
		// Second versions of stored types.
		addEvents,
		addCronJobsBeta,
		addConnectOptions,
	} {
		utilruntime.Must(add(s))
	}
	for _, k := range Table() {
		utilruntime.Must(addRow(s, k))
	}
	utilruntime.Must(s.SetVersionPriority(batchv1.SchemeGroupVersion, batchv1beta1.SchemeGroupVersion))
	utilruntime.Must(s.SetVersionPriority(eventsv1.SchemeGroupVersion))
	for _, gv := range hubVersions() {
		if gv.Group != batchv1.GroupName {
			utilruntime.Must(s.SetVersionPriority(gv))
		}
	}
	return s
}

// hubVersions are the versions whose types are the hubs of their groups.
func hubVersions() []schema.GroupVersion {
	return []schema.GroupVersion{
		corev1.SchemeGroupVersion, batchv1.SchemeGroupVersion, appsv1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion,
		policyv1.SchemeGroupVersion, authenticationv1.SchemeGroupVersion, autoscalingv1.SchemeGroupVersion,
	}
}

func internalVersion(group string) schema.GroupVersion {
	return schema.GroupVersion{Group: group, Version: runtime.APIVersionInternal}
}

// addHub registers the types of gv as the internal version of its group.
func addHub(s *runtime.Scheme, gv schema.GroupVersion) error {
	for name, t := range s.KnownTypes(gv) {
		// The meta types (ListOptions, WatchEvent, …) have no hub.
		if !strings.HasPrefix(t.PkgPath(), "k8s.io/api/") {
			continue
		}
		obj, err := s.New(gv.WithKind(name))
		if err != nil {
			return err
		}
		s.AddKnownTypeWithName(internalVersion(gv.Group).WithKind(name), obj)
	}
	return nil
}

// addRow registers what the row k knows about its type.
func addRow(s *runtime.Scheme, k *Kind) error {
	if k.Default != nil {
		s.AddTypeDefaultingFunc(k.New(), func(obj any) { k.Default(obj.(Object)) })
	}
	if k.Fields == nil {
		return nil // metadata.name and metadata.namespace work without
	}
	return s.AddFieldLabelConversionFunc(k.GVK, fieldLabels(k))
}

// fieldLabels accepts the field labels that the objects of k can be selected
// by.
func fieldLabels(k *Kind) runtime.FieldLabelConversionFunc {
	labels := k.Fields(k.New())
	return func(label, value string) (string, string, error) {
		if label == "spec.host" && k.Resource == "pods" {
			label = "spec.nodeName" // what the field was called before v1
		}
		switch {
		case label == "metadata.name", label == "metadata.namespace" && k.Namespaced, labels.Has(label):
			return label, value, nil
		case k.GVK.Group == "":
			return "", "", fmt.Errorf("field label not supported: %s", label)
		default:
			return "", "", fmt.Errorf("field label %q not supported for %s", label, k.GVK.Kind)
		}
	}
}

// addVersion registers the types of a version that is not the stored one, with
// the common types that belong to every version.
func addVersion(s *runtime.Scheme, gv schema.GroupVersion, types ...runtime.Object) {
	s.AddKnownTypes(gv, types...)
	metav1.AddToGroupVersion(s, gv)
}
