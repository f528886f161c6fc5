package kind

import (
	"math/rand"
	"net/url"
	"reflect"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	batchv1beta1 "k8s.io/api/batch/v1beta1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/utils/ptr"
)

// Every type of a row is known to the scheme in each served version, and what
// a client writes is the stored object without conversion.
func TestSchemeHubs(t *testing.T) {
	t.Parallel()
	s := builtinScheme()
	for _, k := range Ours(Table()) {
		hub := schema.GroupVersion{Group: k.GVK.Group, Version: runtime.APIVersionInternal}
		obj := k.New()
		got, err := s.UnsafeConvertToVersion(obj, hub)
		if err != nil {
			t.Fatal(err)
		}
		if got != obj {
			t.Errorf("%s: the stored version is not its own hub", k.Resource)
		}
		kinds, _, err := s.ObjectKinds(obj)
		if err != nil || kinds[0] != k.GVK {
			t.Errorf("%s: kinds %v, %v; want %v first", k.Resource, kinds, err, k.GVK)
		}
		if _, err := s.UnsafeConvertToVersion(k.NewList(), hub); err != nil {
			t.Error(err)
		}
		for _, gvk := range k.GVKs() {
			if !s.Recognizes(gvk) || !s.Recognizes(gvk.GroupVersion().WithKind(gvk.Kind+"List")) {
				t.Errorf("%v is not served", gvk)
			}
		}
	}
	if got := s.PrioritizedVersionsForGroup("batch"); got[0] != batchv1.SchemeGroupVersion {
		t.Errorf("batch versions %v: v1 is not preferred", got)
	}
}

// An object goes through the second version of its kind and comes back whole.
func TestSchemeConvertsWithoutLoss(t *testing.T) {
	t.Parallel()
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	s := builtinScheme()
	fill := filler(seed, s)
	for _, test := range []struct {
		stored runtime.Object
		via    schema.GroupVersion
	}{
		{&corev1.Event{}, eventsv1.SchemeGroupVersion},
		{&corev1.EventList{}, eventsv1.SchemeGroupVersion},
		{&batchv1.CronJob{}, batchv1beta1.SchemeGroupVersion},
		{&batchv1.CronJobList{}, batchv1beta1.SchemeGroupVersion},
	} {
		for range 50 {
			want := test.stored
			fill.Fill(want)
			want.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
			there, err := s.ConvertToVersion(want, test.via)
			if err != nil {
				t.Fatal(err)
			}
			if reflect.TypeOf(there) == reflect.TypeOf(want) {
				t.Fatalf("%T was not converted to %v", want, test.via)
			}
			hub := schema.GroupVersion{Group: test.via.Group, Version: runtime.APIVersionInternal}
			back, err := s.ConvertToVersion(there, hub)
			if err != nil {
				t.Fatal(err)
			}
			if !equality.Semantic.DeepEqual(back, want) {
				t.Fatalf("via %v: got %+v, want %+v", test.via, back, want)
			}
		}
	}
}

func TestSchemeDecodesSecondVersions(t *testing.T) {
	t.Parallel()
	codecs := serializer.NewCodecFactory(builtinScheme())

	data := []byte(`{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"name":"a","namespace":"b"},
		"regarding":{"kind":"Job","name":"pi"},"note":"Created pod","reportingController":"job-controller",
		"series":{"count":3},"deprecatedSource":{"component":"c"},"deprecatedCount":2}`)
	obj, _, err := codecs.UniversalDecoder(schema.GroupVersion{Group: "events.k8s.io", Version: runtime.APIVersionInternal}).
		Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := obj.(*corev1.Event)
	if !ok {
		t.Fatalf("got %T", obj)
	}
	if e.InvolvedObject.Name != "pi" || e.Message != "Created pod" || e.Series.Count != 3 || e.Source.Component != "c" || e.Count != 2 {
		t.Errorf("got %+v", e)
	}

	data = []byte(`{"apiVersion":"batch/v1beta1","kind":"CronJob","metadata":{"name":"hello"},"spec":{"schedule":"* * * * *"}}`)
	obj, _, err = codecs.UniversalDecoder(schema.GroupVersion{Group: "batch", Version: runtime.APIVersionInternal}).
		Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cj, ok := obj.(*batchv1.CronJob)
	if !ok {
		t.Fatalf("got %T", obj)
	}
	if cj.Spec.ConcurrencyPolicy != batchv1.AllowConcurrent || ptr.Deref(cj.Spec.SuccessfulJobsHistoryLimit, 0) != 3 {
		t.Errorf("v1beta1 was not defaulted: %+v", cj.Spec)
	}
}

