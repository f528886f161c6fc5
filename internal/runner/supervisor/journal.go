package supervisor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

// journal keeps what a supervisor has to know after a sudden end: which
// containers it had, and how those that ended did. It is one file, of one line of
// JSON per event; a line is appended before a container is started, when it has
// ended, and when it is removed. One system call for each, and no file to create
// and remove for every container, which costs more than anything else here.
//
// Only a whole line counts, so an event is recorded at once or not at all.
// A container is recorded with no more than recovery needs: its environment and
// its arguments contain secrets, which would stay on the disk when the pod and
// the Secret are long gone. Journals that have them are written anew when they
// are opened.
//
// Nothing is synced to the disk: a record has to outlive the supervisor, and
// the containers do not outlive the machine.
type journal struct {
	path string

	mu   sync.Mutex
	fd   int
	size int64 // of the file
	base int64 // of the file when it was written anew
	live map[string]*record
}

// event is one line; one of the fields is set.
type event struct {
	At    time.Time      `json:",omitzero"` // with Start
	Start *started       `json:",omitempty"`
	End   *runner.Status `json:",omitempty"`
	Gone  string         `json:",omitempty"`
}

// started is what is kept of a container's Spec.
type started struct {
	ID        string
	Class     runner.Class
	Pod       runner.PodRef
	Container string
	Attempt   int
}

func startedOf(spec *runner.Spec) started {
	return started{ID: spec.ID, Class: spec.Class, Pod: spec.Pod, Container: spec.Container, Attempt: spec.Attempt}
}

// spec is what a Launcher is told of a lost container.
func (s *started) spec() *runner.Spec {
	return &runner.Spec{ID: s.ID, Class: s.Class, Pod: s.Pod, Container: s.Container, Attempt: s.Attempt}
}

// record is what the journal says about one container.
type record struct {
	created time.Time
	started started
	ended   *runner.Status // nil: it was running, or being started
}

// slack is how much a journal may grow before it is written anew without
// what is past, if that is more than half.
const slack = 4 << 20

// openJournal reads the journal and writes it anew. Lines that cannot be read
// are counted and skipped: a machine that stops suddenly may leave some.
func openJournal(path string) (j *journal, skipped int, err error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	j = &journal{path: path, fd: -1}
	j.live, skipped = parseJournal(text)
	return j, skipped, j.rewriteLocked()
}

func parseJournal(text []byte) (live map[string]*record, skipped int) {
	live = make(map[string]*record)
	for {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		if !whole { // the supervisor died while writing it
			return live, skipped
		}
		text = rest
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			skipped++
			continue
		}
		switch {
		case e.Start != nil:
			if e.Start.ID == "" {
				skipped++
				continue
			}
			live[e.Start.ID] = &record{created: e.At, started: *e.Start}
		case e.End != nil:
			if rec := live[e.End.ID]; rec != nil {
				rec.ended = e.End
			}
		default:
			delete(live, e.Gone)
		}
	}
}

// start records that a container is about to be started.
func (j *journal) start(spec *runner.Spec, now time.Time) error {
	rec := &record{created: now, started: startedOf(spec)}
	line, err := rec.line()
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live[spec.ID] = rec
	return j.appendLocked(line)
}

// line is what says that it was started.
func (r *record) line() ([]byte, error) {
	line, err := json.Marshal(event{At: r.created, Start: &r.started})
	return append(line, '\n'), err
}

// end records how a container ended.
func (j *journal) end(status *runner.Status) error {
	line, err := endLine(status)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if rec := j.live[status.ID]; rec != nil {
		rec.ended = status
	}
	return j.appendLocked(line)
}

func endLine(status *runner.Status) ([]byte, error) {
	line, err := json.Marshal(event{End: status})
	return append(line, '\n'), err
}

// gone records that a container was removed, or could not be started.
func (j *journal) gone(id string) error {
	line, err := json.Marshal(event{Gone: id})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.live, id)
	return j.appendLocked(append(line, '\n'))
}

func (j *journal) appendLocked(line []byte) error {
	n, err := unix.Write(j.fd, line)
	if err == nil && n < len(line) {
		err = unix.ENOSPC
	}
	if err != nil {
		if n > 0 { // half a line must not stand before the next one
			err = errors.Join(err, unix.Ftruncate(j.fd, j.size))
		}
		return fmt.Errorf("write the journal: %w", err)
	}
	if j.size += int64(n); j.size > 2*j.base+slack {
		return j.rewriteLocked()
	}
	return nil
}

// rewriteLocked replaces the journal by one that says only what still matters.
func (j *journal) rewriteLocked() error {
	var text []byte
	for _, rec := range j.live {
		line, err := rec.line()
		if err != nil {
			return err
		}
		text = append(text, line...)
		if rec.ended == nil {
			continue
		}
		if line, err = endLine(rec.ended); err != nil {
			return err
		}
		text = append(text, line...)
	}
	next := j.path + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, j.path); err != nil {
		return err
	}
	fd, err := unix.Open(j.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: j.path, Err: err}
	}
	if j.fd >= 0 {
		unix.Close(j.fd)
	}
	j.fd, j.size, j.base = fd, int64(len(text)), int64(len(text))
	return nil
}

// checkID says whether an ID is one: it goes into names of files and cgroups.
func checkID(id string) error {
	if id == "" || len(id) > 255 || id[0] == '.' || strings.ContainsAny(id, "/\x00\n") {
		return fmt.Errorf("supervisor: %q cannot be a container's ID", id)
	}
	return nil
}
