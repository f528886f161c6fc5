package crilog

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// findTail finds where the last n lines of a sequence of files begin. It reads
// them backwards, and no more of them than it needs.
func findTail(paths []string, n int64) (file int, offset int64, err error) {
	for file = len(paths) - 1; ; file-- {
		var found int64
		offset, found, err = tailOffset(paths[file], n)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, 0, err
		}
		if n -= found; n == 0 || file == 0 {
			return file, offset, nil
		}
	}
}

// tailOffset finds where the last n lines of a file begin, and how many of
// them there are.
func tailOffset(path string, n int64) (offset, found int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 32<<10)
	// Going backwards, the newline before the n last ones ends the line before.
	newlines := int64(0)
	last := end
	for end > 0 {
		start := max(end-int64(len(buf)), 0)
		block := buf[:end-start]
		if _, err := f.ReadAt(block, start); err != nil {
			return 0, 0, err
		}
		for i := len(block) - 1; i >= 0; i-- {
			if block[i] != '\n' {
				continue
			}
			if newlines == n {
				return start + int64(i) + 1, n, nil
			}
			newlines++
		}
		end = start
	}
	if n == 0 {
		return last, 0, nil
	}
	return 0, newlines, nil
}
