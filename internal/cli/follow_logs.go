package cli

import (
	"context"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sampan-batch/sampan/internal/board"
)

// logReaders print logs, each in a goroutine of its own, and tell what they saw of the
// containers that wrote them.
type logReaders struct {
	console *console
	// ctx ends the reading. It outlives an interrupted follower, to show what pods
	// write when they are told to end.
	ctx context.Context
	logOutput
	// few bounds how many logs are read at a time of containers that have ended.
	few chan struct{}

	mu       sync.Mutex
	lives    func(life)    // takes what is known of a container when its log has ended
	open     int           // logs that are being read
	idle     chan struct{} // closed, and nil again, when none is
	printing int           // readers that wait for the console
	lines    int           // printed so far
}

// logOutput is what becomes of what is read.
type logOutput struct {
	// mute: nothing is printed; the last words are wanted all the same.
	mute bool
	// bare: no names stand in front of lines.
	bare bool
	// stage shows logs one after the other; nil: they are printed line by line.
	stage *stage
	// stamped: every line that is read begins with its time, which is printed if
	// timestamps is set.
	stamped, timestamps bool
	// records is where all of it is written down.
	records *records
}

// wants reports whether a log is to be read of a container that the API tells of: ended is
// how it has, nil if it has not. Where others are not printed, those that failed tell their
// last words.
func (o *logOutput) wants(ended *corev1.ContainerStateTerminated) bool {
	onlyFailed := o.mute || o.stage != nil && o.stage.onlyFailed
	return !onlyFailed || ended != nil && ended.ExitCode != 0
}

// logKey is a container of a pod.
type logKey struct {
	pod       types.UID
	container string
}

// life is one of a container, as its log shows it.
type life struct {
	logKey
	attempt int
	endless bool // nobody waits for its end
	board.Life
}

// logsAtOnce is how many logs of containers that have ended are read at a time.
const logsAtOnce = 16

func newLogReaders(ctx context.Context, c *console, o logOutput) *logReaders {
	return &logReaders{console: c, ctx: ctx, logOutput: o, few: make(chan struct{}, logsAtOnce), lives: func(life) {}}
}

// take prints the log of a container that the engine in this process hands over, and
// measures how long it lives: until its log ends.
func (l *logReaders) take(pod *corev1.Pod, container string, restarts int, log io.ReadCloser) {
	of := life{logKey: logKey{pod.UID, container}, attempt: restarts, Life: board.Life{Began: time.Now()}}
	of.endless = pod.Spec.RestartPolicy == corev1.RestartPolicyAlways
	r := l.reading(logName(pod, container), of)
	r.file = l.records.create(pod, container)
	l.start(r, func(context.Context) (io.ReadCloser, error) { return log, nil })
}

// read prints a log that the API has. ended: its container has, too.
func (l *logReaders) read(name string, of life, ended bool, open func(context.Context) (io.ReadCloser, error)) {
	if !ended {
		l.start(l.reading(name, of), open)
		return
	}
	l.start(l.reading(name, of), func(ctx context.Context) (io.ReadCloser, error) {
		select {
		case l.few <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		log, err := open(ctx)
		if err != nil {
			<-l.few
			return nil, err
		}
		return &oneOfFew{ReadCloser: log, done: sync.OnceFunc(func() { <-l.few })}, nil
	})
}

// oneOfFew lets another one go on when it is closed.
type oneOfFew struct {
	io.ReadCloser
	done func()
}

func (o *oneOfFew) Close() error {
	defer o.done()
	return o.ReadCloser.Close()
}

// tell has told to whom it may concern what is known of a container whose log has ended.
func (l *logReaders) tell(lives func(life)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lives = lives
}

// logName is what stands before each line of a container.
func logName(pod *corev1.Pod, container string) string {
	if len(pod.Spec.Containers)+len(pod.Spec.InitContainers) == 1 {
		return pod.Name
	}
	return pod.Name + "/" + container
}

// start reads a log to its end.
func (l *logReaders) start(r *reading, open func(context.Context) (io.ReadCloser, error)) {
	if !r.of.endless {
		l.mu.Lock()
		l.open++
		l.mu.Unlock()
	}
	go func() {
		if !r.of.endless {
			defer l.done()
		}
		log, err := open(l.ctx)
		if err == nil {
			stop := context.AfterFunc(l.ctx, func() { log.Close() })
			err = r.copy(log)
			stop()
			log.Close()
		}
		r.end()
		l.mu.Lock()
		tell := l.lives
		l.mu.Unlock()
		tell(r.of)
		if err != nil && l.ctx.Err() == nil && !l.mute {
			l.console.Note("warning: log of %s: %v", r.name, err)
		}
	}()
}

func (l *logReaders) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open--; l.open == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

func (l *logReaders) count(printing, lines int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.printing += printing
	l.lines += lines
}

// logStall is how long a log that has ended may bring nothing before it is given up.
const logStall = 5 * time.Second

// await returns when all logs are read, and whether they are: as long as lines
// come, or wait to be taken, it goes on.
func (l *logReaders) await(ctx context.Context) (whole bool) {
	tick := time.NewTicker(logStall)
	defer tick.Stop()
	for last := -1; ; {
		idle, printing, lines := l.state()
		if idle == nil {
			return true
		}
		if printing == 0 && lines == last {
			return false
		}
		last = lines
		select {
		case <-idle:
			return true
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// state returns what is closed when no log is open any more, nil if none is, and
// how far the readers are.
func (l *logReaders) state() (idle <-chan struct{}, printing, lines int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == 0 {
		return nil, 0, l.lines
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	return l.idle, l.printing, l.lines
}
