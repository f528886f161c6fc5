// Package disk has what several rooms do with files that have to be there whole:
// replacing one, making names durable, telling a full disk from other errors.
package disk

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Replace writes a file whole or not at all, readable by its owner only. After a
// power cut it may be empty.
func Replace(path string, data []byte) error { return replace(path, data, false) }

// ReplaceDurably is Replace for what has to be whole after a power cut, too.
func ReplaceDurably(path string, data []byte) error { return replace(path, data, true) }

func replace(path string, data []byte, durably bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(data)
	if err == nil && durably {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// SyncDir makes durable which names a directory has.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// NoRoom tells whether an error says that the disk is full, or the user's part of it.
func NoRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
