package kind

import (
	"math/rand"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/randfill"

	"github.com/sampan-batch/sampan/internal/change"
)

// filler fills API objects with random values that their encodings can hold.
func filler(seed int64, s *runtime.Scheme) *randfill.Filler {
	return fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), serializer.NewCodecFactory(s))
}

func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	kinds := Builtin()
	codec := NewCodec(kinds)
	fill := filler(seed, builtinScheme())
	for _, k := range Ours(kinds.All()) {
		for range 50 {
			want := k.New()
			fill.Fill(want)
			want.GetObjectKind().SetGroupVersionKind(k.GVK) // not kept
			if k.Storage.Implied != nil {
				k.Storage.Implied(want)
			}
			data, err := codec.Encode(want)
			if err != nil {
				t.Fatalf("%s: %v", k.Resource, err)
			}
			got, err := codec.Decode(k.Resource, data)
			if err != nil {
				t.Fatalf("%s: %v", k.Resource, err)
			}
			for i := range data {
				data[i] = 0xff // the object must not depend on the bytes
			}
			want.GetObjectKind().SetGroupVersionKind(got.GetObjectKind().GroupVersionKind())
			if !equality.Semantic.DeepEqual(got, want) {
				t.Fatalf("%s: got %+v, want %+v", k.Resource, got, want)
			}
		}
	}
}

func TestCodecRefuses(t *testing.T) {
	t.Parallel()
	codec := NewCodec(Builtin())
	if _, err := codec.Encode(&corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "e"}}); err == nil {
		t.Error("encoded an object of no row")
	}
	for name, test := range map[string]struct {
		resource change.Resource
		data     []byte
		want     string
	}{
		"unknown resource": {"bindings", []byte{formatProtobuf}, `kind: unknown resource "bindings"`},
		"no data":          {"configmaps", nil, "kind: decode configmaps: no data"},
		"unknown format":   {"configmaps", []byte("{}"), "kind: decode configmaps: unknown format 0x7b"},
		"cut off":          {"configmaps", []byte{formatProtobuf, 0x0a, 9, 'x'}, "kind: decode configmaps: unexpected EOF"},
	} {
		_, err := codec.Decode(test.resource, test.data)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}
