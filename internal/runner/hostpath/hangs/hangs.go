// Package hangs is for tests: a file system that does not answer, as that of a
// network server which is down.
package hangs

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// What is used of the kernel's FUSE protocol.
const (
	opInit    = 26
	headerIn  = 40 // bytes of struct fuse_in_header
	headerOut = 16 // and of fuse_out_header
	initOut   = 64 // and of fuse_init_out, since version 7.23
)

// Mount mounts a file system on the directory dir that takes every request and
// answers none but the first, by which it comes to be. Whoever waits for it cannot
// be killed. It ends when release is called, or with this process: then all who
// wait go on, with an error. It needs /dev/fuse, and to be root, if only in a user
// namespace.
func Mount(dir string) (release func(), err error) {
	// The descriptor must not be in the runtime's poller: all that use it would
	// wait for it in a system call anyway.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("hangs", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(fd)
		return nil, &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	begun := make(chan error, 1)
	go serve(fd, begun)
	if err := <-begun; err != nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		return nil, err
	}
	return func() {
		// Ends all that wait, and with them serve.
		_ = unix.Unmount(dir, unix.MNT_FORCE)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}, nil
}

// serve reads requests until the file system is gone.
func serve(fd int, begun chan<- error) {
	defer unix.Close(fd)
	request := make([]byte, 1<<20)
	for first := true; ; first = false {
		n, err := unix.Read(fd, request)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN || err == unix.ENOENT:
			continue
		case err != nil:
			if first {
				begun <- os.NewSyscallError("read", err)
			}
			return
		case !first:
			continue
		case n < headerIn || binary.NativeEndian.Uint32(request[4:]) != opInit:
			begun <- fmt.Errorf("hangs: a request of %d bytes instead of the first", n)
			return
		}
		_, err = unix.Write(fd, welcome(request[8:16]))
		begun <- err
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
