package podstate

import corev1 "k8s.io/api/core/v1"

// tally counts containers by what the pod's phase depends on.
type tally struct {
	initPending    int // init containers that have not completed yet
	initFailed     int // init containers that failed, and are not started again
	sidecarPending int // sidecars that have not started yet
	waiting        int
	running        int
	stopped        int
	succeeded      int
	final          int // of stopped: those that are not started again
}

// phase returns the pod's phase. over says that nothing runs any more and
// nothing will be started.
func (p *Pod) phase(over bool) corev1.PodPhase {
	switch old := p.Object.Status.Phase; old {
	case corev1.PodSucceeded, corev1.PodFailed:
		return old
	}
	if over && p.Ending != nil && p.Ending.Failed {
		return corev1.PodFailed
	}
	phase := p.count().phase(over)
	if over && phase != corev1.PodSucceeded {
		return corev1.PodFailed
	}
	if !over && (phase == corev1.PodSucceeded || phase == corev1.PodFailed) {
		// A final phase is reported when the last container has stopped.
		if p.mainCreated() {
			return corev1.PodRunning
		}
		return corev1.PodPending
	}
	return phase
}

func (p *Pod) count() tally {
	var t tally
	for i := range p.inits() {
		c := &p.Containers[i]
		if c.Kind == Sidecar {
			switch {
			case c.shown():
				t.running++
				if !c.Started {
					t.sidecarPending++
				}
			case c.Exit == nil:
				t.sidecarPending++
			}
			continue
		}
		switch {
		case c.Exit == nil || c.HasProcess():
			t.initPending++
		case c.Exit.ExitCode == 0:
		case !p.Restarts(c):
			t.initFailed++
		default:
			t.initPending++
		}
	}
	for i := range p.mains() {
		c := &p.mains()[i]
		switch {
		case c.shown():
			t.running++
		case c.Exit != nil:
			t.stopped++
			if c.Exit.ExitCode == 0 {
				t.succeeded++
			}
			if !p.Restarts(c) {
				t.final++
			}
		default:
			t.waiting++
		}
	}
	return t
}

func (t tally) phase(over bool) corev1.PodPhase {
	switch {
	case t.initFailed > 0:
		return corev1.PodFailed
	case t.initPending > 0, t.sidecarPending > 0 && t.running+t.stopped == 0, t.waiting > 0:
		return corev1.PodPending
	case t.running > 0:
		return corev1.PodRunning
	case t.stopped == t.succeeded && (over || t.final == t.stopped):
		return corev1.PodSucceeded
	case t.final == t.stopped:
		return corev1.PodFailed
	}
	return corev1.PodRunning // all stopped, some to be started again
}

// shown reports whether the container is reported as running: it has a
// process, and its postStart hook has returned.
func (c *Container) shown() bool { return c.HasProcess() && !c.Hook }
