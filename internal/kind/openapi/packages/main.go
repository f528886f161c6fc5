// Command packages prints the packages of the types that have a model in package
// openapi: the types of kind.Table, all that these refer to, and what the server
// answers besides. The generator is given them, see openapi.go.
package main

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/version"

	"github.com/sampan-batch/sampan/internal/kind"
)

func main() {
	all, err := packages()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(strings.Join(all, " "))
}

// packages returns the packages of all types that have a model.
func packages() ([]string, error) {
	scheme, err := kind.NewVersionedScheme(kind.Table())
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	seen := map[reflect.Type]bool{}
	for _, t := range scheme.AllKnownTypes() {
		visit(t, found, seen)
	}
	for _, answer := range []any{authenticationv1.SelfSubjectReview{}, authorizationv1.SelfSubjectAccessReview{}, version.Info{}} {
		visit(reflect.TypeOf(answer), found, seen)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// visit notes the packages of t and of the types that it refers to.
func visit(t reflect.Type, found map[string]bool, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	if strings.Contains(t.PkgPath(), ".") { // not of the standard library
		found[t.PkgPath()] = true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		visit(t.Elem(), found, seen)
	case reflect.Map:
		visit(t.Key(), found, seen)
		visit(t.Elem(), found, seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() {
				visit(f.Type, found, seen)
			}
		}
	}
}
