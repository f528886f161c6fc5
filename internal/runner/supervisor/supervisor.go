package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// Supervisor keeps the containers of one class. It is what Main runs.
//
// Locks are taken in the order mu, container.mu; none is held while a Launcher
// works, which may take as long as what a stranger's files make it.
type Supervisor struct {
	opts     Options
	log      *slog.Logger
	launcher runner.Launcher
	journal  *journal
	buffers  sync.Pool // *[]byte, to read output into
	started  time.Time
	measurer *measurer
	quota    quota        // of open streams
	waiting  atomic.Int64 // bytes of output that attached clients have not taken yet

	// starting counts the containers that are being started; giveUp ends their
	// starts, whose context is starts. None is added once stopping is set.
	starting sync.WaitGroup
	starts   context.Context
	giveUp   context.CancelFunc

	// turns has room for the starts that go on at once; see takeTurn.
	turns chan struct{}

	mu         sync.Mutex
	containers map[string]*container
	pods       map[string]bool // uids of those that RemovePod is due for
	stopping   bool
	leaving    string            // why, if it was not a client that said so
	sessions   map[*session]bool // the connected clients, after their hello

	finishing sync.Once
	remains   error // of Launcher.Finish

	exit func() // ends Main
}

// readSize is as much as a pipe holds by default.
const readSize = 64 << 10

func newSupervisor(opts Options, launcher runner.Launcher, log *slog.Logger) (*Supervisor, error) {
	journal, skipped, err := openJournal(filepath.Join(opts.home(), "journal"))
	if err != nil {
		return nil, err
	}
	if skipped > 0 {
		log.Error("the journal is damaged; containers may be unknown", "count", skipped)
	}
	starts, giveUp := context.WithCancel(context.Background())
	return &Supervisor{
		starts: starts, giveUp: giveUp, turns: make(chan struct{}, max(4, 2*runtime.GOMAXPROCS(0))),
		opts: opts, log: log, launcher: launcher, journal: journal, started: time.Now(), measurer: newMeasurer(),
		buffers:    sync.Pool{New: func() any { b := make([]byte, readSize); return &b }},
		containers: make(map[string]*container),
		pods:       make(map[string]bool),
		sessions:   make(map[*session]bool),
	}, nil
}

// newLauncher makes the Launcher of the class, with a directory of its own.
func newLauncher(opts Options, r *reap.Reaper, log *slog.Logger) (runner.Launcher, error) {
	build := opts.Launchers[opts.Class]
	if build == nil {
		return nil, fmt.Errorf("supervisor: no launcher for the class %q", opts.Class)
	}
	dir := filepath.Join(opts.home(), "launcher")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return build(runner.LauncherEnv{
		Dir: dir, Reaper: r, Log: log, NoNamespaces: opts.NoNamespaces, Pods: opts.Pods, Cluster: opts.Cluster, Hub: opts.hub, Machine: opts.Machine, IPv6: opts.IPv6,
	})
}

// recover takes over what a former supervisor left: the containers that had
// ended are as they were, the others are lost.
func (s *Supervisor) recover() error {
	var lost []*runner.Spec
	for id, rec := range s.journal.live {
		spec := rec.started.spec()
		c := newContainer(spec)
		if c.status.StartedAt = rec.created; rec.ended != nil {
			c.status = *rec.ended
			close(c.ended)
		} else {
			lost = append(lost, spec)
		}
		s.containers[id] = c
		s.pods[spec.Pod.UID] = true
	}
	if err := s.launcher.Recover(lost); err != nil {
		return fmt.Errorf("ending what a former supervisor left: %w", err)
	}
	pods, err := s.launcher.Pods()
	if err != nil {
		return fmt.Errorf("looking for the volumes that a former supervisor left: %w", err)
	}
	for _, uid := range pods {
		s.pods[uid] = true
	}
	for _, spec := range lost {
		c := s.containers[spec.ID]
		c.status.Phase, c.status.Lost, c.status.FinishedAt = runner.Exited, true, time.Now()
		// What a kubelet reports for a container that is not there any more.
		c.status.ExitCode, c.status.Signal = 137, 9
		c.status.Reason = "ContainerStatusUnknown"
		c.status.Message = "The supervisor of the container died, and the container with it"
		close(c.ended)
		if err := s.journal.end(&c.status); err != nil { // it is owed
			s.log.Error("recording a container's end", "container", spec.ID, "err", err)
		}
		s.log.Warn("a container was lost", "container", spec.ID)
	}
	return nil
}

// start starts a container; text is its Spec as it came from the session.
func (s *Supervisor) start(text []byte, from *session) (runner.Status, error) {
	spec := &runner.Spec{}
	if err := json.Unmarshal(text, spec); err != nil {
		return runner.Status{}, err
	}
	if err := checkID(spec.ID); err != nil {
		return runner.Status{}, err
	}
	c := newContainer(spec)
	if err := s.add(c); err != nil {
		return runner.Status{}, err
	}
	defer s.starting.Done()
	if err := s.journal.start(spec, time.Now()); err != nil {
		s.drop(c)
		return runner.Status{}, err
	}
	done := s.takeTurn()
	st, err := s.launch(s.starts, c)
	done()
	if err != nil && s.starts.Err() != nil {
		err = errors.Join(errStopping, err)
	}
	if err != nil {
		err = errors.Join(err, s.journal.gone(spec.ID))
		s.drop(c)
		return runner.Status{}, err
	}
	c.mu.Lock()
	c.status.Phase, c.status.PID, c.status.StartedAt = runner.Running, c.proc.PID(), time.Now()
	c.status.LimitsIgnored = c.proc.LimitsIgnored()
	status := c.status
	c.mu.Unlock()
	s.push(verbState, &status, from)
	go s.watch(c, st)
	return status, nil
}

