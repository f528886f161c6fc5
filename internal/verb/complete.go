package verb

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Complete offers what may follow args at the prompt of a shell: kinds, and then names.
func (a *API) Complete(ctx context.Context, args []string, typed string) []string {
	kind, _, slash := strings.Cut(typed, "/")
	switch {
	case slash:
	case len(args) == 0:
		return a.resources()
	default:
		kind = args[0]
	}
	mapping, err := a.mapping(kind)
	if err != nil {
		return nil
	}
	list, err := a.resource(mapping, a.namespace).List(ctx, metav1.ListOptions{Limit: page})
	if err != nil {
		return nil
	}
	var names []string
	for i := range list.Items {
		name := list.Items[i].GetName()
		if slash {
			name = kind + "/" + name
		}
		names = append(names, name)
	}
	return names
}

// resources are the kinds that can be listed.
func (a *API) resources() []string {
	lists, _ := a.kinds.ServerPreferredResources()
	var names []string
	for _, list := range lists {
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") {
				names = append(names, r.Name)
			}
		}
	}
	return names
}
