package server

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// table prints objects with the columns of their row.
type table struct {
	kind *kind.Kind
	now  func() time.Time
}

// newTable returns the printer of the row, or one of name and age if the row
// has no columns.
func newTable(k *kind.Kind, gr schema.GroupResource, now func() time.Time) rest.TableConvertor {
	if k.Table.Cells == nil {
		return rest.NewDefaultTableConvertor(gr)
	}
	return &table{kind: k, now: now}
}

// ConvertToTable implements rest.TableConvertor.
func (t *table) ConvertToTable(_ context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	out := &metav1.Table{}
	if o, ok := options.(*metav1.TableOptions); !ok || !o.NoHeaders {
		out.ColumnDefinitions = t.kind.Table.Columns
	}
	now := t.now()
	add := func(obj runtime.Object) error {
		o, ok := obj.(change.Object)
		if !ok {
			return fmt.Errorf("server: cannot print %T", obj)
		}
		out.Rows = append(out.Rows, metav1.TableRow{Cells: t.kind.Table.Cells(o, now), Object: runtime.RawExtension{Object: obj}})
		return nil
	}
	if !meta.IsListType(obj) {
		if m, err := meta.CommonAccessor(obj); err == nil {
			out.ResourceVersion = m.GetResourceVersion()
		}
		return out, add(obj)
	}
	list, err := meta.ListAccessor(obj)
	if err != nil {
		return nil, err
	}
	out.ResourceVersion = list.GetResourceVersion()
	out.Continue = list.GetContinue()
	out.RemainingItemCount = list.GetRemainingItemCount()
	err = meta.EachListItem(obj, add)
	if err == nil && t.kind.Table.List != nil {
		t.kind.Table.List(out.Rows)
	}
	return out, err
}
