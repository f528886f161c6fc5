package supervisor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/sampan-batch/sampan/internal/runner"
)

// setVolume has the Launcher make a volume, or bring it up to date.
func (s *Supervisor) setVolume(v *runner.Volume) error {
	if err := errors.Join(checkID(v.PodUID), checkID(v.Name)); err != nil {
		return err
	}
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return errStopping
	}
	s.pods[v.PodUID] = true
	s.mu.Unlock()
	return s.launcher.SetVolume(v)
}

// podsDue lists the pods that RemovePod is due for.
func (s *Supervisor) podsDue() podsAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return podsAnswer{UIDs: slices.Sorted(maps.Keys(s.pods))}
}

// measurer measures pods. A pod is measured once at a time, however many ask:
// who comes while it is gets the same answer. So requests do not pile up behind
// a tree that takes longer to walk than they are apart.
type measurer struct {
	// walking is full when enough goroutines measure: each may keep a thread that
	// waits for the disk.
	walking chan struct{}

	mu   sync.Mutex
	pods map[string]*measurement
}

type measurement struct {
	done  chan struct{} // closed when what follows is set
	usage runner.PodUsage
	err   error
}

func newMeasurer() *measurer {
	return &measurer{walking: make(chan struct{}, 16), pods: make(map[string]*measurement)}
}

// measure returns what do does for the pod, or already does for somebody else.
// ctx ends the waiting, not the measuring.
func (m *measurer) measure(ctx context.Context, uid string, do func() (runner.PodUsage, error)) (runner.PodUsage, error) {
	m.mu.Lock()
	one := m.pods[uid]
	if one == nil {
		one = &measurement{done: make(chan struct{})}
		m.pods[uid] = one
		go func() {
			m.walking <- struct{}{}
			one.usage, one.err = do()
			<-m.walking
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.pods, uid)
			close(one.done)
		}()
	}
	m.mu.Unlock()
	select {
	case <-one.done:
		return one.usage, one.err
	case <-ctx.Done():
		return runner.PodUsage{}, context.Cause(ctx)
	}
}

// usage measures what a pod takes of the disk.
func (s *Supervisor) usage(ctx context.Context, uid string) (runner.PodUsage, error) {
	if err := checkID(uid); err != nil {
		return runner.PodUsage{}, err
	}
	usage, err := s.measurer.measure(ctx, uid, func() (runner.PodUsage, error) {
		return s.launcher.Usage(uid, s.specsOf(uid))
	})
	if err != nil {
		return runner.PodUsage{}, fmt.Errorf("pod %s: %w", uid, err)
	}
	return usage, nil
}

// specsOf returns the specs of a pod's containers.
func (s *Supervisor) specsOf(uid string) []*runner.Spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	var specs []*runner.Spec
	for _, c := range s.containers {
		if c.spec.Pod.UID == uid {
			specs = append(specs, c.spec)
		}
	}
	return specs
}
