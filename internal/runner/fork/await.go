package fork

import (
	"errors"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// past is a deadline that makes a read return at once.
var past = time.Unix(1, 0)

// answer is what a child has told so far.
type answer struct {
	pid       int // the process that executes the command; 0 until known
	greetings int
	failure   *StepError
	over      bool // the child has no way to say more: it has executed, or ended
}

// maxReport is the size of the largest report.
const maxReport = reportSteps*int(unsafe.Sizeof(call{})) + int(unsafe.Sizeof(header{})) + NoteSize

// read takes the child's next message. Short ones, which all but failing
// children send, need no large buffer: a longer message is looked at before it
// is taken.
func (a *answer) read(c *Child) error {
	raw, err := c.status.SyscallConn()
	if err != nil {
		return err
	}
	var small [8]byte
	var oob [64]byte
	control := oob[:0]
	if c.program.splits > 0 {
		control = oob[:unix.CmsgSpace(unix.SizeofUcred)]
	}
	var n, oobn int
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, readErr = unix.Recvmsg(int(fd), small[:], control, unix.MSG_PEEK|unix.MSG_TRUNC)
		return readErr != unix.EAGAIN && readErr != unix.EINTR
	})
	if err == nil && readErr != nil && readErr != unix.ECONNRESET {
		err = os.NewSyscallError("recvmsg", readErr)
	}
	switch {
	case err != nil:
		return err
	case n <= 0 || readErr != nil:
		a.over = true
		return nil
	}
	whole := make([]byte, min(n, maxReport))
	_ = raw.Control(func(fd uintptr) { _, _, readErr = unix.Recvfrom(int(fd), whole, 0) })
	if readErr != nil {
		return os.NewSyscallError("recvfrom", readErr)
	}
	if n > 1 {
		a.failure, a.over = c.program.failed(whole), true
		return nil
	}
	return a.says(sender(control[:oobn]), c.program.splits)
}

// says takes a greeting: each process that a split has made sends one.
func (a *answer) says(pid, splits int) error {
	if pid == 0 || a.greetings == splits {
		return errForged
	}
	a.greetings++
	a.pid = pid
	return nil
}

// errForged: two processes claim to be the child. One that has joined others in a
// pid namespace may be traced by them.
var errForged = errors.New("somebody else speaks for the child")

// sender is the process that sent a message, by the kernel's word.
func sender(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return 0
	}
	cred, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}
