package kind

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// addEvents serves the stored v1 Events as events.k8s.io/v1 too.
func addEvents(s *runtime.Scheme) error {
	addVersion(s, eventsv1.SchemeGroupVersion, &eventsv1.Event{}, &eventsv1.EventList{})

	if err := convertsBothWays(s, coreEvent, newEvent); err != nil {
		return err
	}
	err := convertsBothWays(s,
		func(in *eventsv1.EventList, out *corev1.EventList) {
			out.ListMeta = in.ListMeta
			out.Items = convertItems(in.Items, coreEvent)
		},
		func(in *corev1.EventList, out *eventsv1.EventList) {
			out.ListMeta = in.ListMeta
			out.Items = convertItems(in.Items, newEvent)
		})
	if err != nil {
		return err
	}
	return s.AddFieldLabelConversionFunc(eventsv1.SchemeGroupVersion.WithKind("Event"), newEventFieldLabel)
}

// coreEvent fills out with the v1 form of in.
func coreEvent(in *eventsv1.Event, out *corev1.Event) {
	*out = corev1.Event{
		ObjectMeta:          in.ObjectMeta,
		InvolvedObject:      in.Regarding,
		Reason:              in.Reason,
		Message:             in.Note,
		Source:              in.DeprecatedSource,
		FirstTimestamp:      in.DeprecatedFirstTimestamp,
		LastTimestamp:       in.DeprecatedLastTimestamp,
		Count:               in.DeprecatedCount,
		Type:                in.Type,
		EventTime:           in.EventTime,
		Action:              in.Action,
		Related:             in.Related,
		ReportingController: in.ReportingController,
		ReportingInstance:   in.ReportingInstance,
	}
	if in.Series != nil {
		out.Series = &corev1.EventSeries{Count: in.Series.Count, LastObservedTime: in.Series.LastObservedTime}
	}
}

// newEvent fills out with the events.k8s.io/v1 form of in.
func newEvent(in *corev1.Event, out *eventsv1.Event) {
	*out = eventsv1.Event{
		ObjectMeta:               in.ObjectMeta,
		EventTime:                in.EventTime,
		ReportingController:      in.ReportingController,
		ReportingInstance:        in.ReportingInstance,
		Action:                   in.Action,
		Reason:                   in.Reason,
		Regarding:                in.InvolvedObject,
		Related:                  in.Related,
		Note:                     in.Message,
		Type:                     in.Type,
		DeprecatedSource:         in.Source,
		DeprecatedFirstTimestamp: in.FirstTimestamp,
		DeprecatedLastTimestamp:  in.LastTimestamp,
		DeprecatedCount:          in.Count,
	}
	if in.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: in.Series.Count, LastObservedTime: in.Series.LastObservedTime}
	}
}

// newEventFieldLabel translates the field labels of events.k8s.io/v1 to those
// of the stored v1 Event.
func newEventFieldLabel(label, value string) (string, string, error) {
	switch label {
	case "metadata.name", "metadata.namespace", "reason", "source", "type":
		return label, value, nil
	case "reportingController":
		return "reportingComponent", value, nil
	}
	if part, ok := strings.CutPrefix(label, "regarding."); ok {
		core := "involvedObject." + part
		if eventFields(&corev1.Event{}).Has(core) {
			return core, value, nil
		}
	}
	return "", "", fmt.Errorf("field label not supported: %s", label)
}

// convertsBothWays registers the conversions between A and B.
func convertsBothWays[A, B any](s *runtime.Scheme, aToB func(*A, *B), bToA func(*B, *A)) error {
	if err := converts(s, aToB); err != nil {
		return err
	}
	return converts(s, bToA)
}

// converts registers f. A converted object shares memory with its source, as
// apimachinery allows; whoever needs his own copies first.
func converts[A, B any](s *runtime.Scheme, f func(*A, *B)) error {
	return s.AddConversionFunc((*A)(nil), (*B)(nil), func(a, b any, _ conversion.Scope) error {
		f(a.(*A), b.(*B))
		return nil
	})
}

// convertItems converts the items of a list. It is never nil, which JSON would
// show as null.
func convertItems[A, B any](in []A, f func(*A, *B)) []B {
	out := make([]B, len(in))
	for i := range in {
		f(&in[i], &out[i])
	}
	return out
}
