package aggregate

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// priority is where a group is told, and a version in it. Those of groups are Kubernetes'.
type priority struct{ group, version int32 }

var groupPriorities = map[string]int32{
	"": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600,
	"autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
	"rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
	"admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500,
	"node.k8s.io": 16300, "discovery.k8s.io": 16200, "resource.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100,
}

// versionPriorities are those that are not usualVersion's.
var versionPriorities = map[string]int32{
	"v1.": 1, "v2.autoscaling": 30, "v1beta1.batch": 9, "v1.resource.k8s.io": 21, "v1.flowcontrol.apiserver.k8s.io": 21,
}

const (
	usualVersion = 15
	// automanaged is the label of APIServices that the API makes itself.
	automanaged = "kube-aggregator.kubernetes.io/automanaged"
)

// ofOthers is the priority of a group that is not Kubernetes' own. (Definitions; metrics-server's)
var ofOthers = priority{1000, 100}

// registerLocal writes the APIServices of what this server answers itself, as far as there are
// none, and removes those of definitions that are gone. In Kubernetes controllers do so; here
// it is done when somebody asks.
func (s *Server) registerLocal(r *http.Request) {
	groups, err := s.Local(r)
	if err != nil {
		s.Logger.Warn("the APIServices of this server are not all there", "err", err)
		return
	}
	view := s.Store.View()
	var set change.Set
	served := map[string]bool{}
	want := func(group, version string) {
		api := localService(group, version)
		served[api.Name] = true
		key := kind.APIServices.Key("", api.Name)
		if _, ok := view.Get(key); !ok && group != apiregistrationv1.GroupName {
			rest.FillObjectMetaSystemFields(api)
			api.Status.Conditions[0].LastTransitionTime = api.CreationTimestamp
			set.Create(key, api)
		}
	}
	want("", "v1")
	for _, g := range groups {
		if groupOf(view, g.Name) != nil && !s.Own(g.Name) {
			continue // another server's
		}
		for _, v := range g.Versions {
			want(g.Name, v.Version)
		}
	}
	for obj := range view.List(kind.APIServices, "") {
		if api := obj.(*apiregistrationv1.APIService); api.Labels[automanaged] == "true" && api.Spec.Service == nil && !served[api.Name] {
			set.Delete(kind.APIServices.Key("", api.Name), change.RevOf(api))
		}
	}
	if len(set.Writes) == 0 {
		return
	}
	if _, err := s.Store.Apply(r.Context(), set); err != nil { // who was faster has done it
		s.Logger.Debug("the APIServices of this server were not written", "err", err)
	}
}

func localService(group, version string) *apiregistrationv1.APIService {
	name, managed, at := version+"."+group, "onstart", priority{groupPriorities[group], usualVersion}
	if at.group == 0 {
		managed, at = "true", ofOthers
	}
	if p, ok := versionPriorities[name]; ok {
		at.version = p
	}
	return &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{automanaged: managed}},
		Spec:       apiregistrationv1.APIServiceSpec{Group: group, Version: version, GroupPriorityMinimum: at.group, VersionPriority: at.version},
		Status: apiregistrationv1.APIServiceStatus{Conditions: []apiregistrationv1.APIServiceCondition{{
			Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue,
			Reason: "Local", Message: "Local APIServices are always available",
		}}},
	}
}
