package control

import (
	"strings"
	"time"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/cron"
	"github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/place"
	"github.com/sampan-batch/sampan/internal/store"
)

// Resources as they stand in keys.
const (
	pods            = "pods"
	jobs            = "jobs.batch"
	cronJobs        = "cronjobs.batch"
	nodes           = "nodes"
	namespaces      = "namespaces"
	serviceAccounts = "serviceaccounts"
)

// Controllers returns the table of controllers.
func Controllers(kinds *kind.Kinds) []Controller {
	return []Controller{
		jobController(kinds),
		cronController(kinds),
		placeController(kinds),
		taintController(),
		ownerController(kinds),
		expiryController(kinds),
		namespaceController(kinds),
		unscheduledController(),
		podController(kinds),
	}
}

// jobController runs Jobs. Pods that ask for nothing scarce are placed in the
// set that creates them, which saves each of them a commit.
func jobController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(jobs)
	return Controller{
		Name: "job",
		Dirties: func(view *store.View, ev store.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case jobs:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case pods:
				jobsOf(view, k, ev, add)
			}
		},
		Decide: func(now time.Time, view *store.View, key change.Key) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			j := obj.(*batchv1.Job)
			set := job.Decide(now, job.State{
				Job:     j,
				Pods:    podsOf(view, j),
				PodKind: kinds.ByResource(pods),
				Taken: func(name string) bool {
					_, taken := view.Get(change.Key{Resource: pods, Namespace: j.Namespace, Name: name})
					return taken
				},
				Account: func(key change.Key) *corev1.ServiceAccount {
					if obj, ok := view.Get(key); ok {
						return obj.(*corev1.ServiceAccount)
					}
					return nil
				},
			})
			stamp(&set, now) // what is said about a pod names its uid
			placeCreated(now, view, &set)
			return set
		},
	}
}

// cronController starts the Jobs of CronJobs.
func cronController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(cronJobs)
	return Controller{
		Name: "cronjob",
		Dirties: func(_ *store.View, ev store.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case cronJobs:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case jobs:
				controllersOf(k, ev, add)
				if i := strings.LastIndexByte(ev.Key.Name, '-'); i > 0 && ev.Op == change.Delete {
					add(k.Key(ev.Key.Namespace, ev.Key.Name[:i])) // which may have waited for the name
				}
			}
		},
		Decide: func(now time.Time, view *store.View, key change.Key) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			c := obj.(*batchv1.CronJob)
			ns, ok := view.Get(change.Key{Resource: namespaces, Name: c.Namespace})
			if !ok {
				return change.Set{}
			}
			return cron.Decide(now, cron.State{
				CronJob: c,
				Jobs:    jobsOfCron(view, c),
				Job: func(name string) *batchv1.Job {
					if obj, ok := view.Get(change.Key{Resource: jobs, Namespace: c.Namespace, Name: name}); ok {
						return obj.(*batchv1.Job)
					}
					return nil
				},
				Namespace: ns.(*corev1.Namespace),
				JobKind:   kinds.ByResource(jobs),
				UID:       types.UID(uuid.NewString()),
			})
		},
	}
}

// jobsOfCron returns the Jobs that the CronJob controls.
func jobsOfCron(view *store.View, c *batchv1.CronJob) []*batchv1.Job {
	var found []*batchv1.Job
	for _, obj := range view.Owned(c.UID) {
		if j, ok := obj.(*batchv1.Job); ok && metav1.IsControlledBy(j, c) {
			found = append(found, j)
		}
	}
	return found
}

// podsOf returns the Job's pods that are still of interest to it, and those of
// its namespace that have no controller.
func podsOf(view *store.View, j *batchv1.Job) []*corev1.Pod {
	var found []*corev1.Pod
	for obj := range view.Index(pods, kind.LivePods(j.UID)) {
		found = append(found, obj.(*corev1.Pod))
	}
	for obj := range view.Index(pods, kind.StrayPods(j.Namespace)) {
		found = append(found, obj.(*corev1.Pod))
	}
	return found
}

