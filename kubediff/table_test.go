package kubediff

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/storagemigration/install"
	"k8s.io/kubernetes/pkg/printers"
	"k8s.io/kubernetes/pkg/printers/internalversion"
	"sigs.k8s.io/randfill"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// unprinted are the cells that differ on purpose: the last one of a row, and why.
var unprinted = map[string]string{
	"ipaddresses.networking.k8s.io": "Kubernetes prints an age for which it has no column",
}

// elsewhere are the resources that Kubernetes has no printer for: it has the one for all that have
// none for roles, and the aggregator its own for APIServices.
var elsewhere = []change.Resource{kind.Roles, kind.ClusterRoles, kind.APIServices}

// TestTables compares the columns and cells of rows whose rules are Kubernetes' own with
// what its printers print of random objects.
func TestTables(t *testing.T) {
	t.Parallel()
	tables := printers.NewTableGenerator().With(internalversion.AddHandlers)
	for _, k := range kind.Table() {
		if !k.Rare || k.Table.Cells == nil || slices.Contains(elsewhere, k.Resource) {
			continue
		}
		t.Run(string(k.Resource), func(t *testing.T) {
			t.Parallel()
			fill := randfill.NewWithSeed(1).NilChance(0.3).NumElements(0, 4).MaxDepth(12).Funcs(
				func(*runtime.RawExtension, randfill.Continue) {}, // what is in it is not printed
				func(*metav1.FieldsV1, randfill.Continue) {})
			compared := 0
			for range 300 {
				obj := k.New()
				fill.Fill(obj)
				obj.SetCreationTimestamp(metav1.NewTime(time.Now().Add(-5 * time.Minute)))
				if columns, cells, printed := theirCells(tables, k.GVK, obj); printed {
					compared++
					compareCells(t, k, obj, columns, cells)
				}
			}
			if compared < 10 {
				t.Errorf("Kubernetes prints %d of the random objects", compared)
			}
		})
	}
}

// theirCells is what Kubernetes prints of an object; not printed is one that no API server
// would have.
func theirCells(tables *printers.HumanReadableGenerator, gvk schema.GroupVersionKind, obj runtime.Object) (columns []metav1.TableColumnDefinition, cells []any, printed bool) {
	defer func() { printed = recover() == nil && printed }()
	internal, err := legacyscheme.Scheme.ConvertToVersion(obj.DeepCopyObject(), schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal})
	if err != nil {
		return nil, nil, false
	}
	table, err := tables.GenerateTable(internal, printers.GenerateOptions{Wide: true})
	if err != nil {
		return nil, nil, false
	}
	return table.ColumnDefinitions, table.Rows[0].Cells, true
}

func compareCells(t *testing.T, k *kind.Kind, obj kind.Object, columns []metav1.TableColumnDefinition, want []any) {
	t.Helper()
	if unprinted[string(k.Resource)] != "" {
		want = want[:len(want)-1]
	}
	if !reflect.DeepEqual(k.Table.Columns, columns) {
		t.Fatalf("columns are %+v\nwant %+v", k.Table.Columns, columns)
	}
	got := k.Table.Cells(obj, time.Now())
	if text := func(cells []any) (all []string) {
		for _, c := range cells {
			all = append(all, fmt.Sprint(c))
		}
		return all
	}; !slices.Equal(text(got), text(want)) {
		t.Fatalf("cells are %q\nwant      %q", text(got), text(want))
	}
}
