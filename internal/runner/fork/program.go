package fork

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Step is one system call of the child.
type Step struct {
	call
	// Name says what the step does, for the error message: "mount /proc".
	Name string
}

// call is the part of a step that the child reads and writes. The assembly
// knows its layout and size.
type call struct {
	nr       uintptr
	args     [6]uintptr
	save     uintptr // where to store the result, or 0
	skip     uintptr // bytes to skip after success
	tolerate uint64  // bit n: go on after errno n (63 stands for all above)
	positive uintptr // what a positive result means: one of the constants below
	errno    uintptr // written by the child
}

// What a positive result means. The assembly knows these numbers.
const (
	isFine    = 0
	isFailure = 1
	isParent  = 2 // the step was a clone, and this is the parent: go to the end
)

// Call makes a step. Arguments that are addresses are those of memory that the
// program that the step is added to has: see Program.String and its sisters.
// Arguments that are descriptors are numbers that Program.Inherit returned.
func Call(name string, nr uintptr, args ...uintptr) Step {
	s := Step{Name: name}
	s.nr = nr
	copy(s.args[:], args)
	return s
}

// Tolerate lets the program go on when the call fails with one of these errors.
func (s Step) Tolerate(errs ...syscall.Errno) Step {
	for _, e := range errs {
		s.tolerate |= 1 << min(uint(e), 63)
	}
	return s
}

// TolerateAll lets the program go on whatever the call returns.
func (s Step) TolerateAll() Step {
	s.tolerate = ^uint64(0)
	return s
}

// TolerateAllBut is TolerateAll with an exception.
func (s Step) TolerateAllBut(e syscall.Errno) Step {
	s.tolerate = ^(uint64(1) << min(uint(e), 63))
	return s
}

// SkipAfter skips the next n steps when the call succeeds: they are what to do
// when it fails with a tolerated error.
func (s Step) SkipAfter(n int) Step {
	s.skip = uintptr(n) * unsafe.Sizeof(s.call)
	return s
}

// MustBeZero makes a positive result a failure (EOWNERDEAD).
func (s Step) MustBeZero() Step {
	s.positive = isFailure
	return s
}

// Where the parts of a program lie in the child's memory. Steps end at the
// header, the memory that they refer to begins behind it:
//
//	codeBase    the machine code of the interpreter
//	…           steps
//	headerBase  header
//	memoryBase  the note, then strings and other arguments, in the order in which they were added
const (
	codeBase   = 0x10000000
	dataBase   = 0x20000000
	memoryBase = dataBase + 1<<20
	headerBase = memoryBase - unsafe.Sizeof(header{})
	maxSteps   = int((headerBase - dataBase) / unsafe.Sizeof(call{}))
	endSteps   = 2 // that link adds
)

// Status is the descriptor that a child has besides what its program passes
// on: the way to tell its parent how it fares. It is closed by the execve, which
// is how the parent knows of that.
const Status = 3

// FirstInherited is the smallest number of a descriptor that a child inherits.
// Those between Status and it are the program's own, to give to what it opens.
const FirstInherited = 16

// Program is a list of steps and the memory that they refer to. It is for one
// start; it is not safe for concurrent use.
type Program struct {
	calls  []call
	names  []string
	memory []byte
	files  []int // descriptors that the child inherits
	copies []int // those of them that are ours to close
	saves  []save
	noted  []byte // what a child that failed has left in its note
	// splits counts how often the process goes on as another.
	splits int
}

// save is a result that becomes an argument of a later step, or goes to an
// address.
type save struct {
	from, to, arg int
	address       uintptr
}

// NewProgram returns an empty program.
func NewProgram() *Program {
	p := &Program{calls: make([]call, 0, 192), names: make([]string, 0, 192), memory: make([]byte, NoteSize, 16<<10)}
	p.Add(Call("mark the way to the parent", unix.SYS_FCNTL, Status, unix.F_SETFD, unix.FD_CLOEXEC))
	return p
}

