package kind

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Check returns what the row lacks, or says that cannot be, in the names of its
// fields: what whoever adds a kind has to do next.
func (k *Kind) Check() error {
	c := &rowCheck{}
	c.names(&k.Names)
	c.types(&k.Types)
	c.need(k.Create.Validate != nil, "Create.Validate")
	c.need(k.Update.Validate != nil, "Update.Validate")
	c.subresource("Status", k.Status)
	c.subresource("Finalize", k.Finalize)
	c.subresource("Approval", k.Approval)
	for i := range k.Parts {
		c.need(k.Parts[i].Name != "", "Parts: a Name")
		c.subresource("Parts: "+string(k.Parts[i].Name), &k.Parts[i].Update)
	}
	for _, v := range k.Versions {
		c.need(v.GroupVersion.Version != "", "Versions: a GroupVersion")
		c.need(v.AddToScheme != nil, "Versions: %s: AddToScheme: its types, and how they are converted", v.GroupVersion)
	}
	c.need((k.Table.Cells == nil) == (len(k.Table.Columns) == 0), "Table: Columns and Cells, or neither (the default is Name and Age)")
	if len(c.faults) == 0 && k.Table.Cells != nil {
		cells := len(k.Table.Cells(k.New(), time.Time{}))
		c.need(cells == len(k.Table.Columns), "Table: a cell for each of %d Columns: Cells returns %d", len(k.Table.Columns), cells)
	}
	if len(c.faults) == 0 {
		return nil
	}
	return fmt.Errorf("kind: the row of %s lacks %s", k.title(), strings.Join(c.faults, "; "))
}

// title is what the row is called in an error.
func (k *Kind) title() string {
	switch {
	case k.GVK.Kind != "":
		return k.GVK.Kind
	case k.Resource != "":
		return string(k.Resource)
	}
	return "no name"
}

type rowCheck struct{ faults []string }

func (c *rowCheck) need(ok bool, format string, args ...any) {
	if !ok {
		c.faults = append(c.faults, fmt.Sprintf(format, args...))
	}
}

func (c *rowCheck) names(n *Names) {
	c.need(n.Resource != "", "Resource: the plural and the group, as in %q", Jobs)
	c.need(n.Singular != "", "Singular")
	c.need(n.GVK.Kind != "" && n.GVK.Version != "", "GVK: the version that is stored, and its kind")
	want := schema.GroupResource{Group: n.GVK.Group, Resource: n.Plural()}.String()
	c.need(string(n.Resource) == want, "Resource with the group of GVK: %q, not %q", want, n.Resource)
}

func (c *rowCheck) types(t *Types) {
	c.need(t.New != nil, "New")
	c.need(t.NewList != nil, "NewList")
	if t.New == nil || t.NewList == nil {
		return
	}
	c.need(t.New() != t.New(), "New that makes a new object each time")
	items, err := meta.GetItemsPtr(t.NewList())
	if err != nil {
		c.need(false, "NewList of a type with Items: %v", err)
		return
	}
	of, want := reflect.TypeOf(items).Elem(), reflect.TypeOf(t.New()).Elem()
	c.need(of.Kind() == reflect.Slice && of.Elem() == want, "NewList of %s, not of %s", want, of)
}

func (c *rowCheck) subresource(name string, u *Update) {
	if u == nil {
		return
	}
	c.need(u.Prepare != nil, "%s.Prepare: what carries over what may not be changed there", name)
	c.need(u.Validate != nil, "%s.Validate", name)
}
