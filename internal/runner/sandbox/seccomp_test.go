package sandbox

import (
	"math/rand/v2"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// call is what a filter sees of a system call.
type call struct {
	nr, arch uint32
	args     [6]uint64
}

func (c call) word(offset uint32) uint32 {
	switch {
	case offset == offsetNr:
		return c.nr
	case offset == offsetArch:
		return c.arch
	case offset%8 == 0:
		return uint32(c.args[(offset-offsetArgs)/8])
	default:
		return uint32(c.args[(offset-offsetArgs)/8] >> 32)
	}
}

// interpret runs a filter as the kernel does.
func interpret(t *testing.T, code []unix.SockFilter, c call) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(code); pc++ {
		in := code[pc]
		branch := func(yes bool) {
			if yes {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = c.word(in.K)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			branch(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			branch(a > in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			branch(a >= in.K)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d: %+v", pc, in)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

// decide is what the profile says of a call, read from the profile.
func decide(t *testing.T, profile *specs.LinuxSeccomp, arch architecture, numbers map[string]uint32, c call) uint32 {
	t.Helper()
	newest := uint32(0)
	for _, nr := range numbers {
		if nr < privateBase {
			newest = max(newest, nr)
		}
	}
	decision, known := byDefaultOf(t, profile), false
	for _, rule := range profile.Syscalls {
		for _, name := range rule.Names {
			nr, ok := numbers[name]
			if !ok || nr != c.nr {
				continue
			}
			known = true
			matches := true
			for _, arg := range rule.Args {
				matches = matches && compare(arg, c.args[arg.Index])
			}
			if res, err := result(rule.Action, rule.ErrnoRet); err != nil {
				t.Fatal(err)
			} else if matches {
				decision = res
			}
		}
	}
	if c.nr > newest && !known {
		return noSuchCall
	}
	return decision
}

func byDefaultOf(t *testing.T, profile *specs.LinuxSeccomp) uint32 {
	res, err := result(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func compare(arg specs.LinuxSeccompArg, v uint64) bool {
	switch arg.Op {
	case specs.OpEqualTo:
		return v == arg.Value
	case specs.OpNotEqual:
		return v != arg.Value
	case specs.OpLessThan:
		return v < arg.Value
	case specs.OpLessEqual:
		return v <= arg.Value
	case specs.OpGreaterThan:
		return v > arg.Value
	case specs.OpGreaterEqual:
		return v >= arg.Value
	default:
		return v&arg.Value == arg.ValueTwo
	}
}

// checkFilter compares the compiled profile with the profile for every number
// and many arguments.
func checkFilter(t *testing.T, profile *specs.LinuxSeccomp, interesting []uint64) int {
	t.Helper()
	code, err := compileProfile(profile)
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range architectures() {
		numbers, err := syscallNumbers(arch.name)
		if err != nil {
			t.Fatal(err)
		}
		var nrs []uint32
		for nr := range uint32(1000) {
			nrs = append(nrs, nr)
		}
		for nr := uint32(privateBase); nr < privateBase+10; nr++ {
			nrs = append(nrs, nr, nr|0x40000000)
		}
		for _, nr := range nrs {
			for range 20 {
				c := call{nr: nr, arch: arch.audit}
				for i := range c.args {
					c.args[i] = interesting[rand.IntN(len(interesting))]
				}
				if got, want := interpret(t, code, c), decide(t, profile, arch, numbers, c); got != want {
					t.Fatalf("%s %+v: got %#x, want %#x", arch.name, c, got, want)
				}
			}
		}
	}
	if got := interpret(t, code, call{nr: 1, arch: 1}); got != noSuchCall {
		t.Errorf("another architecture: %#x", got)
	}
	return len(code)
}

func TestDefaultProfile(t *testing.T) {
	t.Parallel()
	interesting := []uint64{0, 1, 2, 8, 37, 38, 39, 40, 41, 0x20000, 0x20008, 0xffffffff, 1 << 32, 1<<32 | 38, 1<<32 | 40, ^uint64(0),
		unix.CLONE_NEWNS, unix.CLONE_NEWUSER, unix.CLONE_VM, unix.CLONE_VM | unix.CLONE_VFORK, 1<<40 | unix.CLONE_NEWNS}
	for _, caps := range [][]string{nil, defaultCapabilities, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}} {
		profile, err := seccomp.GetDefaultProfile(&specs.Spec{
			Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}},
		})
		must(t, err)
		t.Logf("capabilities %q: %d instructions", caps, checkFilter(t, profile, interesting))
	}
}

// Leases are refused by whatever name and number they are asked for, and nothing else of
// what asks for them.
func TestLeasesAreRefused(t *testing.T) {
	t.Parallel()
	code, err := (&filters{}).get(0)
	must(t, err)
	const refused = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	for _, arch := range architectures() {
		numbers, err := syscallNumbers(arch.name)
		must(t, err)
		for _, name := range []string{"fcntl", "fcntl64"} {
			nr, ok := numbers[name]
			for command := range uint64(1100) {
				want := uint32(unix.SECCOMP_RET_ALLOW)
				if command == 1024 || command == 1040 {
					want = refused
				}
				for _, high := range []uint64{0, 1 << 32, 0xffffffff << 32} {
					c := call{nr: nr, arch: arch.audit, args: [6]uint64{3, high | command, 1}}
					if got := interpret(t, code, c); ok && got != want {
						t.Fatalf("%s %s %d: got %#x, want %#x", arch.name, name, high|command, got, want)
					}
				}
			}
		}
	}
}

// Made-up profiles use every operator, and are long enough for far jumps.
func TestMadeUpProfiles(t *testing.T) {
	t.Parallel()
	values := []uint64{0, 1, 2, 3, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1 << 63, ^uint64(0)}
	pick := func() uint64 { return values[rand.IntN(len(values))] }
	numbers, err := syscallNumbers(architectures()[0].name)
	must(t, err)
	for range 10 {
		profile := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
		for name := range numbers {
			if rand.IntN(4) > 0 {
				continue
			}
			for range rand.IntN(3) {
				rule := specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow}
				for range rand.IntN(3) {
					rule.Args = append(rule.Args, specs.LinuxSeccompArg{
						Index: uint(rand.IntN(6)), Op: operators[rand.IntN(len(operators))], Value: pick(), ValueTwo: pick(),
					})
				}
				profile.Syscalls = append(profile.Syscalls, rule)
			}
		}
		if n := checkFilter(t, profile, values); n < 600 {
			t.Errorf("only %d instructions", n) // no far jumps
		}
	}
}
