package claim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/component-helpers/storage/volume"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/reason"
)

// What kube-scheduler says of a node where a pod's claims do not let it run. InUse is the only one
// that somebody who makes room there could take away.
const (
	InUse    = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
	noMatch  = "node(s) didn't find available persistent volumes to bind"
	affinity = "node(s) didn't match PersistentVolume's node affinity"
	noVolume = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
)

// Any reports whether a pod names claims, or has some made for it.
func Any(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.PersistentVolumeClaim != nil || v.Ephemeral != nil })
}

// Pod is a pod as its claims let it be placed.
type Pod struct {
	ledger  *Ledger
	bound   []*corev1.PersistentVolumeClaim
	delayed []*corev1.PersistentVolumeClaim // are bound with the pod
	inUse   bool                            // one that is for one pod at a time is another's
}

// Pod looks at the claims of a pod. The error says, in kube-scheduler's words, why no node at all
// can have it.
func (l *Ledger) Pod(pod *corev1.Pod) (*Pod, error) {
	p := &Pod{ledger: l}
	immediate := false
	for i := range pod.Spec.Volumes {
		name := kind.ClaimName(pod, &pod.Spec.Volumes[i])
		if name == "" {
			continue
		}
		c, err := l.usable(pod, &pod.Spec.Volumes[i], name)
		if err != nil {
			return nil, err
		}
		p.inUse = p.inUse || l.isTaken(c, pod)
		switch {
		case slices.ContainsFunc(p.bound, is(c)) || slices.ContainsFunc(p.delayed, is(c)): // two volumes of one claim
		case isBound(c):
			p.bound = append(p.bound, c)
		case c.Spec.VolumeName == "" && l.isDelayed(c):
			p.delayed = append(p.delayed, c)
		default:
			immediate = true
		}
	}
	if immediate {
		return nil, errors.New("pod has unbound immediate PersistentVolumeClaims")
	}
	return p, nil
}

func is(c *corev1.PersistentVolumeClaim) func(*corev1.PersistentVolumeClaim) bool {
	return func(other *corev1.PersistentVolumeClaim) bool { return other.Name == c.Name }
}

// usable returns the claim of a pod's volume, or says why it cannot be used.
func (l *Ledger) usable(pod *corev1.Pod, v *corev1.Volume, name string) (*corev1.PersistentVolumeClaim, error) {
	c := l.claim(pod.Namespace, name)
	switch {
	case c == nil && v.Ephemeral != nil:
		return nil, fmt.Errorf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
	case c == nil:
		return nil, fmt.Errorf("persistentvolumeclaim %q not found", name)
	case c.Status.Phase == corev1.ClaimLost:
		return nil, fmt.Errorf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, c.Spec.VolumeName)
	case c.DeletionTimestamp != nil:
		return nil, fmt.Errorf("persistentvolumeclaim %q is being deleted", name)
	case v.Ephemeral != nil:
		return c, ephemeral.VolumeIsForPod(pod, c)
	}
	return c, nil
}

// isTaken reports whether a claim is for one pod at a time, and another one has it.
func (l *Ledger) isTaken(c *corev1.PersistentVolumeClaim, pod *corev1.Pod) bool {
	if !slices.Contains(c.Spec.AccessModes, corev1.ReadWriteOncePod) {
		return false
	}
	if l.users[l.ClaimKind.KeyOf(c)] {
		return true
	}
	return l.isUsed(c, func(other *corev1.Pod, _ bool) bool {
		return other.UID != pod.UID && other.Spec.NodeName != "" && !kind.PodEnded(other)
	})
}

// Refuses returns why the pod's claims do not let it run on a node, "" if they do.
func (p *Pod) Refuses(node *corev1.Node) string {
	if p.inUse {
		return InUse
	}
	l := p.ledger
	var why []string
	for _, c := range p.bound {
		v := l.volume(c.Spec.VolumeName)
		switch {
		case v == nil:
			why = append(why, noVolume)
		case volume.CheckNodeAffinity(v, node.Labels) != nil:
			why = append(why, affinity)
		}
	}
	for _, c := range p.delayed {
		if chosen, is := c.Annotations[volume.AnnSelectedNode]; is && chosen != node.Name {
			return noMatch
		}
		if l.match(c, node) == nil && !l.canMake(c, node) {
			why = append(why, noMatch)
		}
	}
	for _, first := range [...]string{affinity, noMatch, noVolume} {
		if slices.Contains(why, first) {
			return first
		}
	}
	return ""
}

