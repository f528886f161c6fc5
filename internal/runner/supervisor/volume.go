package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/tree"
)

// handleVolume answers a request about volumes.
func (s *Supervisor) handleVolume(f frame) (any, error) {
	decode := func(req any) error { return json.Unmarshal(f.body, req) }
	switch f.verb {
	case verbRead:
		file := &runner.VolumeFile{}
		if err := decode(file); err != nil {
			return nil, err
		}
		data, err := s.launcher.ReadVolume(file)
		return readAnswer{data}, err
	case verbDiscard:
		var req idRequest
		if err := decode(&req); err != nil {
			return nil, err
		}
		return nil, tree.Remove(req.ID)
	}
	v := &runner.Volume{}
	if err := decode(v); err != nil {
		return nil, err
	}
	return nil, s.setVolume(v)
}

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

// releasePod gives back what a pod holds beyond the supervisor. Its volumes stay
// on disk, since its containers may be started again by a later one; with a
// private engine the pod is over.
func (s *Supervisor) releasePod(uid string) error {
	if s.opts.Private {
		return s.removePod(uid)
	}
	if err := s.launcher.ReleasePod(uid); err != nil {
		return fmt.Errorf("pod %s: %w", uid, err)
	}
	return nil
}

// How long a supervisor that is told to stop goes on removing files. What is
// left then, the next one removes; a private one has none.
const (
	finishPatience  = 10 * time.Second
	privatePatience = time.Minute
)

// finish has the Launcher remove what is left of containers. It returns what
// went wrong at the end of a supervisor, errs and that, in a few lines: a
// runner.ErrRemains if it is nothing worse.
func (s *Supervisor) finish(errs []error) error {
	patience := finishPatience
	if s.opts.Private {
		patience = privatePatience
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// Main stops once more what a client has stopped; it need not wait again.
	s.finishing.Do(func() { s.remains = s.launcher.Finish(ctx) })
	remains := s.remains
	if err := s.journal.settle(); err != nil { // the next supervisor takes these containers for lost
		s.log.Error("recording how containers ended", "err", err)
	}
	if failed := brief(errs); failed != nil {
		if remains != nil {
			failed = fmt.Errorf("%w\n%s", failed, remains.Error())
		}
		return failed
	}
	return remains
}

// brief joins errors so that people can read them: the first few, each cut to a
// few hundred characters.
func brief(errs []error) error {
	const most, length = 3, 300
	var lines []string
	for _, err := range errs {
		if err != nil {
			lines = append(lines, err.Error())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	more := len(lines) - most
	lines = lines[:min(len(lines), most)]
	for i, line := range lines {
		if len(line) > length {
			lines[i] = strings.ToValidUTF8(line[:length/2], "") + " … " + strings.ToValidUTF8(line[len(line)-length/2:], "")
		}
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(lines, "\n"))
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
