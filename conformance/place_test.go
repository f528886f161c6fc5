package conformance

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/kind"
)

// place is where the API has the objects of a kind.
type place struct {
	schema.GroupVersionResource
	namespaced bool
}

// places are the kinds that a session can speak of without an object of them, by their
// names in lower case.
var places = func() map[string]place {
	all := map[string]place{
		"cronjob.v1beta1": {schema.GroupVersionResource{Group: "batch", Version: "v1beta1", Resource: "cronjobs"}, true},
	}
	for _, k := range kind.Table() {
		name := strings.ToLower(k.GVK.Kind)
		plural, _, _ := strings.Cut(string(k.Resource), ".")
		if all[name].Resource == "" { // Events are of two groups
			all[name] = place{k.GVK.GroupVersion().WithResource(plural), k.Namespaced}
		}
	}
	return all
}()

func (s *session) place(kind string) (place, bool) {
	if at, known := s.named[kind]; known {
		return at, true
	}
	at, known := places[kind]
	return at, known
}

// kindOf is what a session calls an object's kind. One that no row has is a custom
// one, in the session's namespace; the second version of one has that in its name.
func (s *session) kindOf(u *unstructured.Unstructured) string {
	gvk := u.GroupVersionKind()
	name := strings.ToLower(gvk.Kind)
	if at, known := places[name]; known && at.Group == gvk.Group {
		if gvk.Version == at.Version || gvk.Version == "v1" {
			return name
		}
		return name + "." + gvk.Version
	}
	gvr, _ := meta.UnsafeGuessKindToResource(gvk)
	if first, known := s.named[name]; known && first.GroupVersionResource != gvr {
		name += "." + gvk.Version
	}
	s.named[name] = place{gvr, true}
	return name
}

// made is an object outside of the session's namespace.
type made struct {
	at   place
	name string
}

// remember that an object is to be removed in the end, if its namespace does not take it along.
func (s *session) remember(kind string, u *unstructured.Unstructured) {
	if at, _ := s.place(kind); !at.namespaced {
		s.made = append(s.made, made{at, u.GetName()})
	}
}

func (s *session) removeMade(t *testing.T) {
	for _, m := range slices.Backward(s.made) {
		err := s.client.Resource(m.at.GroupVersionResource).Delete(context.Background(), m.name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("%s %s: %v", m.at.Resource, m.name, err)
		}
	}
}

var wordPattern = regexp.MustCompile(`[A-Za-z]+`)

// kindsIn are those that a session mentions: of what it may look at, all moves count. Pods,
// Jobs and events are there without a word.
func kindsIn(archive *txtar.Archive) []string {
	kinds := []string{"job", "cronjob", "pod", "event"}
	for _, word := range wordPattern.FindAllString(string(txtar.Format(archive)), -1) {
		name := strings.ToLower(word)
		if _, known := places[name]; known && !slices.Contains(kinds, name) && (word == name || wordIsKind(word)) {
			kinds = append(kinds, name)
		}
	}
	return kinds
}

// wordIsKind tells names of kinds from words that begin a sentence.
func wordIsKind(word string) bool {
	return slices.ContainsFunc(kind.Table(), func(k *kind.Kind) bool { return k.GVK.Kind == word })
}
