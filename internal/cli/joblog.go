package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/board"
	"github.com/sampan-batch/sampan/internal/report"
)

// joblog is the file of --joblog: a line for each pod that has ended. It is written as it
// happens, each line whole, and never over what is there: a run that is resumed goes on
// behind the lines of the ones before, and gives no pod a second one.
type joblog struct {
	file    *os.File
	regular bool
	size    int64 // up to where its lines are whole, of a regular file
	// namespace is the one whose Jobs are named without it.
	namespace string
	seq       int                         // of the last line
	known     map[report.JoblogEntry]bool // pods that have a line; their Seq is 0
	failed    error                       // the first
}

// openJoblog opens a log of jobs, or makes it.
func openJoblog(path, namespace string) (*joblog, error) {
	l := &joblog{namespace: namespace, known: map[report.JoblogEntry]bool{}}
	info, err := os.Stat(path)
	l.regular = err != nil || info.Mode().IsRegular()
	mode := os.O_WRONLY
	if l.regular {
		mode = os.O_RDWR
	}
	if l.file, err = os.OpenFile(path, mode|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	if err := l.prepare(); err != nil {
		l.file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// prepare takes the file for this run, reads what is there, and begins where nothing is.
func (l *joblog) prepare() error {
	if l.regular {
		if err := unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			return errors.New("another run writes to it")
		}
		if err := l.read(); err != nil {
			return err
		}
	}
	if l.size > 0 {
		return nil
	}
	return l.write(report.JoblogHead + "\n")
}

// read takes note of the lines that are there, and cuts off one that is not whole.
func (l *joblog) read() error {
	in := bufio.NewReader(l.file)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return l.cut(n, line)
		}
		if err != nil {
			return err
		}
		l.size += int64(len(line))
		text := string(bytes.TrimSuffix(line, []byte("\n")))
		if n == 1 {
			if text != report.JoblogHead {
				return fmt.Errorf("it is there, and is no log of jobs: its first line is not %q", strings.ReplaceAll(report.JoblogHead, "\t", " "))
			}
			continue
		}
		entry, err := report.ParseJoblogLine(text)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		l.seq = max(l.seq, entry.Seq)
		entry.Seq = 0
		l.known[entry] = true
	}
}

// cut cuts off what a run that was killed has written of line n.
func (l *joblog) cut(n int, torn []byte) error {
	if n == 1 && !strings.HasPrefix(report.JoblogHead, string(torn)) {
		return errors.New("it is there, and is no log of jobs")
	}
	if len(torn) == 0 {
		return nil
	}
	return l.file.Truncate(l.size)
}

// add adds a line for a pod, unless it has one.
func (l *joblog) add(p *board.PodResult) {
	namespace, job := p.Work()
	if namespace != l.namespace {
		job = namespace + "/" + job
	}
	key := report.JoblogEntry{Host: p.Name, Job: job}
	if l.known[key] {
		return
	}
	l.known[key] = true
	if err := l.write(report.JoblogLine(l.seq+1, job, p) + "\n"); err != nil {
		if l.failed == nil {
			l.failed = err
		}
		return
	}
	l.seq++
}

// write writes a line, whole or not at all.
func (l *joblog) write(line string) error {
	n, err := l.file.WriteString(line)
	if err != nil {
		if n > 0 && l.regular {
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return err
	}
	l.size += int64(n)
	return nil
}

// close closes the file, and returns why not all is in it.
func (l *joblog) close() error {
	if err := l.file.Close(); l.failed == nil {
		return err
	}
	return l.failed
}
