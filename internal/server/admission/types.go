package admission

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// types are what apply configurations are merged by. It implements patch.TypeConverterManager.
type types struct {
	o      *Options
	mu     sync.Mutex
	since  *store.View // in which the definitions are as when custom was made
	custom map[schema.GroupVersion]managedfields.TypeConverter
}

// Run implements patch.TypeConverterManager: nothing runs.
func (t *types) Run(context.Context) {}

// GetTypeConverter returns nil for what nothing is known of yet.
func (t *types) GetTypeConverter(gvk schema.GroupVersionKind) managedfields.TypeConverter {
	if k := t.o.Kinds.ByGVK(gvk); k == nil || !k.Elsewhere {
		return t.o.Types
	}
	view, gv := t.o.Store.View(), gvk.GroupVersion()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since == nil || !view.Same(t.since, kind.CustomResourceDefinitions) {
		t.since, t.custom = view, map[schema.GroupVersion]managedfields.TypeConverter{}
	}
	if found := t.custom[gv]; found != nil {
		return found
	}
	made, err := t.o.Custom(gv)
	if err != nil {
		utilruntime.HandleError(err)
		return nil
	}
	t.custom[gv] = made
	return made
}
