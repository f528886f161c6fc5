package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// spoolMemory is how much of a log is held back in memory, and spoolFile how much in
	// each of two files: of a log that is longer the end is kept, as a node keeps it.
	spoolMemory = 16 << 10
	spoolFile   = 32 << 20
)

// spool is a log that is held back: a little of it in memory, more in files without a
// name. The zero value is empty. It is not safe for concurrent use.
type spool struct {
	old, file *os.File
	oldSize   int64
	size      int64 // of file
	mem       []byte
	lost      int64
}

// Write never fails: what there is no room for is lost, and counted.
func (s *spool) Write(p []byte) (int, error) {
	if len(s.mem)+len(p) > spoolMemory {
		s.flush()
	}
	if len(p) > spoolMemory {
		s.toFile(p)
	} else {
		s.mem = append(s.mem, p...)
	}
	return len(p), nil
}

// flush moves what is in memory to the file.
func (s *spool) flush() {
	s.toFile(s.mem)
	s.mem = s.mem[:0]
}

func (s *spool) toFile(p []byte) {
	if s.file != nil && s.size+int64(len(p)) > spoolFile {
		if s.old != nil {
			s.lost += s.oldSize
			s.old.Close()
		}
		s.old, s.oldSize, s.file, s.size = s.file, s.size, nil, 0
	}
	if s.file == nil {
		f, err := unnamed()
		if err != nil {
			s.lost += int64(len(p))
			return
		}
		s.file = f
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	if err != nil {
		s.lost += int64(len(p) - n)
	}
}

// unnamed makes a file that goes with its descriptor.
func unnamed() (*os.File, error) {
	f, err := os.CreateTemp("", "sampan-log-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lines hands over all that was written, line by line, and empties the spool.
func (s *spool) lines(take func(line string)) error {
	defer s.close()
	if s.lost > 0 {
		take(fmt.Sprintf("… %d bytes of this log are left out", s.lost))
	}
	var parts []io.Reader
	for _, f := range []*os.File{s.old, s.file} {
		if f == nil {
			continue
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		parts = append(parts, f)
	}
	in := bufio.NewReader(io.MultiReader(append(parts, bytes.NewReader(s.mem))...))
	for {
		line, whole, err := readLine(in)
		if len(line) > 0 || whole {
			take(string(line))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// close gives up what is held back.
func (s *spool) close() {
	for _, f := range []*os.File{s.old, s.file} {
		if f != nil {
			f.Close()
		}
	}
	*s = spool{}
}