// turnTime is how long a start has its turn: several times as long as one takes
// that meets nothing to wait for.
const turnTime = 10 * time.Millisecond

// takeTurn waits until few others are being started, and returns what ends the
// turn. Each process is born with a copy of the table of this one's open files,
// and each start under way has some of them: a thousand at once take twice the
// time that they take one after the other. A start that hangs loses its turn, so
// that it holds up nobody.
func (s *Supervisor) takeTurn() (done func()) {
	s.turns <- struct{}{}
	end := sync.OnceFunc(func() { <-s.turns })
	timer := time.AfterFunc(turnTime, end)
	return func() {
		timer.Stop()
		end()
	}
}

// add takes a container in; its start is over when starting.Done is called.
func (s *Supervisor) add(c *container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return errStopping
	}
	if s.containers[c.spec.ID] != nil {
		return errorf(c.spec.ID, runner.ErrExists)
	}
	s.containers[c.spec.ID] = c
	s.pods[c.spec.Pod.UID] = true
	s.starting.Add(1)
	return nil
}

func (s *Supervisor) drop(c *container) (was bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.containers[c.spec.ID] != c {
		return false
	}
	delete(s.containers, c.spec.ID)
	return true
}

func (s *Supervisor) find(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.containers[id]; c != nil {
		return c, nil
	}
	return nil, errorf(id, runner.ErrNotFound)
}

// running returns the process of a container that runs.
func (s *Supervisor) running(id string) (runner.Process, error) {
	c, err := s.find(id)
	if err != nil {
		return nil, err
	}
	switch c.state().Phase {
	case runner.Running:
		return c.proc, nil
	case runner.Created:
		return nil, errorf(id, runner.ErrNotFound) // nobody was told of it yet
	default:
		return nil, errorf(id, runner.ErrEnded)
	}
}

func (s *Supervisor) signal(id string, signal int) error {
	proc, err := s.running(id)
	if err != nil {
		return err
	}
	if err = proc.Signal(signal); errors.Is(err, os.ErrProcessDone) {
		return errorf(id, runner.ErrEnded)
	}
	return err
}

// resize changes what a container may use; text is the request as it came.
func (s *Supervisor) resize(text []byte) (resizeAnswer, error) {
	var req resizeRequest
	if err := json.Unmarshal(text, &req); err != nil {
		return resizeAnswer{}, err
	}
	proc, err := s.running(req.ID)
	if err != nil {
		return resizeAnswer{}, err
	}
	ignored, err := proc.Resize(req.Resources)
	if errors.Is(err, os.ErrProcessDone) {
		err = errorf(req.ID, runner.ErrEnded)
	}
	return resizeAnswer{ignored}, err
}

func (s *Supervisor) remove(id string, from *session) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	if c.state().Phase != runner.Exited {
		return errorf(id, runner.ErrRunning)
	}
	if err := c.release(); err != nil {
		return errorf(id, err)
	}
	if !s.drop(c) { // somebody else removed it at the same time
		return errorf(id, runner.ErrNotFound)
	}
	if err := s.journal.gone(id); err != nil { // it is owed
		s.log.Error("recording a container's removal", "container", id, "err", err)
	}
	s.push(verbGone, &idRequest{ID: id}, from)
	return nil
}

func (s *Supervisor) removePod(uid string) error {
	if err := s.launcher.RemovePod(uid); err != nil {
		return fmt.Errorf("pod %s: %w", uid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, uid)
	return nil
}

// stopPatience is how long stop waits for what is killed to end. Only what hangs
// in the kernel, in a dead network file system for instance, takes longer, and
// then nobody knows for how long.
const stopPatience = 20 * time.Second

// stop ends every container and lets no new one start. It returns when
// all have ended, with nothing of them left but their records and logs, or names
// those that do not end.
func (s *Supervisor) stop() error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.giveUp()
	patience, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	started := make(chan struct{})
	go func() { s.starting.Wait(); close(started) }()
	select {
	case <-started:
	case <-patience.Done(): // their containers are not running yet
	}
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.containers))
	pods := slices.Collect(maps.Keys(s.pods))
	s.mu.Unlock()

	var errs []error
	for _, c := range all {
		err := s.signal(c.spec.ID, int(syscall.SIGKILL))
		if !errors.Is(err, runner.ErrEnded) && !errors.Is(err, runner.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	for _, c := range all {
		select {
		case <-c.ended:
			errs = append(errs, c.release())
		case <-patience.Done():
			errs = append(errs, errorf(c.spec.ID, errors.New("it does not end")))
		}
	}
	for _, uid := range pods {
		errs = append(errs, s.releasePod(uid))
	}
	return s.finish(errs)
}