// canMake reports whether the class of a claim lets a volume be made on a node.
func (l *Ledger) canMake(c *corev1.PersistentVolumeClaim, node *corev1.Node) bool {
	class := l.class(volume.GetPersistentVolumeClaimClass(c))
	switch {
	case class == nil, class.Provisioner == volume.NotSupportedProvisioner:
		return false
	case class.Provisioner == kind.LocalPath && node.Labels[corev1.LabelHostname] == "":
		return false // nothing could say that the volume is there
	}
	return len(class.AllowedTopologies) == 0 || slices.ContainsFunc(class.AllowedTopologies, func(term corev1.TopologySelectorTerm) bool {
		return !slices.ContainsFunc(term.MatchLabelExpressions, func(rule corev1.TopologySelectorLabelRequirement) bool {
			value, has := node.Labels[rule.Key]
			return !has || !slices.Contains(rule.Values, value)
		})
	})
}

// Take binds the pod's claims, which have not refused node. bound is false when the pod has to
// wait for a volume; why, if there is anything to say of that, is what kube-scheduler says.
func (p *Pod) Take(node *corev1.Node) (bound bool, why string) {
	l := p.ledger
	bound = true
	for _, c := range p.delayed {
		class := l.class(volume.GetPersistentVolumeClaimClass(c))
		v := l.match(c, node)
		switch {
		case v != nil:
			l.bind(c, v)
		case class.Provisioner == kind.LocalPath:
			if l.provision(c, class, node) != nil {
				bound, why = false, fmt.Sprintf("running PreBind plugin \"VolumeBinding\": binding volumes: provisioning failed for PVC %q", c.Name)
			}
		default:
			p.ask(c, class, node)
			bound = false
		}
	}
	if bound {
		for _, c := range slices.Concat(p.bound, p.delayed) {
			key := l.ClaimKind.KeyOf(c)
			l.read[key], l.users[key] = change.RevOf(c), true
		}
	}
	return bound, why
}

// ask lets a provisioner that is another program know where a claim's pod goes.
func (p *Pod) ask(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) {
	if !volume.IsDelayBindingProvisioning(c) {
		metav1.SetMetaDataAnnotation(&p.ledger.changeClaim(c).ObjectMeta, volume.AnnSelectedNode, node.Name)
	}
}

// DecidePod creates the claims of a pod's ephemeral volumes that are not there, one after the
// other, so that what is refused is known.
func DecidePod(now time.Time, s State, pod *corev1.Pod) change.Set {
	var set change.Set
	if pod.DeletionTimestamp != nil || kind.PodEnded(pod) {
		return set
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		name := ephemeral.VolumeClaimName(pod, v)
		key := kind.PersistentVolumeClaims.Key(pod.Namespace, name)
		there := find[*corev1.PersistentVolumeClaim](s.View, key)
		var err error
		switch {
		case there != nil:
			err = ephemeral.VolumeIsForPod(pod, there)
		case s.Refused != nil:
			err = fmt.Errorf("create PVC %s: %w", name, s.Refused)
		default:
			set.Create(key, claimOf(pod, v, name))
			set.Wake(now) // for the next one
			return set
		}
		if err != nil {
			set.Note(change.Note{
				Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
				Component: "ephemeral_volume", Type: corev1.EventTypeWarning, Reason: reason.FailedBinding, Message: fmt.Sprintf("ephemeral volume %s: %v", v.Name, err),
			})
			set.Wake(now.Add(retry))
			return set
		}
	}
	return set
}

// claimOf returns the claim that is made for a pod's volume.
func claimOf(pod *corev1.Pod, v *corev1.Volume, name string) *corev1.PersistentVolumeClaim {
	template := v.Ephemeral.VolumeClaimTemplate.DeepCopy()
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: name,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
			Annotations:     template.Annotations, Labels: template.Labels,
		},
		Spec: template.Spec,
	}
}
