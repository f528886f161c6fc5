package kind

import (
	"net/url"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// addPodSubresources registers what the subresources of pods take and give.
func addPodSubresources(s *runtime.Scheme) error {
	addVersion(s, corev1.SchemeGroupVersion,
		&corev1.Binding{}, &corev1.PodLogOptions{}, &corev1.PodExecOptions{}, &corev1.PodAttachOptions{},
		&corev1.PodPortForwardOptions{}, &corev1.PodProxyOptions{})
	addVersion(s, policyv1.SchemeGroupVersion, &policyv1.Eviction{})
	// Clients of before 1.22 say what they evict in the words of then, which are the same.
	addVersion(s, policyv1beta1.SchemeGroupVersion, &policyv1beta1.Eviction{})
	if err := convertsBothWays(s,
		func(in *policyv1beta1.Eviction, out *policyv1.Eviction) { *out = policyv1.Eviction(*in) },
		func(in *policyv1.Eviction, out *policyv1beta1.Eviction) { *out = policyv1beta1.Eviction(*in) },
	); err != nil {
		return err
	}
	return addConnectOptions(s)
}

// addConnectOptions registers how the query of a subresource's URL (log, exec,
// attach, portforward, proxy) becomes its options type. Like everywhere in the
// API, an unknown parameter is ignored.
func addConnectOptions(s *runtime.Scheme) error {
	for _, err := range []error{
		parses(s, func(q query, out *corev1.PodLogOptions) {
			q.text("container", &out.Container)
			q.flag("follow", &out.Follow)
			q.flag("previous", &out.Previous)
			q.number("sinceSeconds", &out.SinceSeconds)
			q.time("sinceTime", &out.SinceTime)
			q.flag("timestamps", &out.Timestamps)
			q.number("tailLines", &out.TailLines)
			q.number("limitBytes", &out.LimitBytes)
			q.flag("insecureSkipTLSVerifyBackend", &out.InsecureSkipTLSVerifyBackend)
			q.optionalText("stream", &out.Stream)
		}),
		parses(s, func(q query, out *corev1.PodExecOptions) {
			q.flag("stdin", &out.Stdin)
			q.flag("stdout", &out.Stdout)
			q.flag("stderr", &out.Stderr)
			q.flag("tty", &out.TTY)
			q.text("container", &out.Container)
			out.Command = q.values["command"]
		}),
		parses(s, func(q query, out *corev1.PodAttachOptions) {
			q.flag("stdin", &out.Stdin)
			q.flag("stdout", &out.Stdout)
			q.flag("stderr", &out.Stderr)
			q.flag("tty", &out.TTY)
			q.text("container", &out.Container)
		}),
		parses(s, func(q query, out *corev1.PodPortForwardOptions) { q.numbers("ports", &out.Ports) }),
		parses(s, func(q query, out *corev1.PodProxyOptions) { q.text("path", &out.Path) }),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// parses registers f as the conversion of a query to T.
func parses[T any](s *runtime.Scheme, f func(q query, out *T)) error {
	return s.AddConversionFunc((*url.Values)(nil), (*T)(nil), func(in, out any, scope conversion.Scope) error {
		q := query{values: *in.(*url.Values), scope: scope, err: new(error)}
		f(q, out.(*T))
		return *q.err
	})
}

// query reads parameters of a URL and keeps the first error.
type query struct {
	values url.Values
	scope  conversion.Scope
	err    *error
}

func (q query) text(name string, out *string) {
	read(q, name, out, runtime.Convert_Slice_string_To_string)
}

func (q query) flag(name string, out *bool) { read(q, name, out, runtime.Convert_Slice_string_To_bool) }

func (q query) number(name string, out **int64) {
	read(q, name, out, runtime.Convert_Slice_string_To_Pointer_int64)
}

func (q query) numbers(name string, out *[]int32) {
	read(q, name, out, metav1.Convert_Slice_string_To_Slice_int32)
}

func (q query) time(name string, out **metav1.Time) {
	read(q, name, out, metav1.Convert_Slice_string_To_Pointer_v1_Time)
}

func (q query) optionalText(name string, out **string) {
	if values := q.values[name]; len(values) > 0 {
		*out = &values[0]
	}
}

// read converts the values of one parameter, if it is there.
func read[T any](q query, name string, out *T, convert func(*[]string, *T, conversion.Scope) error) {
	values, ok := q.values[name]
	if !ok || len(values) == 0 || *q.err != nil {
		return
	}
	*q.err = convert(&values, out, q.scope)
}
