package statefulset

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/reason"
)

// manage sees to it that the wanted ordinals have their pods, and the others none. It
// reports whether that is so, as far as anything has to be waited for.
func (d *decision) manage() (done bool) {
	for m := range d.wanted() {
		if wait := d.keep(m); wait && monotonic(d.Set) {
			return false
		}
	}
	if d.stuck {
		return false
	}
	for _, m := range d.condemned {
		d.claimsFollow(m)
	}
	weakest := d.firstMissing()
	for _, m := range d.condemned {
		if wait := d.condemn(m, weakest); wait && monotonic(d.Set) {
			return false
		}
	}
	return true
}

// firstMissing is the pod of the lowest ordinal that does not serve; those that are wanted
// come first. Nil if all do, or if it does not exist.
func (d *decision) firstMissing() *member {
	if len(d.replicas) < count(d.Set) {
		return nil
	}
	for _, m := range d.replicas {
		if d.missing(m) {
			return m
		}
	}
	for i := len(d.condemned) - 1; i >= 0; i-- {
		if d.missing(d.condemned[i]) {
			return d.condemned[i]
		}
	}
	return nil
}

// keep sees to the pod of an ordinal that is wanted, and reports whether the ordinals
// above have to wait for it.
func (d *decision) keep(m *member) (wait bool) {
	switch {
	case ended(m): // for whatever reason: a new one is created when it is gone
		if !m.terminating() {
			d.stop(m)
		}
		return true
	case !m.exists:
		d.start(m)
		return true
	}
	if m.pod.Status.Phase == corev1.PodPending {
		if err := d.makeClaims(m); err != nil {
			return true
		}
	}
	if monotonic(d.Set) && (m.terminating() || !runsReady(m.pod) || !d.serves(m)) {
		return true
	}
	if moved := d.claimsFollow(m); m.pod.Labels[appsv1.StatefulSetPodNameLabel] != m.pod.Name || moved {
		m.fix = true
		d.podNote("Update", m)
	}
	return false
}

// start creates the pod of an ordinal with its claims, unless it has to wait for those
// that another pod of the ordinal has left, or its name is taken.
func (d *decision) start(m *member) {
	switch {
	case d.claimIsLeft(m):
		return
	case d.Pod(m.pod.Name) != nil: // a stranger, or one that goes
		d.wake(d.now.Add(retry))
		return
	case d.Refused != nil:
		d.failed(m, d.Refused)
		return
	}
	if err := d.makeClaims(m); err != nil {
		d.failed(m, err)
		return
	}
	m.start = true
	d.started = append(d.started, m)
	d.podNote("Create", m)
}

// condemn sees to a pod whose ordinal is not wanted, and reports whether those below have
// to wait for it. One that does not serve goes only if it is weakest, the first of them, or has
// ended: it will never serve again.
func (d *decision) condemn(m, weakest *member) (wait bool) {
	if m.terminating() {
		return true
	}
	if monotonic(d.Set) && m != weakest && !ended(m) && (!runsReady(m.pod) || !d.serves(m)) {
		return true
	}
	d.stop(m)
	return true
}

// stop deletes a pod.
func (d *decision) stop(m *member) {
	if d.stops == batch {
		d.wake(d.now)
		return
	}
	m.stop = true
	d.stops++
	d.podNote("Delete", m)
}

// podNote tells what is done to a pod.
func (d *decision) podNote(verb string, m *member) {
	d.notes = append(d.notes, note{corev1.EventTypeNormal, successful[verb], fmt.Sprintf("%s Pod %s in StatefulSet %s successful", verb, m.pod.Name, d.Set.Name)})
}

var successful = map[string]string{
	"Create": reason.SuccessfulCreate, "Delete": reason.SuccessfulDelete, "Update": reason.SuccessfulUpdate,
}

// failed tells why a pod cannot be created, the first of several, and tries again later.
func (d *decision) failed(m *member, err error) {
	if !d.stuck {
		d.notes = append(d.notes, note{corev1.EventTypeWarning, reason.FailedCreate, fmt.Sprintf("Create Pod %s in StatefulSet %s failed error: %v", m.pod.Name, d.Set.Name, err)})
	}
	d.stuck = true
	d.wake(d.now.Add(retry))
}
