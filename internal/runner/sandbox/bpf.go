package sandbox

import (
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in the kernel's struct seccomp_data.
const (
	offsetNr   = 0
	offsetArch = 4
	offsetArgs = 16
)

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(cond uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | cond | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func skip(n int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(n)}
}

func ret(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}

// segment is a run of system call numbers, from first to the next segment's,
// that share a verdict; code ends in a return.
type segment struct {
	first uint32
	code  []unix.SockFilter
}

// segments divides all numbers. A call that this table does not know because
// it is newer does not exist, so that programs use what came before it; one
// that the profile does not mention is refused.
func segments(verdicts map[uint32]*verdict, numbers map[string]uint32, byDefault uint32) []segment {
	newest := slices.Max(slices.Collect(maps.Values(onlyPublic(numbers))))
	var list []segment
	add := func(first uint32, code []unix.SockFilter) {
		if n := len(list); n > 0 && slices.Equal(list[n-1].code, code) {
			return
		}
		list = append(list, segment{first, code})
	}
	missing := []unix.SockFilter{ret(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))}
	at := func(nr uint32) {
		if v := verdicts[nr]; v != nil {
			add(nr, v.code())
		} else {
			add(nr, []unix.SockFilter{ret(byDefault)})
		}
	}
	for nr := uint32(0); nr <= newest; nr++ {
		at(nr)
	}
	add(newest+1, missing)
	for _, nr := range slices.Sorted(maps.Keys(verdicts)) {
		if nr > newest {
			at(nr)
			add(nr+1, missing)
		}
	}
	return list
}

// privateBase is where ARM numbers the calls of its own.
const privateBase = 0xf0000

func onlyPublic(numbers map[string]uint32) map[string]uint32 {
	public := maps.Clone(numbers)
	maps.DeleteFunc(public, func(_ string, nr uint32) bool { return nr >= privateBase })
	return public
}

// search finds the segment of the number in the accumulator by halving. The
// kernel runs the filter for every system call number when it is installed, so
// its depth is paid at each start of a container.
func search(list []segment) []unix.SockFilter {
	if len(list) == 1 {
		return list[0].code
	}
	mid := len(list) / 2
	low, high := search(list[:mid]), search(list[mid:])
	var code []unix.SockFilter
	if len(low) <= 255 {
		code = append(code, jump(unix.BPF_JGE, list[mid].first, uint8(len(low)), 0))
	} else {
		code = append(code, jump(unix.BPF_JGE, list[mid].first, 0, 1), skip(len(low)))
	}
	return append(append(code, low...), high...)
}

// code is the verdict in the filter language.
func (v *verdict) code() []unix.SockFilter {
	var code []unix.SockFilter
	for _, r := range v.rules {
		if len(r.args) == 0 {
			return []unix.SockFilter{ret(r.result)}
		}
		code = append(code, r.code()...)
	}
	return append(code, ret(v.otherwise))
}

// code tests the arguments and returns the rule's result if all match;
// otherwise it falls through.
func (r rule) code() []unix.SockFilter {
	code := []unix.SockFilter{ret(r.result)}
	for _, arg := range slices.Backward(r.args) {
		code = append(test(arg, uint8(len(code))), code...)
	}
	return code
}

// test compares an argument of 64 bits, a half at a time, and skips the next n
// instructions if it does not match.
func test(arg specs.LinuxSeccompArg, n uint8) []unix.SockFilter {
	low, high := load(offsetArgs+8*uint32(arg.Index)), load(offsetArgs+8*uint32(arg.Index)+4)
	lo, hi := uint32(arg.Value), uint32(arg.Value>>32)
	switch arg.Op {
	case specs.OpEqualTo:
		return []unix.SockFilter{high, jump(unix.BPF_JEQ, hi, 0, n+2), low, jump(unix.BPF_JEQ, lo, 0, n)}
	case specs.OpNotEqual:
		return []unix.SockFilter{high, jump(unix.BPF_JEQ, hi, 0, 2), low, jump(unix.BPF_JEQ, lo, n, 0)}
	case specs.OpMaskedEqual:
		lo2, hi2 := uint32(arg.ValueTwo), uint32(arg.ValueTwo>>32)
		return []unix.SockFilter{
			high, and(hi), jump(unix.BPF_JEQ, hi2, 0, n+3),
			low, and(lo), jump(unix.BPF_JEQ, lo2, 0, n),
		}
	case specs.OpGreaterThan:
		return []unix.SockFilter{high, jump(unix.BPF_JGT, hi, 3, 0), jump(unix.BPF_JEQ, hi, 0, n+2), low, jump(unix.BPF_JGT, lo, 0, n)}
	case specs.OpGreaterEqual:
		return []unix.SockFilter{high, jump(unix.BPF_JGT, hi, 3, 0), jump(unix.BPF_JEQ, hi, 0, n+2), low, jump(unix.BPF_JGE, lo, 0, n)}
	case specs.OpLessThan:
		return []unix.SockFilter{high, jump(unix.BPF_JGT, hi, n+3, 0), jump(unix.BPF_JEQ, hi, 0, 2), low, jump(unix.BPF_JGE, lo, n, 0)}
	case specs.OpLessEqual:
		return []unix.SockFilter{high, jump(unix.BPF_JGT, hi, n+3, 0), jump(unix.BPF_JEQ, hi, 0, 2), low, jump(unix.BPF_JGT, lo, n, 0)}
	default: // never matches
		return []unix.SockFilter{skip(int(n))}
	}
}

func and(mask uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask}
}
