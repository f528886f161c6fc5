package podstate

import (
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Resize is how far a change of the pod's resources is. What a pod asks for is its Spec; the
// node grants it, or says why not yet (Pending); then each container that runs gets it
// (InProgress).
//
//	asked ──▶ granted ──▶ actual
//	   └─▶ Pending (until there is room)
type Resize struct {
	Pending, InProgress *ResizeState
}

// ResizeState is the condition of a Resize. Generation is the pod's that has asked for it.
type ResizeState struct {
	Reason, Message string
	Generation      int64
}

// conditions adds those of the resize to list. present are what the API says.
func (r *Resize) conditions(list, present []corev1.PodCondition, now time.Time) []corev1.PodCondition {
	add := func(kind corev1.PodConditionType, s *ResizeState) {
		if s == nil {
			return
		}
		c := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, Reason: s.Reason, Message: s.Message,
			ObservedGeneration: s.Generation, LastTransitionTime: Seconds(now)}
		if i := slices.IndexFunc(present, func(old corev1.PodCondition) bool { return old.Type == kind }); i >= 0 {
			c.LastTransitionTime = present[i].LastTransitionTime
		}
		list = append(list, c)
	}
	add(corev1.PodResizePending, r.Pending)
	add(corev1.PodResizeInProgress, r.InProgress)
	return list
}

// keepGranted keeps what the containers have been granted, and have, when the object that is
// about to be observed asks for something else.
func (p *Pod) keepGranted(next *corev1.Pod) {
	if next.Generation == p.Object.Generation {
		return
	}
	specs := slices.Concat(next.Spec.InitContainers, next.Spec.Containers)
	for i := range min(len(specs), p.Inits+p.Mains) {
		c := &p.Containers[i]
		if equality.Semantic.DeepEqual(specs[i].Resources, c.Spec.Resources) {
			continue
		}
		if c.Granted == nil {
			c.Granted = &c.Spec.Resources
		}
		if c.Actual == nil && c.Alive() {
			c.Actual = c.Granted
		}
	}
}

// Recall takes the resources that a container was granted, and has, from what the API says of
// it: the node remembers nothing else. pending says that not all that is asked was granted.
func (c *Container) Recall(st *corev1.ContainerStatus, pending, inProgress bool) {
	if c.Kind == Ephemeral || st.Resources == nil || equality.Semantic.DeepEqual(*st.Resources, c.Spec.Resources) {
		return
	}
	c.Actual = st.Resources
	if pending || !inProgress { // or nobody has seen yet that it asks for something else
		c.Granted = st.Resources
	}
}

func (c *Container) granted() *corev1.ResourceRequirements {
	if c.Granted != nil {
		return c.Granted
	}
	return &c.Spec.Resources
}

// actual is what is reported: what the process has, and of a container without one what it
// will have.
func (c *Container) actual() *corev1.ResourceRequirements {
	if c.Actual != nil && c.HasProcess() {
		return c.Actual
	}
	return c.granted()
}

// Resizing reports whether there may be something to do about resources.
func (p *Pod) Resizing() bool {
	return p.Resize != Resize{} || slices.ContainsFunc(p.Containers, func(c Container) bool { return c.Granted != nil || c.Actual != nil })
}

// AsksForMore reports whether the pod asks for other resources than it was granted.
func (p *Pod) AsksForMore() bool {
	return slices.ContainsFunc(p.Containers, func(c Container) bool {
		return c.Granted != nil && !equality.Semantic.DeepEqual(*c.Granted, c.Spec.Resources)
	})
}

// Grant grants the pod what it asks for.
func (p *Pod) Grant() {
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.Actual == nil && c.Alive() {
			c.Actual = c.granted()
		}
		c.Granted = nil
	}
	p.Resize.Pending = nil
	p.Resize.InProgress = &ResizeState{Generation: p.Object.Generation}
}

// GrantedPod returns the pod as it would have been written with what it was granted.
func (p *Pod) GrantedPod() *corev1.Pod {
	pod := *p.Object
	pod.Spec.InitContainers = slices.Clone(pod.Spec.InitContainers)
	pod.Spec.Containers = slices.Clone(pod.Spec.Containers)
	for i := range p.inits() {
		pod.Spec.InitContainers[i].Resources = *p.inits()[i].granted()
	}
	for i := range p.mains() {
		pod.Spec.Containers[i].Resources = *p.mains()[i].granted()
	}
	return &pod
}

// Unlike reports whether the container's process has other resources than were granted, of
// those that can be changed; restart, whether its policy is that it is started again for that.
func (c *Container) Unlike() (differs, restart bool) {
	if c.Actual == nil || !c.HasProcess() {
		return false, false
	}
	granted := c.granted()
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if same(c.Actual.Requests, granted.Requests, name) && same(c.Actual.Limits, granted.Limits, name) {
			continue
		}
		differs = true
		for _, policy := range c.Spec.ResizePolicy {
			restart = restart || policy.ResourceName == name && policy.RestartPolicy == corev1.RestartContainer
		}
	}
	return differs, restart
}

func same(a, b corev1.ResourceList, name corev1.ResourceName) bool {
	x, y := a[name], b[name]
	return x.Cmp(y) == 0
}

// ResizeSummary is what events of a resize say of the resources that are asked for, as a
// kubelet does.
func (p *Pod) ResizeSummary(generation int64, problem string) string {
	type allocation struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	}
	var summary struct {
		InitContainers []allocation `json:"initContainers,omitempty"`
		Containers     []allocation `json:"containers,omitempty"`
		Generation     int64        `json:"generation"`
		Error          string       `json:"error,omitempty"`
	}
	for i := range p.inits() {
		summary.InitContainers = append(summary.InitContainers, allocation{p.inits()[i].Spec.Name, p.inits()[i].Spec.Resources})
	}
	for i := range p.mains() {
		summary.Containers = append(summary.Containers, allocation{p.mains()[i].Spec.Name, p.mains()[i].Spec.Resources})
	}
	summary.Generation, summary.Error = generation, problem
	text, err := json.Marshal(summary)
	if err != nil {
		panic("podstate: " + err.Error()) // the types have nothing that cannot be written
	}
	return string(text)
}
