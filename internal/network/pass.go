package network

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A pod may have thousands of connections on which nothing is said, or to somebody who does not listen.
// Such a one costs its two sockets and nothing else: no pipes, as splice(2) has them, and a buffer only
// while data is being moved. Nobody waits with one.

const maxPacket = 64 << 10

type buffer [maxPacket]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// loan is a buffer, or none.
type loan struct{ *buffer }

func (l *loan) take() { l.buffer = buffers.Get().(*buffer) }

func (l *loan) back() {
	if l.buffer != nil {
		buffers.Put(l.buffer)
		l.buffer = nil
	}
}

// way is one direction between two sockets.
type way struct{ to, from syscall.RawConn }

func newWay(to, from syscall.Conn) (w way, err error) {
	if w.to, err = to.SyscallConn(); err == nil {
		w.from, err = from.SyscallConn()
	}
	return w, err
}

// pass copies all that comes from one side to the other, and its end.
func pass(to, from *net.TCPConn) {
	w, err := newWay(to, from)
	for err == nil {
		err = w.some()
	}
	if err != io.EOF {
		reset(to)
		reset(from)
		return
	}
	_ = to.CloseWrite()
}

// some waits for a part of a stream, and passes on as much of it as is taken. The rest stays where it is.
func (w way) some() error {
	var l loan
	defer l.back()
	n, err := w.receive(&l, unix.MSG_PEEK)
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	sent, err := w.send(&l, n)
	if err != nil || sent == 0 {
		return err
	}
	var failed error
	err = w.from.Read(func(fd uintptr) bool {
		_, failed = receive(fd, l.buffer[:sent], unix.MSG_TRUNC) // without being copied again
		return true
	})
	return errors.Join(err, failed)
}

// packet passes on one packet. It is lost if it is not taken at once, as packets may be.
func (w way) packet() error {
	var l loan
	defer l.back()
	n, err := w.receive(&l, 0)
	if err != nil {
		return err
	}
	_ = w.to.Write(func(fd uintptr) bool {
		_, _ = write(fd, l.buffer[:n])
		return true
	})
	return nil
}

// receive waits until something is there, and then has it in a buffer.
func (w way) receive(l *loan, flags int) (n int, err error) {
	var failed error
	err = w.from.Read(func(fd uintptr) bool {
		l.take()
		n, failed = receive(fd, l.buffer[:], flags)
		if failed == unix.EAGAIN {
			l.back()
			return false
		}
		return true
	})
	return n, errors.Join(err, failed)
}

// send sends as much of the buffer as is taken. If that is nothing, it gives the buffer back, and waits
// until the other side takes more.
func (w way) send(l *loan, n int) (sent int, err error) {
	var failed error
	err = w.to.Write(func(fd uintptr) bool {
		if l.buffer == nil {
			return true
		}
		sent, failed = write(fd, l.buffer[:n])
		if failed == unix.EAGAIN {
			sent, failed = 0, nil
			l.back()
			return false
		}
		return true
	})
	return sent, errors.Join(err, failed)
}

func receive(fd uintptr, b []byte, flags int) (n int, err error) {
	for {
		if n, _, err = unix.Recvfrom(int(fd), b, flags); err != unix.EINTR {
			return n, err
		}
	}
}

func write(fd uintptr, b []byte) (n int, err error) {
	for {
		if n, err = unix.Write(int(fd), b); err != unix.EINTR {
			return n, err
		}
	}
}
