package claim

import (
	"fmt"
	"slices"
	"strings"
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

// Decide returns what is to be done about a claim now.
func Decide(now time.Time, s State, c *corev1.PersistentVolumeClaim) change.Set {
	var set change.Set
	l := New(now, s)
	switch {
	case c.DeletionTimestamp != nil:
		if slices.Contains(c.Finalizers, kind.ClaimProtection) && !l.isUsed(c, keepsClaim) {
			drop(l.changeClaim(c), kind.ClaimProtection)
		}
	default:
		if !slices.Contains(c.Finalizers, kind.ClaimProtection) { // it is older than the finalizer
			next := l.changeClaim(c)
			next.Finalizers = append(next.Finalizers, kind.ClaimProtection)
		}
		if metav1.HasAnnotation(c.ObjectMeta, volume.AnnBindCompleted) {
			l.syncBound(c)
		} else {
			l.syncUnbound(c)
		}
		l.sayUnused(c)
	}
	l.Write(&set)
	return set
}

func drop(obj metav1.Object, finalizer string) {
	obj.SetFinalizers(slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool { return f == finalizer }))
}

// syncUnbound looks for a volume for a claim that was never bound.
func (l *Ledger) syncUnbound(c *corev1.PersistentVolumeClaim) {
	if c.Spec.VolumeName != "" {
		l.syncNamed(c)
		return
	}
	if v := l.match(c, nil); v != nil {
		l.bind(c, v)
		return
	}
	if !volume.PersistentVolumeClaimHasClass(c) {
		if class := kind.DefaultStorageClass(l.View); class != nil {
			l.changeClaim(c).Spec.StorageClassName = &class.Name // the next look goes on with it
			return
		}
	}
	name := volume.GetPersistentVolumeClaimClass(c)
	class := l.class(name)
	switch {
	case l.isDelayed(c) && !volume.IsDelayBindingProvisioning(c):
		l.noteWaiting(c)
	case name == "":
		l.noteClaim(c, corev1.EventTypeNormal, reason.FailedBinding, "no persistent volumes available for this claim and no storage class is set")
	case class == nil:
		l.noteClaim(c, corev1.EventTypeWarning, reason.ProvisioningFailed, fmt.Sprintf("storageclass.storage.k8s.io %q not found", name))
	case class.Provisioner == kind.LocalPath:
		l.provisionNow(c, class)
	case strings.HasPrefix(class.Provisioner, "kubernetes.io/"):
		l.noteClaim(c, corev1.EventTypeWarning, reason.ProvisioningFailed, "no volume plugin matched name: "+class.Provisioner)
	default:
		l.askProvisioner(c, class)
		return
	}
	if !isBound(l.claim(c.Namespace, c.Name)) {
		l.pend(c, corev1.ClaimPending)
	}
}

// provisionNow makes a volume for a claim that waits for no pod, or for one that somebody else
// has chosen a node for.
func (l *Ledger) provisionNow(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) {
	var node *corev1.Node
	if name, chosen := c.Annotations[volume.AnnSelectedNode]; chosen {
		if node = find[*corev1.Node](l.View, kind.Nodes.Key("", name)); node == nil {
			l.noteClaim(c, corev1.EventTypeWarning, reason.ProvisioningFailed, fmt.Sprintf("Failed to get target node: node %q not found", name))
			return
		}
	}
	_ = l.provision(c, class, node) // the claim has an event that says it
}

// syncNamed binds a claim to the volume that it asks for by name, once there is one and it may.
func (l *Ledger) syncNamed(c *corev1.PersistentVolumeClaim) {
	v := l.volume(c.Spec.VolumeName)
	switch {
	case v == nil:
		l.pend(c, corev1.ClaimPending)
	case v.Spec.ClaimRef == nil:
		if err := satisfies(v, c); err != nil {
			l.noteClaim(c, corev1.EventTypeWarning, reason.VolumeMismatch, fmt.Sprintf("Cannot bind to requested volume %q: %s", v.Name, err))
			l.pend(c, corev1.ClaimPending)
			return
		}
		l.bind(c, v)
	case volume.IsVolumeBoundToClaim(v, c):
		l.bind(c, v)
	default:
		l.noteClaim(c, corev1.EventTypeWarning, reason.FailedBinding, fmt.Sprintf("volume %q already bound to a different claim.", v.Name))
		l.pend(c, corev1.ClaimPending)
	}
}

