package place

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sampan-batch/sampan/internal/claim"
	"github.com/sampan-batch/sampan/internal/kind"
)

// cluster is what a decision looks at, and books in.
type cluster struct {
	rooms  []*room
	others kind.Getter
	row    *kind.Kind
	ledger *claim.Ledger
	// namespaces are the labels of those that were asked for.
	namespaces map[string]labels.Set
	budgets    []*policyv1.PodDisruptionBudget // nil until needed
}

func newCluster(s *State) *cluster {
	c := &cluster{others: s.Others, row: s.Row, ledger: s.Claims, namespaces: map[string]labels.Set{}}
	if c.others == nil {
		c.others = kind.None{}
	}
	for i := range s.Nodes {
		c.rooms = append(c.rooms, newRoom(&s.Nodes[i]))
	}
	return c
}

// labelsOf returns the labels of a namespace.
func (c *cluster) labelsOf(namespace string) labels.Set {
	set, known := c.namespaces[namespace]
	if !known {
		if obj, ok := c.others.Get(kind.Namespaces.Key("", namespace)); ok {
			set = obj.GetLabels()
		}
		c.namespaces[namespace] = set
	}
	return set
}

// refusal is why a node cannot have a pod, in kube-scheduler's words. Hopeless: nobody's going
// would change that.
type refusal struct {
	why      []string
	hopeless bool
}

func (r refusal) ok() bool { return len(r.why) == 0 }

// trial is a pod for which a node is looked for.
type trial struct {
	*cluster
	pod      *corev1.Pod
	affinity *affinity
	spread   []*spread
	claims   *claim.Pod // the pod's; nil: it has none
	refusals []refusal  // of the rooms
}

// try prepares what the filters need to know of all nodes.
func (c *cluster) try(pod *corev1.Pod) *trial {
	t := &trial{cluster: c, pod: pod}
	t.look()
	return t
}

// look sums up what is on the nodes now.
func (t *trial) look() {
	t.affinity = t.newAffinity()
	t.spread = t.newSpread(corev1.DoNotSchedule)
}

// relational reports whether it depends on pods elsewhere which nodes the pod may have.
func (t *trial) relational() bool { return t.affinity != nil || len(t.spread) > 0 }

// filter returns why a node cannot have the pod. The first filter that refuses speaks.
func (t *trial) filter(r *room) refusal {
	if why := mismatch(r.Node.Node, t.pod); why != "" {
		return refusal{[]string{why}, true}
	}
	if why, ever := r.lacks(t.pod); len(why) > 0 {
		return refusal{why, ever}
	}
	if t.claims != nil {
		if why := t.claims.Refuses(r.Node.Node); why != "" {
			return refusal{[]string{why}, why != claim.InUse}
		}
	}
	for _, s := range t.spread {
		if why, hopeless := s.refuses(r); why != "" {
			return refusal{[]string{why}, hopeless}
		}
	}
	if t.affinity != nil {
		if why, hopeless := t.affinity.refuses(r); why != "" {
			return refusal{[]string{why}, hopeless}
		}
	}
	return refusal{}
}

// choose returns the best of the nodes that may have the pod, or why it need not be asked whether
// others can go for it: there is no node, or what the pod claims is not there.
func (t *trial) choose() (*room, string) {
	var why string
	why, t.claims = unclaimed(t.pod, t.ledger)
	switch {
	case len(t.rooms) == 0:
		return nil, "no nodes available to schedule pods"
	case why != "":
		return nil, nowhere(len(t.rooms), why)
	}
	t.refusals = make([]refusal, len(t.rooms))
	var fit []*room
	for i, r := range t.rooms {
		if t.refusals[i] = t.filter(r); t.refusals[i].ok() {
			if r.name() == t.pod.Status.NominatedNodeName { // others have gone for it there
				return r, ""
			}
			fit = append(fit, r)
		}
	}
	return t.best(fit), ""
}

// Never returns why pod could not run on node even if nothing else did, in
// kube-scheduler's words; nothing when it could.
func Never(node *corev1.Node, pod *corev1.Pod) []string {
	empty := newRoom(&Node{Node: node, Active: func(func(*corev1.Pod) bool) {}})
	if why := mismatch(node, pod); why != "" {
		return []string{why}
	}
	why, _ := empty.lacks(pod)
	return why
}
