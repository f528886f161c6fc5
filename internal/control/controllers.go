package control

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/endpoint"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// Controllers returns the table of controllers. plan is what namespaces are furnished with,
// api where pods find the API, volumes the directory in which those of the local-path provisioner
// are ("": there are none), nodes how nodes are watched, and others, which may be nil, keep objects, too.
func Controllers(kinds *kind.Kinds, plan sweep.Plan, api endpoint.API, volumes string, nodes Nodes, others Others) []Controller {
	all := []Controller{
		jobController(kinds, false),
		cronController(kinds),
		daemonSetController(kinds),
		statefulSetController(kinds),
		replicaSetController(kinds),
		replicationController(kinds),
		deploymentController(kinds),
		placeController(kinds, volumes),
		claimController(kinds, volumes),
		volumeController(kinds, volumes),
		ephemeralController(kinds, volumes),
		taintController(),
		evictionController(kinds),
		endpointController(),
		apiController(api),
		disruptionController(),
		ownerController(kinds),
		expiryController(kinds),
		accountController(kinds, plan),
		publishController(kinds, plan),
		namespaceController(kinds, others),
		unscheduledController(kinds),
		podController(kinds),
		orphanController(kinds),
		aggregationController(),
		quotaController(kinds),
	}
	if nodes.Grace > 0 {
		all = append(all, healthController(nodes))
	}
	return all
}

// alone is a controller of objects that are decided about by themselves: whenever one is written, as
// long as it is there.
func alone(name string, of change.Resource, decide func(now time.Time, view change.View, obj change.Object) change.Set) Controller {
	return Controller{
		Name: name,
		Dirties: func(_ change.View, ev change.Event, add func(change.Key)) {
			if ev.Key.Resource == of && ev.Op != change.Delete {
				add(ev.Key)
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, _ error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return decide(now, view, obj)
		},
	}
}

// controllersOf adds the object of kind k that controls what was written, and
// the one that did before.
func controllersOf(k *kind.Kind, ev change.Event, add func(change.Key)) {
	for _, obj := range []change.Object{ev.Object, ev.Prev} {
		if obj == nil {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(obj); ref != nil && ref.Kind == k.GVK.Kind {
			add(k.Key(ev.Key.Namespace, ref.Name))
		}
	}
}
