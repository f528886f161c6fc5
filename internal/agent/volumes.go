package agent

import (
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/volume"
	"github.com/sampan-batch/sampan/internal/reason"
)

// volumeSetup sets up the volumes of a pod, with the pod's own files, and refreshes
// them as long as the pod runs.
type volumeSetup struct {
	pod      *pod
	due      time.Time     // when to set them up, or refresh them; zero: never
	begun    bool          // a container has started
	wait     time.Duration // until the refresh after the next one
	busy     bool          // that is being done
	failures int           // in a row
	said     string        // the last failure that was noted
}

const (
	// refreshPeriod is how often volumes that show API objects are compared
	// with them, as long as the pod runs. At the start of its first container that is
	// firstRefresh, and grows: some controllers make the Secret that they have mounted, and
	// wait for it to appear. (A kubelet looks at whatever happens to the pod.)
	refreshPeriod = time.Minute
	firstRefresh  = time.Second
	// Volumes that cannot be set up are tried again with a growing delay.
	minMountRetry = 500 * time.Millisecond
	maxMountRetry = 2*time.Minute + 2*time.Second
)

// prepare gets ready what the pod's containers need before any of them starts.
func (v *volumeSetup) prepare() {
	p, object := v.pod, v.pod.state.Object
	v.begun = p.state.Begun() // under a former run of the node
	if err := p.canRun(object); err != nil {
		p.note(warning, reason.FailedCreatePodSandBox, fmt.Sprintf("Failed to create pod sandbox: %v", err))
		return
	}
	if claims := object.Spec.ResourceClaims; len(claims) > 0 { // somebody has bound it here
		p.note(warning, reason.FailedPrepareDynamicResources,
			fmt.Sprintf("Failed to prepare dynamic resources: %q: there are no devices on this node that could be claimed", claims[0].Name))
		return
	}
	if what := unenforced(object); what != "" && !p.state.Begun() {
		p.note(warning, reason.NotEnforced, "No effect on this node: "+what)
	}
	if p.hasNetwork(object) { // which its runner makes
		v.due = time.Now()
		return
	}
	if err := p.writeFiles(object); err != nil { // a full disk, say: again with the volumes
		v.mounted(err, time.Now())
		return
	}
	if !volume.Any(object, p.class(object)) {
		p.state.Ready = true
		return
	}
	v.due = time.Now()
}

// mount sets the volumes up, or refreshes them, when that is due. It returns when to
// look again.
func (v *volumeSetup) mount(now time.Time) time.Time {
	p := v.pod
	if v.busy || v.due.IsZero() || p.state.Ending != nil {
		return time.Time{}
	}
	if !v.begun && p.state.Begun() {
		v.begun, v.wait = true, firstRefresh
		v.due = earlier(v.due, now.Add(firstRefresh))
	}
	if now.Before(v.due) {
		return v.due
	}
	v.busy, v.due = true, time.Time{}
	object, ready := p.state.Object, p.state.Ready
	p.tasks.Go(func() {
		var err error
		if volume.Any(object, p.class(object)) {
			err = p.setVolumes(p.ctx, object)
		}
		endTurn := func() {}
		if err == nil && (!ready || p.hasNetwork(object) && len(p.addresses(object).Pod) == 0) {
			endTurn, err = v.surround(object)
		}
		if ready { // by a former run of the node: its containers have started
			endTurn()
		}
		p.post(func() {
			p.endTurn = endTurn
			v.mounted(err, time.Now())
		})
	})
	return time.Time{}
}

// surround has the pod's turn come, and makes what its containers have around them. The
// first one that runs ends the turn.
func (v *volumeSetup) surround(object *corev1.Pod) (endTurn func(), err error) {
	p := v.pod
	if endTurn, err = p.turns.take(p.ctx); err != nil {
		return func() {}, err
	}
	if err = p.surround(p.ctx, object); err != nil {
		endTurn()
	}
	return endTurn, err
}

// mounted records the outcome of setting up the volumes.
func (v *volumeSetup) mounted(err error, now time.Time) {
	p := v.pod
	v.busy = false
	if err == nil {
		v.failures, v.said = 0, ""
		if volume.Live(p.state.Object, p.class(p.state.Object)) {
			if v.wait = min(2*v.wait, refreshPeriod); v.wait == 0 {
				v.wait = refreshPeriod
			}
			v.due = now.Add(v.wait)
		}
		if !p.state.Ready {
			p.state.Ready, p.dirty = true, true
		}
		return
	}
	v.due = now.Add(min(minMountRetry<<min(v.failures, 20), maxMountRetry))
	v.failures++
	if text := err.Error(); text != v.said {
		v.said = text
		v.noteFailure(err)
	}
}

// noteFailure records why the pod cannot start yet.
func (v *volumeSetup) noteFailure(err error) {
	var files *filesError
	if errors.As(err, &files) {
		v.pod.note(warning, reason.FailedCreatePodSandBox, err.Error())
		return
	}
	for _, err := range split(err) {
		v.pod.note(warning, reason.FailedMount, err.Error())
	}
}

// split returns the errors that err joins.
func split(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

// observe has the volumes refreshed soon if the pod's own labels or annotations have
// changed, which they may show.
func (v *volumeSetup) observe(old, now *corev1.Pod) {
	if v.due.IsZero() || maps.Equal(old.Labels, now.Labels) && maps.Equal(old.Annotations, now.Annotations) {
		return
	}
	v.due = time.Now()
}