// syncBound keeps the binding of a claim right, grows its volume, or finds that it has lost it.
func (l *Ledger) syncBound(c *corev1.PersistentVolumeClaim) {
	lost := func(why, message string) {
		if c.Status.Phase != corev1.ClaimLost {
			l.pend(c, corev1.ClaimLost)
			l.noteClaim(c, corev1.EventTypeWarning, why, message)
		}
	}
	v := l.volume(c.Spec.VolumeName)
	switch {
	case c.Spec.VolumeName == "":
		lost(reason.ClaimLost, "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	case v == nil:
		lost(reason.ClaimLost, "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID == c.UID:
		l.bind(c, v)
		l.grow(c, l.volume(v.Name))
	default:
		lost(reason.ClaimMisbound, "Two claims are bound to the same volume, this one is bound incorrectly")
	}
}

// grow gives a claim what it asks for more than it has. A directory has no size of its own, so
// that all there is to do is to say so; other volumes are for who has made them to grow.
func (l *Ledger) grow(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
	asked, has := *c.Spec.Resources.Requests.Storage(), *v.Spec.Capacity.Storage()
	if asked.Cmp(*c.Status.Capacity.Storage()) <= 0 || c.Status.Phase != corev1.ClaimBound {
		return
	}
	if _, ours := DirectoryOf(l.Dir, v); !ours {
		if asked.Cmp(has) > 0 {
			l.noteClaim(c, corev1.EventTypeNormal, reason.ExternalExpanding, "waiting for an external controller to expand this PVC")
		}
		return
	}
	if asked.Cmp(has) > 0 {
		l.changeVolume(v).Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: asked}
	}
	l.changeClaim(c).Status.Capacity = l.volume(v.Name).Spec.Capacity.DeepCopy()
	l.noteClaim(c, corev1.EventTypeNormal, reason.VolumeResizeSuccessful, "Resize volume succeeded")
}

// noteWaiting says for whom a claim waits.
func (l *Ledger) noteWaiting(c *corev1.PersistentVolumeClaim) {
	why, message := reason.WaitForFirstConsumer, "waiting for first consumer to be created before binding"
	var pods []string
	for pod := range l.pods(c) {
		if pod.Spec.NodeName == "" && !kind.PodEnded(pod) {
			pods = append(pods, pod.Name)
		}
	}
	switch {
	case len(pods) == 1:
		why, message = reason.WaitForPodScheduled, fmt.Sprintf("waiting for pod %s to be scheduled", pods[0])
	case len(pods) > 1:
		const most = 20 // an event has a kilobyte
		why, message = reason.WaitForPodScheduled, fmt.Sprintf("waiting for pods %s to be scheduled", strings.Join(pods[:min(len(pods), most)], ","))
	}
	l.noteClaim(c, corev1.EventTypeNormal, why, message)
}

// pods yields the pods that name a claim.
func (l *Ledger) pods(c *corev1.PersistentVolumeClaim) func(yield func(*corev1.Pod) bool) {
	return func(yield func(*corev1.Pod) bool) {
		for obj := range l.View.Index(kind.Pods, kind.ClaimPods(c.Namespace, c.Name)) {
			if !yield(obj.(*corev1.Pod)) {
				return
			}
		}
	}
}

// isUsed reports whether there is a pod that uses a claim, in this sense.
func (l *Ledger) isUsed(c *corev1.PersistentVolumeClaim, uses func(*corev1.Pod, bool) bool) bool {
	for pod := range l.pods(c) {
		for i := range pod.Spec.Volumes {
			v := &pod.Spec.Volumes[i]
			named := v.PersistentVolumeClaim != nil
			if kind.ClaimName(pod, v) == c.Name && (named || ephemeral.VolumeIsForPod(pod, c) == nil) && uses(pod, named) {
				return true
			}
		}
	}
	return false
}

// keepsClaim reports whether a pod that names a claim, or has one made for it, keeps that from
// being removed: a node has it, and in the latter case has not done with it.
func keepsClaim(pod *corev1.Pod, named bool) bool {
	shutDown := pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0 || kind.PodEnded(pod)
	return pod.Spec.NodeName != "" && (named || !shutDown)
}

// sayUnused keeps the condition that tells since when no pod has named a bound claim.
func (l *Ledger) sayUnused(c *corev1.PersistentVolumeClaim) {
	now := l.claim(c.Namespace, c.Name)
	if now.Status.Phase != corev1.ClaimBound {
		return
	}
	want := corev1.PersistentVolumeClaimCondition{
		Type: corev1.PersistentVolumeClaimUnused, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(l.now),
		Reason: "NoPodsUsingPVC", Message: "No pods are currently referencing this PVC",
	}
	if l.isUsed(c, func(pod *corev1.Pod, _ bool) bool { return !kind.PodEnded(pod) }) {
		want.Status, want.Reason, want.Message = corev1.ConditionFalse, "PodUsingPVC", "A pod is currently referencing this PVC"
	}
	at := slices.IndexFunc(now.Status.Conditions, func(k corev1.PersistentVolumeClaimCondition) bool { return k.Type == want.Type })
	switch {
	case at < 0:
		next := l.changeClaim(c)
		next.Status.Conditions = append(next.Status.Conditions, want)
	case now.Status.Conditions[at].Status != want.Status:
		l.changeClaim(c).Status.Conditions[at] = want
	}
}
