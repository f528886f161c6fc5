package cli

import (
	"bufio"
	"context"
	"errors"
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
	// mute: nothing is printed; the last words are wanted all the same.
	mute bool

	mu       sync.Mutex
	lives    func(life)     // takes what is known of a container when its log has ended
	open     int            // logs that are being read
	idle     chan struct{}  // closed, and nil again, when none is
	printing int            // readers that wait for the console
	lines    int            // printed so far
	attempts map[logKey]int // how many logs of a container were handed over
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

func newLogReaders(ctx context.Context, c *console) *logReaders {
	return &logReaders{console: c, ctx: ctx, lives: func(life) {}, attempts: map[logKey]int{}}
}

// take prints the log of a container that the engine in this process hands over, and
// measures how long it lives: until its log ends.
func (l *logReaders) take(pod *corev1.Pod, container string, log io.ReadCloser) {
	of := life{logKey: logKey{pod.UID, container}, Life: board.Life{Began: time.Now()}}
	of.endless = len(pod.OwnerReferences) == 0 && pod.Spec.RestartPolicy == corev1.RestartPolicyAlways
	l.mu.Lock()
	of.attempt = l.attempts[of.logKey]
	l.attempts[of.logKey]++
	l.mu.Unlock()
	l.read(logName(pod, container), of, func(context.Context) (io.ReadCloser, error) { return log, nil })
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

// read prints a log to its end.
func (l *logReaders) read(name string, of life, open func(context.Context) (io.ReadCloser, error)) {
	if !of.endless {
		l.mu.Lock()
		l.open++
		l.mu.Unlock()
	}
	go func() {
		if !of.endless {
			defer l.done()
		}
		log, err := open(l.ctx)
		if err == nil {
			defer context.AfterFunc(l.ctx, func() { log.Close() })()
			err = l.print(name, log, &of)
			log.Close()
		}
		if !of.Began.IsZero() {
			of.Ended = time.Now()
		}
		l.mu.Lock()
		tell := l.lives
		l.mu.Unlock()
		tell(of)
		if err != nil && l.ctx.Err() == nil {
			l.console.Note("warning: log of %s: %v", name, err)
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

func (l *logReaders) print(name string, log io.Reader, of *life) error {
	r := bufio.NewReaderSize(log, 16<<10)
	for {
		line, err := readLine(r)
		if len(line) > 0 || err == nil {
			of.keep(line)
			l.printLine(name, string(line))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// keep remembers a line as one of the last.
func (l *life) keep(line []byte) {
	const most, longest = 5, 300
	if len(l.Last) == most {
		l.Last = append(l.Last[:0], l.Last[1:]...)
	}
	l.Last = append(l.Last, string(line[:min(len(line), longest)]))
}

// printLine prints a line, for which whoever reads this program's output may take
// his time.
func (l *logReaders) printLine(name, line string) {
	if l.mute {
		return
	}
	l.count(1, 0)
	l.console.Log(name, line)
	l.count(-1, 1)
}

func (l *logReaders) count(printing, lines int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.printing += printing
	l.lines += lines
}

// maxLine is the longest line that is printed as one: a program that never ends
// its line must not fill the memory.
const maxLine = 1 << 20

// readLine returns the next line, without its end.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for len(line) < maxLine {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return line[:len(line)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
	return line, nil
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
