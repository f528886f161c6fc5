package server

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/ptr"
)

// podLog is pods/log.
type podLog struct{ pods *resource }

var _ interface {
	rest.Storage
	rest.GetterWithOptions
	rest.StorageMetadata
} = &podLog{}

// New implements rest.Storage.
func (l *podLog) New() runtime.Object { return &corev1.Pod{} }

// Destroy implements rest.Storage.
func (l *podLog) Destroy() {}

// ProducesMIMETypes implements rest.StorageMetadata.
func (l *podLog) ProducesMIMETypes(string) []string { return []string{"text/plain"} }

// ProducesObject implements rest.StorageMetadata.
func (l *podLog) ProducesObject(string) any { return "" }

// OverrideMetricsVerb tells logs, which may last, from other reads.
func (l *podLog) OverrideMetricsVerb(verb string) string {
	if verb == "GET" {
		return "CONNECT"
	}
	return verb
}

// NewGetOptions implements rest.GetterWithOptions.
func (l *podLog) NewGetOptions() (runtime.Object, bool, string) {
	return &corev1.PodLogOptions{}, false, ""
}

// Get returns the log as a stream, or why there is none.
func (l *podLog) Get(ctx context.Context, name string, opts runtime.Object) (runtime.Object, error) {
	options := opts.(*corev1.PodLogOptions)
	if options.Stream == nil {
		options.Stream = ptr.To(corev1.LogStreamAll)
	}
	if errs := validateLogOptions(options); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, name, errs)
	}
	obj, err := l.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod := obj.(*corev1.Pod)
	if options.Container, err = containerNamed(pod, options.Container); err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return &logStream{}, nil // an empty log, as in Kubernetes
	}
	node, err := l.pods.node(pod)
	if err != nil {
		return nil, err
	}
	return &logStream{node: node, pod: pod, options: options}, nil
}

func validateLogOptions(o *corev1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if o.TailLines != nil && *o.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0"))
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0"))
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0"))
	}
	switch *o.Stream {
	case corev1.LogStreamAll:
	case corev1.LogStreamStdout, corev1.LogStreamStderr:
		if o.TailLines != nil {
			errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
		}
	default:
		errs = append(errs, field.NotSupported(field.NewPath("stream"), *o.Stream,
			[]string{corev1.LogStreamAll, corev1.LogStreamStderr, corev1.LogStreamStdout}))
	}
	return errs
}

// containerNamed returns the container that is meant by name; "" is the only one. Errors
// are the API's.
func containerNamed(pod *corev1.Pod, name string) (string, error) {
	if name == "" && len(pod.Spec.Containers) == 1 {
		return pod.Spec.Containers[0].Name, nil
	}
	var names []string
	for _, c := range pod.Spec.InitContainers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	if name == "" {
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, names))
	}
	for _, n := range names {
		if n == name {
			return name, nil
		}
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

// logStream is an object that the library answers by streaming it.
type logStream struct {
	metav1.TypeMeta
	node    PodStreams // nil: an empty log
	pod     *corev1.Pod
	options *corev1.PodLogOptions
}

var _ rest.ResourceStreamer = &logStream{}

// DeepCopyObject implements runtime.Object. A stream cannot be copied, and the
// library does not.
func (s *logStream) DeepCopyObject() runtime.Object { panic("server: a log stream was copied") }

// InputStream implements rest.ResourceStreamer.
func (s *logStream) InputStream(ctx context.Context, _, _ string) (stream io.ReadCloser, flush bool, contentType string, err error) {
	if s.node == nil {
		return nil, false, "", nil
	}
	stream, err = s.node.Logs(ctx, s.pod, s.options)
	return stream, s.options.Follow, "text/plain", err
}
