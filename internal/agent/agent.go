package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/sampan-batch/sampan/internal/agent/machine"
	"github.com/sampan-batch/sampan/internal/agent/podfiles"
	"github.com/sampan-batch/sampan/internal/reason"
)

// Agent is the node. New makes one, Run runs it.
type Agent struct {
	services *services
	pods     *podWorkers
	meter    *meter
}

// New returns the node; it starts nothing.
func New(o Options) (*Agent, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &services{containerRuntime: newContainerRuntime(&o), turns: newTurns(), alarm: make(chan struct{}, 1)}
	a := &Agent{services: s, pods: &podWorkers{services: s, pods: make(map[string]*entry)}, meter: newMeter(s)}
	s.grants.each, s.takings.each, s.certify.Options = a.pods.each, a.pods.each, &o
	return a, nil
}

// Run runs the node until ctx ends, and returns when all its goroutines have.
// Containers keep running; the next Run finds them.
func (a *Agent) Run(ctx context.Context) error {
	s := a.services
	defer s.tasks.Wait()
	if err := s.files.Prepare(); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if err := a.pods.find(ctx); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	a.guard(ctx)
	a.pods.learnLosses(ctx)
	s.tasks.Go(func() { s.Node.Run(ctx) })
	s.tasks.Go(func() { s.cluster.run(ctx) })
	s.tasks.Go(func() { s.cluster.keepOpen(ctx) })
	s.tasks.Go(func() { s.cluster.police.run(ctx) })
	for {
		err := s.Client.WatchPods(ctx, s.Node.Name(), func(ch PodChanges) { a.pods.deliver(ctx, ch) })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.Log.Warn("the watch of pods broke", "err", err)
		if !sleep(ctx, time.Second) {
			return context.Cause(ctx)
		}
	}
}

// guard begins to watch the machine and what the pods take of it. How both are is
// known before the node says so, and before the first pod.
func (a *Agent) guard(ctx context.Context) {
	s := a.services
	s.tasks.Go(func() { (&limitEnforcer{services: s, pods: a.pods}).run(ctx) })
	s.Node.CheckHealth()
	if s.Machine == nil {
		return
	}
	m := &evictionManager{services: s, pods: a.pods}
	m.assess()
	s.tasks.Go(func() { m.run(ctx) })
	s.tasks.Go(func() { a.boundFiles(ctx) })
}

// boundFiles keeps the files that containers can write to from growing.
func (a *Agent) boundFiles(ctx context.Context) {
	s := a.services
	caps := []machine.Cap{
		{Dir: s.files.TerminationDir(), Size: podfiles.MaxTerminationLog},
		{Dir: s.files.EtcDir(), Size: podfiles.MaxEtcFile},
	}
	if err := s.Machine.Keep(ctx, caps, a.truncated); ctx.Err() == nil {
		s.Log.Warn("termination messages and files in /etc can grow", "err", err)
	}
}

// truncated records that a file has been cut off. A termination message that is too
// long loses nothing that anybody would see.
func (a *Agent) truncated(path string) {
	s := a.services
	uid, file, ok := s.files.EtcOwner(path)
	if !ok {
		return
	}
	if pod := a.pods.object(uid); pod != nil {
		s.Client.Record(note(pod, nil, warning, reason.FileTruncated, fmt.Sprintf("%s is longer than %d bytes: the rest was cut off", file, podfiles.MaxEtcFile)))
	}
}
