package kind

import (
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Event is the row of v1 events.
func Event() *Kind {
	return &Kind{
		Resource:            "events",
		Singular:            "event",
		ShortNames:          []string{"ev"},
		Namespaced:          true,
		GVK:                 corev1.SchemeGroupVersion.WithKind("Event"),
		AllowCreateOnUpdate: true,
		Fields:              selects(eventFields),
		Served:              []schema.GroupVersion{eventsv1.SchemeGroupVersion},
		New:                 func() Object { return &corev1.Event{} },
		NewList:             func() runtime.Object { return &corev1.EventList{} },
	}
}

// eventFields returns the selectable fields of an Event.
func eventFields(e *corev1.Event) fields.Set {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	return fields.Set{
		"involvedObject.kind":            e.InvolvedObject.Kind,
		"involvedObject.namespace":       e.InvolvedObject.Namespace,
		"involvedObject.name":            e.InvolvedObject.Name,
		"involvedObject.uid":             string(e.InvolvedObject.UID),
		"involvedObject.apiVersion":      e.InvolvedObject.APIVersion,
		"involvedObject.resourceVersion": e.InvolvedObject.ResourceVersion,
		"involvedObject.fieldPath":       e.InvolvedObject.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         source,
		"type":                           e.Type,
	}
}
