package kind

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/change"
)

// leastKind is a row with what a row must have and no more, of a kind and a group that
// the table lacks without it.
func leastKind() *Kind {
	valid := func(obj Object) field.ErrorList { return nil }
	return &Kind{
		Names: Names{
			Resource: "priorityclasses.scheduling.k8s.io",
			Singular: "priorityclass",
			GVK:      schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		},
		Types: Types{
			New:     func() Object { return &schedulingv1.PriorityClass{} },
			NewList: func() runtime.Object { return &schedulingv1.PriorityClassList{} },
		},
		Create: Create{Validate: valid},
		Update: Update{Validate: func(obj, _ Object) field.ErrorList { return valid(obj) }},
	}
}

// grown is the catalogue before the row of leastKind comes to it.
func grown(t *testing.T) *Kinds {
	t.Helper()
	ks, err := NewKinds(slices.DeleteFunc(Table(), func(k *Kind) bool { return k.Resource == leastKind().Resource })...)
	if err != nil {
		t.Fatal(err)
	}
	return ks
}

// What a row lacks is named, and all of it at once.
func TestCheck(t *testing.T) {
	t.Parallel()
	if err := leastKind().Check(); err != nil {
		t.Error(err)
	}
	one := &schedulingv1.PriorityClass{}
	for _, test := range []struct {
		what string
		edit func(k *Kind)
		want string
	}{
		{"no name", func(k *Kind) { k.Resource = "" }, `lacks Resource: the plural and the group, as in "jobs.batch"`},
		{"no group in the name", func(k *Kind) { k.Resource = "priorityclasses" },
			`lacks Resource with the group of GVK: "priorityclasses.scheduling.k8s.io", not "priorityclasses"`},
		{"no kind", func(k *Kind) { k.GVK.Kind = "" }, "the row of priorityclasses.scheduling.k8s.io lacks GVK: the version that is stored, and its kind"},
		{"no types", func(k *Kind) { k.Types = Types{} }, "lacks New; NewList"},
		{"one object for all", func(k *Kind) { k.New = func() Object { return one } }, "lacks New that makes a new object each time"},
		{"another list", func(k *Kind) { k.NewList = func() runtime.Object { return &corev1.PodList{} } },
			"lacks NewList of v1.PriorityClass, not of []v1.Pod"},
		{"no list", func(k *Kind) { k.NewList = func() runtime.Object { return &corev1.Pod{} } }, "lacks NewList of a type with Items"},
		{"no rules", func(k *Kind) { k.Create.Validate, k.Update.Validate = nil, nil }, "lacks Create.Validate; Update.Validate"},
		{"half a status", func(k *Kind) { k.Status = &Update{} }, "lacks Status.Prepare: what carries over what may not be changed there; Status.Validate"},
		{"a bare version", func(k *Kind) { k.Versions = []Version{{GroupVersion: schema.GroupVersion{Group: "a", Version: "v2"}}} },
			"lacks Versions: a/v2: AddToScheme: its types, and how they are converted"},
		{"columns and no cells", func(k *Kind) { k.Table.Columns = []metav1.TableColumnDefinition{nameColumn()} },
			"lacks Table: Columns and Cells, or neither"},
		{"a cell too few", func(k *Kind) {
			k.Table = Printer{Columns: []metav1.TableColumnDefinition{nameColumn(), ageColumn()},
				Cells: func(Object, time.Time) []any { return []any{"a"} }}
		}, "lacks Table: a cell for each of 2 Columns: Cells returns 1"},
	} {
		k := leastKind()
		test.edit(k)
		if _, err := NewKinds(k); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.what, err, test.want)
		}
	}
}

// A version whose types its AddToScheme forgets is no panic of a library.
func TestSchemeNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	k := leastKind()
	k.Versions = []Version{{
		GroupVersion: schema.GroupVersion{Group: "scheduling.k8s.io", Version: "v1beta1"},
		AddToScheme:  func(*runtime.Scheme) error { return nil },
	}}
	_, err := NewScheme([]*Kind{k})
	const want = "kind: add the row of PriorityClass to the scheme: the AddToScheme of scheduling.k8s.io/v1beta1 adds no PriorityClass and PriorityClassList"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Rows that contradict each other are named, and nothing of what they come with is added.
