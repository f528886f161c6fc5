package engine

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/disk"
)

// writePrivate replaces a file that only its owner may read. One that says the
// same already stays; on a full disk, one that is long enough is written over,
// so that an engine starts there whose address has changed.
func writePrivate(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		if own, err := overwrite(path, nil); own || err != nil {
			return err
		}
	}
	err := disk.Replace(path, data)
	if !disk.NoRoom(err) {
		return err
	}
	if own, overErr := overwrite(path, data); own && overErr == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: make room on its file system, or name a file on another", path, err)
}

// overwrite makes a file the user's alone and writes data, if there is any, over
// what it says, within the blocks that it has. own is false, and nothing is done,
// when the file is not one that only this user has a name for.
func overwrite(path string, data []byte) (own bool, err error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, nil
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || int(st.Uid) != os.Geteuid() {
		return false, nil
	}
	if st.Mode&0o7777 != 0o600 {
		if err := f.Chmod(0o600); err != nil {
			return true, err
		}
	}
	if len(data) == 0 {
		return true, nil
	}
	if int64(len(data)) > st.Blocks*512 {
		return true, unix.ENOSPC
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return true, err
	}
	return true, f.Truncate(int64(len(data)))
}
