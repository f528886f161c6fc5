package custom

import (
	"slices"

	apiextensionshelpers "k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/tools/cache"
)

// groupsHandler keeps the groups of definitions among those that /apis lists for clients
// that do not know aggregated discovery, and the catalogue of kinds: a policy may name one of
// which there is no object yet.
func (s *Server) groupsHandler() cache.ResourceEventHandler {
	look := func(obj any) {
		if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = last.Obj
		}
		d := obj.(*apiextensionsv1.CustomResourceDefinition)
		if apiextensionshelpers.IsCRDConditionTrue(d, apiextensionsv1.Established) {
			if err := s.define(d.Name); err != nil && !apierrors.IsNotFound(err) {
				utilruntime.HandleError(err)
			}
		}
		s.listGroup(d.Spec.Group)
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, obj any) { look(obj) }, DeleteFunc: look}
}

// listGroup lists a group with the versions that definitions serve, or no longer. One that has
// kinds of ours is listed with what these have.
func (s *Server) listGroup(name string) {
	if s.Own(name) {
		return
	}
	definitions, err := s.lister.List(labels.Everything())
	if err != nil {
		return
	}
	var versions []string
	for _, d := range definitions {
		if d.Spec.Group != name || !apiextensionshelpers.IsCRDConditionTrue(d, apiextensionsv1.Established) {
			continue
		}
		for _, v := range d.Spec.Versions {
			if v.Served && !slices.Contains(versions, v.Name) {
				versions = append(versions, v.Name)
			}
		}
	}
	if len(versions) == 0 {
		s.Groups.RemoveGroup(name)
		return
	}
	slices.SortFunc(versions, func(a, b string) int { return -version.CompareKubeAwareVersionStrings(a, b) })
	group := metav1.APIGroup{Name: name}
	for _, v := range versions {
		group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v, Version: v})
	}
	group.PreferredVersion = group.Versions[0]
	s.Groups.AddGroup(group)
}
