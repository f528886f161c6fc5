package kind

import (
	"path"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/golden"
)

// outcome is what a golden file holds: what becomes of a manifest.
type outcome struct {
	// Warnings are what the API warns about.
	Warnings []string `json:"warnings,omitempty"`
	// Message and Causes are those of the 422 that refuses it.
	Message string               `json:"message,omitempty"`
	Causes  []metav1.StatusCause `json:"causes,omitempty"`
	// Object is what is stored, if nothing is wrong.
	Object Object `json:"object,omitempty"`
}

var testTime = metav1.NewTime(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC))

// world is what the tests know the kinds by.
type world struct {
	kinds  *Kinds
	scheme *runtime.Scheme
	codecs serializer.CodecFactory
}

func builtinScheme() *runtime.Scheme {
	scheme, err := NewScheme(Table())
	if err != nil {
		panic(err)
	}
	return scheme
}

func setup() *world {
	scheme := builtinScheme()
	return &world{Builtin(), scheme, serializer.NewCodecFactory(scheme, serializer.EnableStrict)}
}

// decode reads a manifest as the server does: defaulted, converted to the
// stored version, unknown fields refused.
func (w *world) decode(t *testing.T, manifest []byte) (*Kind, Object) {
	t.Helper()
	data, err := yaml.YAMLToJSON(manifest)
	if err != nil {
		t.Fatal(err)
	}
	obj, gvk, err := w.codecs.UniversalDecoder(schema.GroupVersion{Version: runtime.APIVersionInternal},
		schema.GroupVersion{Group: "batch", Version: runtime.APIVersionInternal},
		schema.GroupVersion{Group: "events.k8s.io", Version: runtime.APIVersionInternal},
		schema.GroupVersion{Group: "coordination.k8s.io", Version: runtime.APIVersionInternal},
	).Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	k := w.kinds.ByGVK(*gvk)
	if k == nil {
		t.Fatalf("no row for %v", gvk)
	}
	return k, obj.(Object)
}

// create does what the server does with a new object before it is stored.
func create(k *Kind, obj Object) (field.ErrorList, []string) {
	obj.SetUID("11111111-2222-3333-4444-555555555555")
	obj.SetCreationTimestamp(testTime)
	if k.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace("default")
	}
	if k.Create.Prepare != nil {
		k.Create.Prepare(obj)
	}
	var warnings []string
	errs := k.Create.Validate(obj).Filter() // equal errors are answered once
	if k.Warn != nil && len(errs) == 0 {
		warnings = k.Warn(obj, nil)
	}
	return errs, warnings
}

// Each testdata/create/x.input.yaml is created; x.output.yaml is what comes of
// it.
func TestCreate(t *testing.T) {
	t.Parallel()
	w := setup()
	golden.Pairs(t, "testdata/create", "yaml", func(t *testing.T, manifest []byte) []byte {
		k, obj := w.decode(t, manifest)
		errs, warnings := create(k, obj)
		name := path.Base(t.Name())
		if strings.HasPrefix(name, "seed-") && len(errs) > 0 {
			t.Errorf("a seed's manifest is refused: %v", errs.ToAggregate())
		}
		if strings.HasPrefix(name, "wrong-") && len(errs) == 0 {
			t.Error("a wrong manifest is taken")
		}
		got := outcome{Warnings: warnings}
		if len(errs) > 0 {
			got.Message, got.Causes = refusal(k, obj, errs)
		} else {
			obj.GetObjectKind().SetGroupVersionKind(k.GVK)
			got.Object = obj
		}
		text, err := yaml.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		return text
	})
}

// refusal is what a client sees of errs.
func refusal(k *Kind, obj Object, errs field.ErrorList) (string, []metav1.StatusCause) {
	status := apierrors.NewInvalid(k.GVK.GroupKind(), obj.GetName(), errs).Status()
	return status.Message, status.Details.Causes
}
