package kind

import (
	"testing"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Of the classes that are marked the newest is the default one, then the first by name; a list says so.
func TestDefaultClass(t *testing.T) {
	t.Parallel()
	day := func(n int) metav1.Time { return metav1.NewTime(time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC)) }
	class := func(name string, made metav1.Time, annotation, value string) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: made, Annotations: map[string]string{annotation: value}}}
	}
	const beta = "storageclass.beta.kubernetes.io/is-default-class"
	for name, test := range map[string]struct {
		classes []*storagev1.StorageClass
		want    string
	}{
		"none":        {nil, ""},
		"none marked": {[]*storagev1.StorageClass{class("a", day(1), DefaultClassAnnotation, "false"), class("b", day(1), "x", "true")}, ""},
		"one":         {[]*storagev1.StorageClass{class("a", day(2), "x", ""), class("b", day(1), DefaultClassAnnotation, "true")}, "b"},
		"as of old":   {[]*storagev1.StorageClass{class("a", day(1), beta, "true")}, "a"},
		"the newest":  {[]*storagev1.StorageClass{class("a", day(1), DefaultClassAnnotation, "true"), class("b", day(2), DefaultClassAnnotation, "true")}, "b"},
		"by name":     {[]*storagev1.StorageClass{class("b", day(1), DefaultClassAnnotation, "true"), class("a", day(1), DefaultClassAnnotation, "true")}, "a"},
	} {
		var rows []metav1.TableRow
		for _, c := range test.classes {
			rows = append(rows, metav1.TableRow{Cells: []any{c.Name}, Object: runtime.RawExtension{Object: c}})
		}
		StorageClass().Table.List(rows)
		for i, c := range test.classes {
			want := c.Name
			if c.Name == test.want {
				want += " (default)"
			}
			if rows[i].Cells[0] != want {
				t.Errorf("%s: %v, want %v", name, rows[i].Cells[0], want)
			}
		}
	}
}
