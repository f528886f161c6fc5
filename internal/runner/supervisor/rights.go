package supervisor

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// maxFiles is how many descriptors a frame may bring.
const maxFiles = 3

// sendWith sends a frame that brings descriptors. They stay the caller's, which may
// close them when it has returned.
func sendWith(conn *net.UnixConn, v verb, body any, files ...*os.File) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	if len(text) > maxFrame-frameHeader {
		return fmt.Errorf("supervisor: a message of %d bytes is too long", len(text))
	}
	head := binary.BigEndian.AppendUint32(make([]byte, 0, frameHeader), uint32(len(text)+frameHeader-4))
	head = append(binary.BigEndian.AppendUint64(head, 0), byte(v))
	fds := make([]int, len(files))
	return withFDs(files, fds, func() error {
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		// What is short is sent at once; descriptors ride on the first byte.
		first := head
		if len(text) < 4<<10 {
			first, text = append(head, text...), nil
		}
		n, _, err := conn.WriteMsgUnix(first, rights, nil)
		if err == nil && n < len(first) {
			_, err = conn.Write(first[n:])
		}
		if err == nil && len(text) > 0 {
			_, err = conn.Write(text)
		}
		return err
	})
}

// withFDs calls f while the files' descriptors are in fds, and cannot be closed.
// Unlike os.File.Fd it leaves the files in the poller.
func withFDs(files []*os.File, fds []int, f func() error) error {
	if len(files) == 0 {
		return f()
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) {
		fds[0] = int(fd)
		done = withFDs(files[1:], fds[1:], f)
	})
	return errors.Join(err, done)
}

// receive reads one frame and the descriptors that it brings, which are the
// caller's. It reads nothing that comes behind the frame.
func receive(conn *net.UnixConn) (f frame, files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeFiles(files)
			files = nil
		}
	}()
	var head [frameHeader]byte
	rights := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, got, flags, _, err := conn.ReadMsgUnix(head[:], rights)
	if files = filesOf(rights[:got]); err != nil {
		return f, files, err
	}
	if n == 0 {
		return f, files, io.EOF
	}
	if flags&unix.MSG_CTRUNC != 0 || len(files) > maxFiles {
		return f, files, fmt.Errorf("supervisor: a frame with more than %d descriptors", maxFiles)
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return f, files, err
	}
	f, err = readBody(conn, head)
	return f, files, err
}

// filesOf takes descriptors out of a control message.
func filesOf(rights []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		closeFile(f)
	}
}