// Inherit lets the child have a descriptor of this process, and returns its
// number there. The child closes what its command shall not have.
func (p *Program) Inherit(fd int) (uintptr, error) {
	if fd < FirstInherited {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, FirstInherited)
		if err != nil {
			return 0, fmt.Errorf("fork: duplicate descriptor %d: %w", fd, err)
		}
		fd = dup
		p.copies = append(p.copies, dup)
	}
	for _, other := range p.files {
		if other == fd {
			return uintptr(fd), nil
		}
	}
	p.files = append(p.files, fd)
	return uintptr(fd), nil
}

// Close gives back what a program holds that was not, or has been, started.
func (p *Program) Close() {
	for _, fd := range p.copies {
		_ = unix.Close(fd)
	}
	p.copies = nil
}

// Split makes the child go on as a child of its own, whose parent is ours as
// well. It is for a child that has joined a pid namespace: only its children
// are born in it.
//
// The new process gets a copy of the memory, not the memory: whoever can trace it
// where it appears must not reach the one that it came from, which is elsewhere,
// and may have more rights. That one ends at once.
func (p *Program) Split() {
	p.split(Call("clone", unix.SYS_CLONE, unix.CLONE_PARENT, 0))
}

// split adds the clone, and lets the new process say at once who it is.
func (p *Program) split(clone Step) {
	clone.positive = isParent
	p.Add(clone, Call("greet the parent", unix.SYS_WRITE, Status, p.String(born), 1))
	p.splits++
}

// SplitInto is Split for a child that is to be born in a control group of version
// 2, of which cgroup is the open directory, and with further CLONE_NEW… flags.
// A process that shared our memory must not be born there: when the group's
// memory is used up, the kernel may kill whoever shares memory with any process
// in it.
func (p *Program) SplitInto(cgroup int, flags uint64) error {
	fd, err := p.Inherit(cgroup)
	if err != nil {
		return err
	}
	args := cloneArgs{flags: flags | unix.CLONE_PARENT | unix.CLONE_INTO_CGROUP, cgroup: uint64(fd)}
	p.split(Call("clone", unix.SYS_CLONE3, Place(p, args), unsafe.Sizeof(args)))
	return nil
}

// MindParent ends the process here if the parent is not there any more. It
// stands behind the step that sets the parent-death signal, which says nothing
// about a parent that has died before.
func (p *Program) MindParent() {
	closed := Place(p, unix.PollFd{Fd: Status, Events: unix.POLLRDHUP})
	p.Add(Call("look for the parent", unix.SYS_PPOLL, closed, 1, p.Space(int(unsafe.Sizeof(unix.Timespec{}))), 0, 0).MustBeZero())
}

// born is what a process says that a Split has made: the kernel adds which one
// it is.
const born = "."

// Len returns the number of steps so far, which is the index of the next one.
func (p *Program) Len() int { return len(p.calls) }

// Room returns how many more steps a program may have.
func (p *Program) Room() int { return maxSteps - endSteps - len(p.calls) }

// Add appends steps.
func (p *Program) Add(steps ...Step) {
	for _, s := range steps {
		p.calls = append(p.calls, s.call)
		p.names = append(p.names, s.Name)
	}
}

// Pass makes the result of step from the argument arg of the later step to. A
// result can be passed once.
func (p *Program) Pass(from, to, arg int) {
	for _, s := range p.saves {
		if s.from == from {
			panic("fork: the result of a step is passed twice")
		}
	}
	p.saves = append(p.saves, save{from: from, to: to, arg: arg})
}

// PassTo makes the result of step from eight bytes of the child's memory.
func (p *Program) PassTo(from int, address uintptr) {
	p.saves = append(p.saves, save{from: from, address: address})
}

// NoteSize is how much of a note fits into a report: what the kernel reads of a file to
// find out how to execute it.
const NoteSize = 256

// Note is the address of NoteSize zero bytes of the child's memory. A child that fails reports
// what its steps have left there.
func (p *Program) Note() uintptr { return memoryBase }

// Noted returns the note of a child that has failed.
func (p *Program) Noted() []byte { return p.noted }

// wordSize is how memory is aligned.
const wordSize = 8

// Bytes puts a copy of b into the child's memory and returns its address there.
func (p *Program) Bytes(b []byte) uintptr {
	for len(p.memory)%wordSize != 0 {
		p.memory = append(p.memory, 0)
	}
	at := memoryBase + uintptr(len(p.memory))
	p.memory = append(p.memory, b...)
	return at
}

