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
//
// The disk may be full, and a container may have filled it. No container is
// started whose start could not be recorded; ends and removals that could not be
// are owed, and written with the next line that can. The file has blocks behind
// its end for them, and is written anew only if that makes it shorter.
type journal struct {
	path string

	mu   sync.Mutex
	fd   int
	size int64 // of the file
	base int64 // of the file when it was written anew
	live map[string]*record
	owed []byte // lines
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

// journalReserve is what a journal keeps of the disk for lines to come: the ends of
// a few hundred containers.
const journalReserve = 64 << 10

// openJournal reads the journal, and writes it anew if there is something to
// leave out. Lines that cannot be read are counted and skipped: a machine that
// stops suddenly may leave some.
func openJournal(path string) (j *journal, skipped int, err error) {
	text, err := os.ReadFile(path)
	absent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		return nil, 0, err
	}
	j = &journal{path: path, fd: -1}
	j.live, skipped = parseJournal(text)
	short, err := j.textLocked()
	if err != nil {
		return nil, skipped, err
	}
	if absent || len(short) < len(text) {
		if err = j.replaceLocked(short); err == nil {
			return j, skipped, nil
		} else if absent {
			return nil, skipped, err
		}
	}
	// There was no room, perhaps: the old one says the same.
	return j, skipped, j.openLocked(int64(bytes.LastIndexByte(text, '\n') + 1))
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
	if err := j.appendLocked(line); err != nil {
		delete(j.live, spec.ID)
		return err
	}
	return nil
}

// line is what says that it was started.
func (r *record) line() ([]byte, error) {
	line, err := json.Marshal(event{At: r.created, Start: &r.started})
	return append(line, '\n'), err
}

// end records how a container ended. With an error, that is owed.
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
	return j.oweLocked(line)
}

func endLine(status *runner.Status) ([]byte, error) {
	line, err := json.Marshal(event{End: status})
	return append(line, '\n'), err
}

// gone records that a container was removed, or could not be started. With an
// error, that is owed.
func (j *journal) gone(id string) error {
	line, err := json.Marshal(event{Gone: id})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.live, id)
	return j.oweLocked(append(line, '\n'))
}

// settle writes what is owed.
func (j *journal) settle() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.owed) == 0 {
		return nil
	}
	return j.appendLocked(nil)
}

// oweLocked is appendLocked for a line that is not given up when it fails.
func (j *journal) oweLocked(line []byte) error {
	err := j.appendLocked(line)
	if err != nil {
		j.owed = append(j.owed, line...)
	}
	return err
}

// appendLocked writes what is owed, and a line, or nothing.
func (j *journal) appendLocked(line []byte) error {
	text := line
	if len(j.owed) > 0 {
		text = append(j.owed[:len(j.owed):len(j.owed)], line...)
	}
	n, err := j.write(text)
	if err == nil && n < len(text) {
		err = unix.ENOSPC
	}
	if err != nil {
		if n > 0 { // half a line must not stand before the next one
			err = errors.Join(err, unix.Ftruncate(j.fd, j.size))
		}
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	j.owed = nil
	if j.size += int64(n); j.size > 2*j.base+slack {
		j.rewriteLocked()
	}
	return nil
}

func (j *journal) write(text []byte) (int, error) {
	n, err := unix.Write(j.fd, text)
	return max(n, 0), err
}

// rewriteLocked replaces the journal by one that says only what still matters.
// If it cannot, the journal goes on growing, and tries again when it is twice as
// long.
func (j *journal) rewriteLocked() {
	text, err := j.textLocked()
	if err == nil {
		err = j.replaceLocked(text)
	}
	if err != nil {
		j.base = j.size
	}
}

// textLocked is the shortest journal that says what this one does.
func (j *journal) textLocked() ([]byte, error) {
	var text []byte
	for _, rec := range j.live {
		line, err := rec.line()
		if err != nil {
			return nil, err
		}
		text = append(text, line...)
		if rec.ended == nil {
			continue
		}
		if line, err = endLine(rec.ended); err != nil {
			return nil, err
		}
		text = append(text, line...)
	}
	return text, nil
}

// replaceLocked puts text in the place of the journal. After an error the
// journal is what it was.
func (j *journal) replaceLocked(text []byte) error {
	next := j.path + ".next"
	err := os.WriteFile(next, text, 0o600)
	if err == nil {
		err = os.Rename(next, j.path)
	}
	if err != nil {
		_ = os.Remove(next) // half a file takes the room that there is
		return err
	}
	return j.openLocked(int64(len(text)))
}

// openLocked opens the file, of which size bytes are whole lines.
func (j *journal) openLocked(size int64) error {
	fd, err := unix.Open(j.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: j.path, Err: err}
	}
	// What is behind the last line would stand before the next one.
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return &os.PathError{Op: "truncate", Path: j.path, Err: err}
	}
	// Without it, the disk being full or of a kind that cannot, it works as well.
	_ = unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, size+journalReserve)
	if j.fd >= 0 {
		unix.Close(j.fd)
	}
	j.fd, j.size, j.base = fd, size, size
	return nil
}

// checkID says whether an ID is one: it goes into names of files and cgroups.
func checkID(id string) error {
	if id == "" || len(id) > 255 || id[0] == '.' || strings.ContainsAny(id, "/\x00\n") {
		return fmt.Errorf("supervisor: %q cannot be a container's ID", id)
	}
	return nil
}
