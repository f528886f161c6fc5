package custom

import (
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// How often the path of a column may multiply what it finds. One that looks for a field at every
// depth, finds it, and looks from there on again, comes to the same place by every way there is:
// "..a..a..a..a..a..a" of an object 44 levels deep takes the library a minute and gigabytes, for a
// table with one cell, and whoever may list the objects asks for it.
const (
	mostDescents = 1 // ".."
	mostElements = 4 // further ones in "[0,1,2]"
)

// checkColumns refuses columns whose paths multiply what they find. Those that the definition has
// already are not looked at again: it has to be possible to write its status.
func checkColumns(next, stored *unstructured.Unstructured) error {
	known := map[string]bool{}
	eachColumn(stored, func(_ *field.Path, path string) { known[path] = true })
	var errs field.ErrorList
	eachColumn(next, func(at *field.Path, path string) {
		if !known[path] && (strings.Count(path, "..") > mostDescents || strings.Count(path, ",") > mostElements) {
			errs = append(errs, field.Invalid(at, path, fmt.Sprintf("may have \"..\" at most %d time and \",\" %d times: further ones multiply what it finds", mostDescents, mostElements)))
		}
	})
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: apiextensionsv1.GroupName, Kind: "CustomResourceDefinition"}, next.GetName(), errs)
}

// eachColumn calls do with the columns of a definition, which may be nil.
func eachColumn(u *unstructured.Unstructured, do func(at *field.Path, path string)) {
	if u == nil {
		return
	}
	spec, _ := u.Object["spec"].(map[string]any)
	versions, _ := spec["versions"].([]any)
	for i, v := range versions {
		version, _ := v.(map[string]any)
		columns, _ := version["additionalPrinterColumns"].([]any)
		for j, c := range columns {
			column, _ := c.(map[string]any)
			if path, _ := column["jsonPath"].(string); path != "" {
				do(field.NewPath("spec", "versions").Index(i).Child("additionalPrinterColumns").Index(j).Child("jsonPath"), path)
			}
		}
	}
}
