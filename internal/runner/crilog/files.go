package crilog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rotationTime is the form of the suffix of a rotated file; names sort as they
// were made.
const rotationTime = "20060102-150405.000000000"

// Rotated returns the paths of the kept rotated files of the log at path,
// oldest first.
func Rotated(path string) ([]string, error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), base+".")
		if !ok {
			continue
		}
		if _, err := time.Parse(rotationTime, strings.TrimRight(suffix, "+")); err == nil {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(files)
	return files, nil
}

// Remove removes the log at path with its rotated files.
func Remove(path string) error {
	old, err := Rotated(path)
	for _, file := range append(old, path) {
		if rmErr := os.Remove(file); !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}
	return err
}

// stamper formats times as 2006-01-02T15:04:05.000000000Z; the part that
// changes once a second is formatted once a second.
type stamper struct {
	second int64
	text   [len(stampLayout)]byte
}

const stampLayout = "2006-01-02T15:04:05.000000000Z"

func (s *stamper) set(t time.Time) {
	if sec := t.Unix(); sec != s.second || s.text[0] == 0 {
		s.second = sec
		t.UTC().AppendFormat(s.text[:0], stampLayout)
	}
	ns := t.Nanosecond()
	for i := len(stampLayout) - 2; i >= len(stampLayout)-10; i-- {
		s.text[i] = byte('0' + ns%10)
		ns /= 10
	}
}

// fdPath is a path that leads to an open file, even one that was renamed.
func fdPath(f *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
}
