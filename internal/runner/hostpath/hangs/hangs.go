// Package hangs is for tests: a file system that does not answer, as that of a
// network server which is down.
package hangs

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// What is used of the kernel's FUSE protocol.
const (
	opForget    = 2
	opInit      = 26
	opInterrupt = 36

	headerIn  = 40 // bytes of struct fuse_in_header
	headerOut = 16 // and of fuse_out_header
	initOut   = 64 // and of fuse_init_out, since version 7.23
)

// FS is a file system that takes every request and answers none but the first,
// by which it comes to be. Who waits for it cannot be killed. It ends with
// Release, or with this process: then all who wait go on, with an error.
type FS struct {
	dir     string
	waiting atomic.Int64
}

// Mount mounts one on the directory dir. That needs /dev/fuse, and root, if only in
// a user namespace.
func Mount(dir string) (*FS, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("hangs", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(fd)
		return nil, &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	f, begun := &FS{dir: dir}, make(chan error, 1)
	go f.serve(fd, begun)
	if err := <-begun; err != nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		return nil, err
	}
	return f, nil
}

// Waiting is how many have asked for something.
func (f *FS) Waiting() int { return int(f.waiting.Load()) }

// Release ends the file system, once.
func (f *FS) Release() {
	_ = unix.Unmount(f.dir, unix.MNT_FORCE) // ends all that wait, and with them serve
	_ = unix.Unmount(f.dir, unix.MNT_DETACH)
}

// serve reads requests until the file system is gone. Its thread is in a system
// call for as long.
func (f *FS) serve(fd int, begun chan<- error) {
	defer unix.Close(fd)
	request := make([]byte, 1<<20)
	for first := true; ; {
		n, err := unix.Read(fd, request)
		if err == unix.EINTR || err == unix.EAGAIN || err == unix.ENOENT {
			continue
		}
		if err == nil && n < headerIn {
			err = unix.EBADMSG
		}
		if err != nil {
			if first {
				begun <- os.NewSyscallError("read", err)
			}
			return
		}
		switch op := binary.NativeEndian.Uint32(request[4:]); {
		case first && op == opInit:
			_, err = unix.Write(fd, welcome(request[8:16]))
			begun <- err
			first = false
		case op != opForget && op != opInterrupt:
			f.waiting.Add(1)
		}
	}
}

// welcome answers the first request: version 7.31, and nothing special.
func welcome(unique []byte) []byte {
	b := make([]byte, headerOut+initOut)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	copy(b[8:], unique)
	out := b[headerOut:]
	binary.NativeEndian.PutUint32(out, 7)
	binary.NativeEndian.PutUint32(out[4:], 31)
	binary.NativeEndian.PutUint32(out[20:], 4096) // the largest write
	return b
}