// controllersOf adds the object of kind k that controls what was written, and
// the one that did before.
func controllersOf(k *kind.Kind, ev store.Event, add func(change.Key)) {
	for _, obj := range []change.Object{ev.Object, ev.Prev} {
		if obj == nil {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(obj); ref != nil && ref.Kind == k.GVK.Kind {
			add(k.Key(ev.Key.Namespace, ref.Name))
		}
	}
}

// jobsOf adds the Jobs that a pod's write concerns: its controller, the one
// that it had before, and, when it has none, those whose selector matches it.
func jobsOf(view *store.View, k *kind.Kind, ev store.Event, add func(change.Key)) {
	controllersOf(k, ev, add)
	pod := ev.Object
	if metav1.GetControllerOf(pod) != nil || len(pod.GetLabels()) == 0 {
		return
	}
	have := labels.Set(pod.GetLabels())
	for obj := range view.List(jobs, ev.Key.Namespace) {
		s := obj.(*batchv1.Job).Spec.Selector
		// Nearly every Job asks for a uid that the pod does not have: that is
		// found out without parsing each selector.
		if s == nil || !labels.SelectorFromValidatedSet(s.MatchLabels).Matches(have) {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err == nil && !selector.Empty() && selector.Matches(have) {
			add(k.KeyOf(obj))
		}
	}
}

// placeCreated binds the pods that set creates, as far as that needs no look at
// other pods; the rest is the place controller's. Other sets do the same at this
// moment, and none sees the others: each takes no more than its share.
func placeCreated(now time.Time, view *store.View, set *change.Set) {
	var node *place.Node
	var left int64
	for _, w := range set.Writes {
		pod, ok := w.Object.(*corev1.Pod)
		if !ok || w.Op != change.Create {
			continue
		}
		if node == nil {
			if node = onlyNode(view); node == nil {
				return
			}
			left = share(node.Node)
		}
		if left <= 0 || !place.Trivial(pod, *node) {
			continue
		}
		left--
		node.Count++
		set.Note(place.Bind(pod, node.Node.Name, now))
	}
}

// share is how many pods a set may bind unseen, so that the half of the node that
// place.Trivial keeps free has room for what all workers bind at a time, the
// place controller included. A small node has none to give away.
func share(node *corev1.Node) int64 {
	const placed = 1000 // by the place controller, in two sets
	return (node.Status.Allocatable.Pods().Value()/2 - placed) / MaxWorkers
}

// onlyNode returns the node if there is just one that is ready; with several,
// which one is best is not a trivial question.
func onlyNode(view *store.View) *place.Node {
	all := nodesOf(view)
	if len(all) != 1 {
		return nil
	}
	return &all[0]
}

// nodesOf returns the nodes that are ready, with what is bound to them.
func nodesOf(view *store.View) []place.Node {
	var all []place.Node
	for obj := range view.List(nodes, "") {
		node := obj.(*corev1.Node)
		if !ready(node) {
			continue
		}
		term := kind.ActivePods(node.Name)
		n := place.Node{Node: node, Active: func(yield func(*corev1.Pod) bool) {
			for obj := range view.Index(pods, term) {
				if !yield(obj.(*corev1.Pod)) {
					return
				}
			}
		}}
		for range n.Active {
			n.Count++
		}
		all = append(all, n)
	}
	return all
}

func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// placeController binds pods. It has one key, so that no two decisions count on
// the same room.
func placeController(kinds *kind.Kinds) Controller {
	k := kinds.ByResource(pods)
	all := change.Key{Resource: "placement"}
	return Controller{
		Name: "place",
		Dirties: func(_ *store.View, ev store.Event, add func(change.Key)) {
			switch ev.Key.Resource {
			case nodes:
				add(all)
			case pods:
				pod := ev.Object.(*corev1.Pod)
				if pod.Spec.NodeName == "" || ev.Op == change.Delete || kind.PodEnded(pod) {
					add(all)
				}
			}
		},
		Decide: func(now time.Time, view *store.View, _ change.Key) change.Set {
			s := place.State{}
			for obj := range view.Index(pods, kind.UnboundPods) {
				s.Unbound = append(s.Unbound, obj.(*corev1.Pod))
			}
			if len(s.Unbound) == 0 {
				return change.Set{}
			}
			s.Nodes = nodesOf(view)
			return place.Decide(now, s, func(p *corev1.Pod) (change.Key, uint64) { return k.KeyOf(p), change.RevOf(p) })
		},
	}
}

// taintController keeps pods away from nodes that have too little of something.
func taintController() Controller {
	return Controller{
		Name: "taint",
		Dirties: func(_ *store.View, ev store.Event, add func(change.Key)) {
			if ev.Key.Resource == nodes && ev.Op != change.Delete {
				if _, changed := place.Taints(ev.Object.(*corev1.Node)); changed {
					add(ev.Key)
				}
			}
		},
		Decide: func(_ time.Time, view *store.View, key change.Key) change.Set {
			var set change.Set
			obj, ok := view.Get(key)
			if !ok {
				return set
			}
			node := obj.(*corev1.Node)
			if taints, changed := place.Taints(node); changed {
				next := *node // shares everything but the taints
				next.Spec.Taints = taints
				set.Update(key, change.RevOf(node), &next)
			}
			return set
		},
	}
}
