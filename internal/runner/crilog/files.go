package crilog

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rotationTime is the form of the time in the name of a rotated file.
const rotationTime = "20060102-150405.000000000"

// rotatedFile is a kept file of a log. Its name is PATH.<time>.<end>: when it was
// rotated, and where in the whole log it ends, in bytes. From that a reader knows
// whether anything is missing between two files.
type rotatedFile struct {
	path string
	time string // it may end with "+", in names of former versions
	end  int64  // unknown in names of former versions, which have none
}

// unknown is a position in a log that cannot be told.
const unknown = -1

// rotatedName is the name of the file that is rotated at a time, after others.
// Names sort as they were made, even if the clock stands still or goes back.
func rotatedName(path string, old []rotatedFile, now time.Time, end int64) string {
	at := now.UTC().Format(rotationTime)
	if len(old) > 0 {
		at = max(at, old[len(old)-1].time)
	}
	return path + "." + at + "." + strconv.FormatInt(end, 10)
}

func parseRotated(path, suffix string) (f rotatedFile, ok bool) {
	f = rotatedFile{path: path, time: suffix, end: unknown}
	isTime := func(s string) bool {
		_, err := time.Parse(rotationTime, strings.TrimRight(s, "+"))
		return err == nil
	}
	if isTime(suffix) {
		return f, true
	}
	i := strings.LastIndexByte(suffix, '.')
	if i < 0 || !isTime(suffix[:i]) {
		return f, false
	}
	end, err := strconv.ParseInt(suffix[i+1:], 10, 64)
	if err != nil || end < 0 {
		return f, false
	}
	f.time, f.end = suffix[:i], end
	return f, true
}

// Rotated returns the paths of the kept rotated files of the log at path,
// oldest first.
func Rotated(path string) ([]string, error) {
	files, err := rotated(path)
	var paths []string
	for _, f := range files {
		paths = append(paths, f.path)
	}
	return paths, err
}

func rotated(path string) ([]rotatedFile, error) {
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
	var files []rotatedFile
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), base+".")
		if !ok {
			continue
		}
		if f, ok := parseRotated(filepath.Join(dir, e.Name()), suffix); ok {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b rotatedFile) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.end, b.end))
	})
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

// fdPath is a path that leads to an open file, even one that was renamed.
func fdPath(f *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
}
