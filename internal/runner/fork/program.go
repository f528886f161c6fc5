package fork

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Step is one system call of the child.
type Step struct {
	call
	// Name says what the step does, for the error message: "mount /proc".
	Name string
}

// call is the part of a step that the child reads and writes. The assembly
// knows its layout and, through step's size, the distance to the next one.
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

// Call makes a step. Arguments that are addresses must be kept alive by the
// program that the step is added to: see Program.String and Program.Keep.
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

// SkipAfter skips the next n steps when the call succeeds: they are what to do
// when it fails with a tolerated error.
func (s Step) SkipAfter(n int) Step {
	s.skip = uintptr(n) * unsafe.Sizeof(s)
	return s
}

// MustBeZero makes a positive result a failure (EOWNERDEAD).
func (s Step) MustBeZero() Step {
	s.positive = isFailure
	return s
}

// Program is a list of steps and the memory that they refer to. It is for one
// start; it is not safe for concurrent use.
type Program struct {
	head   header
	steps  []Step
	keep   []any
	saves  []save
	splits bool
}

// save is a result that becomes an argument of a later step.
type save struct{ from, to, arg int }

// Split makes the child go on as a child of its own, whose parent is ours as
// well. It is for a child that has joined a pid namespace: only its children
// are born in it.
func (p *Program) Split() {
	s := Call("clone", syscall.SYS_CLONE, syscall.CLONE_PARENT|syscall.CLONE_VM|syscall.CLONE_VFORK|syscall.CLONE_PARENT_SETTID,
		0, uintptr(unsafe.Pointer(&p.head.second)))
	s.positive = isParent
	p.Add(s)
	p.splits = true
}

// Len returns the number of steps so far, which is the index of the next one.
func (p *Program) Len() int { return len(p.steps) }

// Add appends steps.
func (p *Program) Add(steps ...Step) { p.steps = append(p.steps, steps...) }

// Pass makes the result of step from the argument arg of the later step to. A
// result can be passed once.
func (p *Program) Pass(from, to, arg int) {
	for _, s := range p.saves {
		if s.from == from {
			panic("fork: the result of a step is passed twice")
		}
	}
	p.saves = append(p.saves, save{from, to, arg})
}

// Keep keeps what steps refer to alive for as long as the program.
func (p *Program) Keep(v any) { p.keep = append(p.keep, v) }

// String returns the address of s as a C string. What follows a NUL byte is
// not seen by the kernel; callers check input of strangers before.
func (p *Program) String(s string) uintptr {
	b := make([]byte, len(s)+1)
	copy(b, s)
	p.Keep(b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// Strings returns the address of a NULL-terminated vector of C strings.
func (p *Program) Strings(list []string) uintptr {
	v := make([]uintptr, len(list)+1)
	for i, s := range list {
		v[i] = p.String(s)
	}
	p.Keep(v)
	return uintptr(unsafe.Pointer(&v[0]))
}

// Errno returns the error of a step, 0 if it succeeded or was not reached.
func (p *Program) Errno(step int) syscall.Errno { return syscall.Errno(p.steps[step].errno) }

// link closes the program with a step that ends the child, should no execve
// have replaced it, and resolves what could not be known before.
func (p *Program) link() {
	p.steps = append(p.steps,
		Call("end of program", noSuchCall),
		Call("end of the first child", syscall.SYS_EXIT_GROUP, 0))
	p.head.last = uintptr(unsafe.Pointer(&p.steps[len(p.steps)-1]))
	for _, s := range p.saves {
		p.steps[s.from].save = uintptr(unsafe.Pointer(&p.steps[s.to].args[s.arg]))
	}
}

// noSuchCall fails on every kernel.
const noSuchCall = 0xfffff

// failure returns the step that ended the child, nil if it executed its command.
func (p *Program) failure() error {
	if p.head.failed == 0 {
		return nil
	}
	i := int((p.head.failed - uintptr(unsafe.Pointer(&p.steps[0]))) / unsafe.Sizeof(p.steps[0]))
	return &StepError{Index: i, Name: p.steps[i].Name, Errno: p.Errno(i)}
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

// NewProgram returns an empty program.
func NewProgram() *Program { return &Program{steps: make([]Step, 0, 128)} }

// Pointer returns an address as an argument. v must be kept alive by the program.
func Pointer[T any](v *T) uintptr { return uintptr(unsafe.Pointer(v)) }