func TestSchemeFieldLabels(t *testing.T) {
	t.Parallel()
	s := builtinScheme()
	core, events := corev1.SchemeGroupVersion, eventsv1.SchemeGroupVersion
	for _, test := range []struct {
		gvk              schema.GroupVersionKind
		label, want, err string
	}{
		{core.WithKind("Event"), "involvedObject.uid", "involvedObject.uid", ""},
		{core.WithKind("Event"), "metadata.namespace", "metadata.namespace", ""},
		{core.WithKind("Event"), "regarding.uid", "", "field label not supported: regarding.uid"},
		{events.WithKind("Event"), "regarding.uid", "involvedObject.uid", ""},
		{events.WithKind("Event"), "reportingController", "reportingComponent", ""},
		{events.WithKind("Event"), "regarding.x", "", "field label not supported: regarding.x"},
		{core.WithKind("Pod"), "spec.nodeName", "spec.nodeName", ""},
		{core.WithKind("Pod"), "spec.host", "spec.nodeName", ""},
		{core.WithKind("Node"), "metadata.namespace", "", "field label not supported: metadata.namespace"},
		{batchv1.SchemeGroupVersion.WithKind("Job"), "status.successful", "status.successful", ""},
		{batchv1.SchemeGroupVersion.WithKind("Job"), "status.phase", "", `field label "status.phase" not supported for Job`},
		{core.WithKind("ConfigMap"), "metadata.name", "metadata.name", ""},
		{core.WithKind("ConfigMap"), "data", "", `"data" is not a known field selector: only "metadata.name", "metadata.namespace"`},
	} {
		got, value, err := s.ConvertFieldLabel(test.gvk, test.label, "v")
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%v %s: got %v, want %s", test.gvk, test.label, err, test.err)
			}
			continue
		}
		if err != nil || got != test.want || value != "v" {
			t.Errorf("%v %s: got %s=%s, %v", test.gvk, test.label, got, value, err)
		}
	}
}

func TestSchemeParsesQueries(t *testing.T) {
	t.Parallel()
	s := builtinScheme()
	codec := runtime.NewParameterCodec(s)
	decode := func(query string, into runtime.Object) error {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		return codec.DecodeParameters(values, corev1.SchemeGroupVersion, into)
	}

	var log corev1.PodLogOptions
	if err := decode("container=c&follow=true&tailLines=10&sinceTime=2026-01-02T03:04:05Z&unknown=1", &log); err != nil {
		t.Fatal(err)
	}
	if log.Container != "c" || !log.Follow || log.Previous || *log.TailLines != 10 || log.SinceTime.Unix() != 1767323045 ||
		log.Stream != nil {
		t.Errorf("got %+v", log)
	}
	if err := decode("tailLines=many", &log); err == nil || !strings.Contains(err.Error(), "many") {
		t.Errorf("got %v", err)
	}

	var exec corev1.PodExecOptions
	if err := decode("command=sh&command=-c&stdin=1&stdout=true&stderr=0", &exec); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(exec.Command, []string{"sh", "-c"}) || !exec.Stdin || !exec.Stdout || exec.Stderr {
		t.Errorf("got %+v", exec)
	}

	var forward corev1.PodPortForwardOptions
	if err := decode("ports=80&ports=443", &forward); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(forward.Ports, []int32{80, 443}) {
		t.Errorf("got %+v", forward)
	}
}
