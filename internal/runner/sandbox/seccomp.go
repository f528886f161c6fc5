package sandbox

import (
	_ "embed"
	"fmt"
	"maps"
	"runtime"
	"slices"
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
	// struct sock_fprog
	program := fork.Place(c.p, struct{ length, filter uintptr }{uintptr(len(code)), fork.PlaceAll(c.p, code)})
	c.add(fork.Call("install seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, program))
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
	profile.Syscalls = slices.Concat(leases, profile.Syscalls)
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

// leases are the calls by which a process that owns a file holds up everybody else who
// opens it, 45 seconds each time (fs.lease-break-time). The default profile allows
// them; but some files of a container are the engine's, too: its termination message
// and its /etc/hosts, which could grow for so long.
var leases = []specs.LinuxSyscall{leaseBy(unix.F_SETLEASE), leaseBy(setDelegation)}

const setDelegation = 1024 + 16 // F_SETDELEG, since Linux 6.19

func leaseBy(command uint64) specs.LinuxSyscall {
	// The kernel looks at the lower half of the argument only.
	arg := specs.LinuxSeccompArg{Index: 1, Op: specs.OpMaskedEqual, Value: 1<<32 - 1, ValueTwo: command}
	return specs.LinuxSyscall{Names: []string{"fcntl", "fcntl64"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{arg}}
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

// rule is what happens to a system call whose arguments all match.
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
	var a assembler
	next := a.ret(noSuchCall)
	for _, arch := range slices.Backward(architectures()) {
		numbers, err := syscallNumbers(arch.name)
		if err != nil {
			return nil, err
		}
		rules, err := rulesByNumber(profile, numbers)
		if err != nil {
			return nil, err
		}
		body := a.load(offsetNr, a.search(a.segments(rules, numbers, byDefault)))
		next = a.jump(unix.BPF_JEQ, arch.audit, body, next)
	}
	a.load(offsetArch, next)
	if len(a.reversed) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("the filter has %d instructions, more than the kernel accepts", len(a.reversed))
	}
	return a.code(), nil
}

// noSuchCall is the result of a call that does not exist.
const noSuchCall = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// rulesByNumber sorts a profile's rules by system call. One without arguments
// decides alone, but for what was decided otherwise before.
func rulesByNumber(profile *specs.LinuxSeccomp, numbers map[string]uint32) (map[uint32][]rule, error) {
	rules := make(map[uint32][]rule)
	for _, call := range profile.Syscalls {
		res, err := result(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, arg := range call.Args {
			if !slices.Contains(operators, arg.Op) || arg.Index > 5 {
				return nil, fmt.Errorf("seccomp argument %+v is not supported", arg)
			}
		}
		for _, name := range call.Names {
			nr, ok := numbers[name]
			switch {
			case !ok: // a call of another architecture, or a newer kernel
			case len(rules[nr]) > 0 && len(rules[nr][len(rules[nr])-1].args) == 0: // it is decided
			case len(call.Args) == 0:
				others := slices.DeleteFunc(rules[nr], func(r rule) bool { return r.result == res })
				rules[nr] = append(others, rule{result: res})
			default:
				rules[nr] = append(rules[nr], rule{call.Args, res})
			}
		}
	}
	return rules, nil
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual,
}

// privateBase is where ARM numbers the calls of its own.
const privateBase = 0xf0000

// segments divides all numbers. A call that this table does not know because
// it is newer does not exist, so that programs use what came before it; one
// that the profile does not mention is refused.
func (a *assembler) segments(rules map[uint32][]rule, numbers map[string]uint32, byDefault uint32) []segment {
	var newest uint32
	for _, nr := range numbers {
		if nr < privateBase {
			newest = max(newest, nr)
		}
	}
	var list []segment
	add := func(first uint32, then label) {
		if n := len(list); n == 0 || list[n-1].then != then {
			list = append(list, segment{first, then})
		}
	}
	for nr := range newest + 1 {
		add(nr, a.rules(rules[nr], a.ret(byDefault)))
	}
	add(newest+1, a.ret(noSuchCall))
	for _, nr := range slices.Sorted(maps.Keys(rules)) {
		if nr > newest {
			add(nr, a.rules(rules[nr], a.ret(byDefault)))
			add(nr+1, a.ret(noSuchCall))
		}
	}
	return list
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