func TestAddRefuses(t *testing.T) {
	t.Parallel()
	ks := grown(t)
	before := len(ks.All())
	twin := leastKind()
	twin.Resource, twin.GVK, twin.New, twin.NewList = "cases.batch", Job().GVK, Job().New, Job().NewList
	for _, test := range []struct {
		row  *Kind
		want string
	}{
		{Pod(), "kind: pods has two rows"},
		{twin, "kind: batch/v1, Kind=Job is what both jobs.batch and cases.batch serve"},
	} {
		if err := ks.Add(leastKind(), test.row); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
	if len(ks.All()) != before || ks.ByResource(leastKind().Resource) != nil {
		t.Error("half of what was refused was added")
	}
}

// The catalogue grows under those who read it; the codec and the index grow with it.
func TestKindsGrow(t *testing.T) {
	t.Parallel()
	ks := grown(t)
	codec, late := NewCodec(ks), leastKind()
	late.Select.Index = func(Object) []string { return []string{"late"} }
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if ks.ByResource(Pods) == nil || len(ks.All()) < 10 || ks.ByGVK(Job().GVK) == nil {
					t.Error("a row was gone for a moment")
				}
				if k := ks.ByResource(late.Resource); k != nil && ks.ByGVK(late.GVK) != k {
					t.Error("half of a row is there")
				}
			}
		})
	}
	obj := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 7}
	if _, err := codec.Encode(obj); err == nil || codec.Knows(late.Resource) || ks.Index(late.Resource, obj) != nil {
		t.Error("the row is known before it is added")
	}
	rows := ks.All()
	if err := ks.Add(late); err != nil {
		t.Fatal(err)
	}
	close(stop)
	readers.Wait()
	data, err := codec.Encode(obj)
	if err != nil {
		t.Fatal(err)
	}
	again, err := codec.Decode(late.Resource, data)
	if err != nil || again.(*schedulingv1.PriorityClass).Value != 7 || !codec.Knows(late.Resource) || len(ks.Index(late.Resource, obj)) != 1 {
		t.Errorf("got %v, %v", again, err)
	}
	if len(ks.All()) != len(rows)+1 || rows[len(rows)-1] == late {
		t.Error("who went through the rows before sees another number of them")
	}
}

// plainObject has no protobuf message.
type plainObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Text              string `json:"text"`
}

func (p *plainObject) DeepCopyObject() runtime.Object {
	next := *p
	p.ObjectMeta.DeepCopyInto(&next.ObjectMeta)
	return &next
}

type plainList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []plainObject `json:"items"`
}

func (p *plainList) DeepCopyObject() runtime.Object { next := *p; return &next }

// A type without a protobuf message is kept as JSON.
func TestCodecJSON(t *testing.T) {
	t.Parallel()
	k := leastKind()
	k.Names = Names{Resource: "plains.sampan.dev", Singular: "plain", GVK: schema.GroupVersionKind{Group: "sampan.dev", Version: "v1", Kind: "Plain"}}
	k.New, k.NewList = func() Object { return &plainObject{} }, func() runtime.Object { return &plainList{} }
	ks, err := NewKinds(k)
	if err != nil {
		t.Fatal(err)
	}
	codec := NewCodec(ks)
	data, err := codec.Encode(&plainObject{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Text: "ö"})
	if err != nil || data[0] != formatJSON {
		t.Fatalf("%q, %v", data, err)
	}
	obj, err := codec.Decode(k.Resource, data)
	if err != nil || obj.GetName() != "a" || obj.(*plainObject).Text != "ö" {
		t.Errorf("got %+v, %v", obj, err)
	}
	if _, err := codec.Decode(k.Resource, []byte{formatProtobuf, 0x0a, 0}); err == nil || !strings.Contains(err.Error(), "unknown format 0x70") {
		t.Errorf("protobuf of a type that has none: %v", err)
	}
}

var _ change.Object = &plainObject{}

func BenchmarkByResource(b *testing.B) {
	ks := Builtin()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if ks.ByResource(Jobs) == nil {
				b.Fatal("no Jobs")
			}
		}
	})
}

func BenchmarkKey(b *testing.B) {
	k := Job()
	b.ReportAllocs()
	for b.Loop() {
		if k.Key("ns", "pi").Name == "" {
			b.Fatal("no name")
		}
	}
}
