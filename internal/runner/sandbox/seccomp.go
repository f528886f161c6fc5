package sandbox

import (
	_ "embed"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner/fork"
)

//go:generate go run gensyscalls.go

// syscallTable is the numbers of the system calls, by name and architecture.
//
//go:embed syscalls.txt
var syscallTable string

// filters keeps the compiled profiles. They depend on nothing but the
// capabilities, of which there are few combinations.
type filters struct {
	mu       sync.Mutex
	compiled map[capSet][]unix.SockFilter
}

// filter writes down the installation of the default profile.
func (c *container) filter(caps capSet) error {
	if c.spec.SeccompUnconfined || c.spec.Privileged {
		return nil
	}
	code, err := c.l.filters.get(caps)
	if err != nil {
		return fmt.Errorf("sandbox: seccomp: %w", err)
	}
	program := &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	c.p.Keep(program)
	c.p.Add(fork.Call("install seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, fork.Pointer(program)))
	return nil
}

func (f *filters) get(caps capSet) ([]unix.SockFilter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if code := f.compiled[caps]; code != nil {
		return code, nil
	}
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps.names()}},
	})
	if err != nil {
		return nil, err
	}
	code, err := compileProfile(profile)
	if err != nil {
		return nil, err
	}
	if f.compiled == nil {
		f.compiled = make(map[capSet][]unix.SockFilter)
	}
	f.compiled[caps] = code
	return code, nil
}

// architecture is one of the system call tables that the processor offers.
type architecture struct {
	name  string
	audit uint32 // what the kernel calls it
}

func architectures() []architecture {
	switch runtime.GOARCH {
	case "amd64":
		return []architecture{{"amd64", unix.AUDIT_ARCH_X86_64}, {"386", unix.AUDIT_ARCH_I386}}
	case "arm64":
		return []architecture{{"arm64", unix.AUDIT_ARCH_AARCH64}, {"arm", unix.AUDIT_ARCH_ARM}}
	default:
		return nil
	}
}

// syscallNumbers returns an architecture's table.
func syscallNumbers(arch string) (map[string]uint32, error) {
	numbers := make(map[string]uint32)
	column := -1
	for line := range strings.Lines(syscallTable) {
		fields := strings.Fields(line)
		switch {
		case fields[0] == "#":
		case column < 0:
			for i, name := range fields {
				if name == arch {
					column = i
				}
			}
			if column < 0 {
				return nil, fmt.Errorf("no system calls of %s", arch)
			}
		case fields[column] != "-":
			nr, err := strconv.ParseUint(fields[column], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("system call %s: %w", fields[0], err)
			}
			numbers[fields[0]] = uint32(nr)
		}
	}
	return numbers, nil
}

// verdict is what happens to one system call: the first rule whose arguments
// all match, otherwise otherwise.
type verdict struct {
	rules     []rule
	otherwise uint32
}

type rule struct {
	args   []specs.LinuxSeccompArg
	result uint32
}

// compileProfile translates a profile into the kernel's filter language.
func compileProfile(profile *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	byDefault, err := result(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	code := []unix.SockFilter{load(offsetArch)}
	for _, arch := range architectures() {
		numbers, err := syscallNumbers(arch.name)
		if err != nil {
			return nil, err
		}
		verdicts := make(map[uint32]*verdict)
		for _, call := range profile.Syscalls {
			res, err := result(call.Action, call.ErrnoRet)
			if err != nil {
				return nil, err
			}
			for _, name := range call.Names {
				nr, ok := numbers[name]
				if !ok {
					continue // a call of another architecture, or a newer kernel
				}
				v := verdicts[nr]
				if v == nil {
					v = &verdict{otherwise: byDefault}
					verdicts[nr] = v
				}
				v.rules = append(v.rules, rule{call.Args, res})
			}
		}
		body := append([]unix.SockFilter{load(offsetNr)}, search(segments(verdicts, numbers, byDefault))...)
		// if arch != …: skip the body
		code = append(code, jump(unix.BPF_JEQ, arch.audit, 1, 0), skip(len(body)))
		code = append(code, body...)
	}
	code = append(code, ret(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
	if len(code) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("the filter has %d instructions, more than the kernel accepts", len(code))
	}
	return code, nil
}

// result is the kernel's number for an action.
func result(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch action {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		if errno != nil {
			return unix.SECCOMP_RET_ERRNO | uint32(*errno)&unix.SECCOMP_RET_DATA, nil
		}
		return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	default:
		return 0, fmt.Errorf("seccomp action %q is not supported", action)
	}
}