// Space puts n zero bytes into the child's memory and returns their address.
func (p *Program) Space(n int) uintptr { return p.Bytes(make([]byte, n)) }

// Place puts a copy of a value, which must not contain Go pointers, into the
// child's memory and returns its address there.
func Place[T any](p *Program, v T) uintptr {
	return p.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)))
}

// PlaceAll is Place for the elements of a slice; nil has the address 0.
func PlaceAll[T any](p *Program, v []T) uintptr {
	if len(v) == 0 {
		return 0
	}
	return p.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), uintptr(len(v))*unsafe.Sizeof(v[0])))
}

// String returns the child's address of s as a C string. What follows a NUL byte
// is not seen by the kernel; callers check input of strangers before.
func (p *Program) String(s string) uintptr {
	at := memoryBase + uintptr(len(p.memory))
	p.memory = append(append(p.memory, s...), 0)
	return at
}

// Strings returns the address of a NULL-terminated vector of C strings.
func (p *Program) Strings(list []string) uintptr {
	v := make([]uintptr, len(list)+1)
	for i, s := range list {
		v[i] = p.String(s)
	}
	return PlaceAll(p, v)
}

// Errno returns the error of a step, 0 if it succeeded or was not reached. It
// is known when the program has failed, for the last reportSteps steps.
func (p *Program) Errno(step int) syscall.Errno { return syscall.Errno(p.calls[step].errno) }

// noSuchCall fails on every kernel.
const noSuchCall = 0xfffff

// address is where a step lies in the child's memory.
func (p *Program) address(step int) uintptr {
	return headerBase - uintptr(len(p.calls)-step)*unsafe.Sizeof(call{})
}

// link closes the program with a step that ends the child, should no execve
// have replaced it, and resolves what could not be known before.
func (p *Program) link() (header, error) {
	p.Add(Call("end of program", noSuchCall), Call("end of the first child", unix.SYS_EXIT_GROUP, 0))
	n := len(p.calls)
	if n > maxSteps {
		return header{}, fmt.Errorf("fork: a program of %d steps; there is room for %d", n, maxSteps)
	}
	for _, s := range p.saves {
		if s.address != 0 {
			p.calls[s.from].save = s.address
			continue
		}
		p.calls[s.from].save = p.address(s.to) + unsafe.Offsetof(call{}.args) + uintptr(s.arg)*wordSize
	}
	reported := min(n, reportSteps)
	return header{
		first: p.address(0), last: p.address(n - 1), status: Status,
		report: p.address(n - reported), size: uintptr(reported)*unsafe.Sizeof(call{}) + unsafe.Sizeof(header{}) + NoteSize,
	}, nil
}

// failed reads a child's report: the last steps, the header and the note.
func (p *Program) failed(report []byte) *StepError {
	const size = int(unsafe.Sizeof(header{}))
	reported := min(len(p.calls), reportSteps)
	if len(report) != reported*int(unsafe.Sizeof(call{}))+size+NoteSize {
		return &StepError{Name: "report", Errno: unix.EBADMSG}
	}
	report, p.noted = report[:len(report)-NoteSize], report[len(report)-NoteSize:]
	var head header
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&head)), size), report[len(report)-size:])
	first := len(p.calls) - reported
	for i := first; i < len(p.calls); i++ {
		at := (i-first)*int(unsafe.Sizeof(call{})) + int(unsafe.Offsetof(call{}.errno))
		p.calls[i].errno = *(*uintptr)(unsafe.Pointer(&report[at]))
	}
	i := (int(head.failed) - int(p.address(0))) / int(unsafe.Sizeof(call{}))
	if i < 0 || i >= len(p.calls) {
		return &StepError{Name: "report", Errno: unix.EBADMSG}
	}
	return &StepError{Index: i, Name: p.names[i], Errno: syscall.Errno(head.errno)}
}

// StepError says which step of a program failed.
type StepError struct {
	Index int
	Name  string
	Errno syscall.Errno
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Errno) }

// Unwrap returns the error number, for errors.Is.
func (e *StepError) Unwrap() error { return e.Errno }

// OutOfFiles reports whether a start failed as this process, or the machine, can have no more files open:
// that is no fault of what was to start.
func OutOfFiles(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }
