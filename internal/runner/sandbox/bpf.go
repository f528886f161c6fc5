package sandbox

import (
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

// assembler writes a filter from its end to its beginning: jumps only lead
// forward, so that where they lead is always known.
type assembler struct {
	reversed []unix.SockFilter
	returns  map[uint32]label
}

// label is an instruction, counted from the end of the filter.
type label int

func (a *assembler) emit(code uint16, k uint32) label {
	a.reversed = append(a.reversed, unix.SockFilter{Code: code, K: k})
	return label(len(a.reversed))
}

// distance is how many instructions the next one would have to skip.
func (a *assembler) distance(to label) int { return len(a.reversed) - int(to) }

// jump compares the accumulator with k.
func (a *assembler) jump(cond uint16, k uint32, yes, no label) label {
	if yes == no {
		return yes
	}
	// A conditional jump skips 255 instructions at most.
	if a.distance(yes) > 254 {
		yes = a.emit(unix.BPF_JMP|unix.BPF_JA, uint32(a.distance(yes)))
	}
	if a.distance(no) > 255 {
		no = a.emit(unix.BPF_JMP|unix.BPF_JA, uint32(a.distance(no)))
	}
	a.reversed = append(a.reversed, unix.SockFilter{
		Code: unix.BPF_JMP | cond | unix.BPF_K, Jt: uint8(a.distance(yes)), Jf: uint8(a.distance(no)), K: k,
	})
	return label(len(a.reversed))
}

// load loads a word of seccomp_data and goes on with next.
func (a *assembler) load(offset uint32, next label) label {
	return a.then(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, next)
}

// then writes an instruction that goes on with next.
func (a *assembler) then(code uint16, k uint32, next label) label {
	if d := a.distance(next); d > 0 {
		a.emit(unix.BPF_JMP|unix.BPF_JA, uint32(d))
	}
	return a.emit(code, k)
}

// ret returns a result; one that was written already is used again.
func (a *assembler) ret(k uint32) label {
	if l, ok := a.returns[k]; ok {
		return l
	}
	l := a.emit(unix.BPF_RET|unix.BPF_K, k)
	if a.returns == nil {
		a.returns = make(map[uint32]label)
	}
	a.returns[k] = l
	return l
}

// code returns the filter.
func (a *assembler) code() []unix.SockFilter {
	code := slices.Clone(a.reversed)
	slices.Reverse(code)
	return code
}

// segment is a run of system call numbers, from first to the next segment's,
// that are treated alike.
type segment struct {
	first uint32
	then  label
}

// search finds the segment of the number in the accumulator by halving. When a
// filter is installed the kernel runs it for every number, to learn which calls
// are allowed whatever their arguments: its depth and its length are paid at
// each start of a container, and hardly ever again.
func (a *assembler) search(list []segment) label {
	if len(list) == 1 {
		return list[0].then
	}
	mid := len(list) / 2
	high := a.search(list[mid:])
	low := a.search(list[:mid])
	return a.jump(unix.BPF_JGE, list[mid].first, high, low)
}

// rules tests rule after rule and returns the result of the first that matches.
func (a *assembler) rules(list []rule, otherwise label) label {
	for _, r := range slices.Backward(list) {
		then := a.ret(r.result)
		for _, arg := range slices.Backward(r.args) {
			then = a.test(arg, then, otherwise)
		}
		otherwise = then
	}
	return otherwise
}

// test compares an argument of 64 bits, a half at a time.
func (a *assembler) test(arg specs.LinuxSeccompArg, yes, no label) label {
	lo, hi := uint32(arg.Value), uint32(arg.Value>>32)
	low, high := offsetArgs+8*uint32(arg.Index), offsetArgs+8*uint32(arg.Index)+4
	const and = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	switch arg.Op {
	case specs.OpMaskedEqual:
		next := a.jump(unix.BPF_JEQ, uint32(arg.ValueTwo), yes, no)
		next = a.load(low, a.then(and, lo, next))
		next = a.jump(unix.BPF_JEQ, uint32(arg.ValueTwo>>32), next, no)
		return a.load(high, a.then(and, hi, next))
	case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual:
		yes, no = no, yes
	}
	cond := map[specs.LinuxSeccompOperator]uint16{
		specs.OpEqualTo: unix.BPF_JEQ, specs.OpNotEqual: unix.BPF_JEQ,
		specs.OpGreaterThan: unix.BPF_JGT, specs.OpLessEqual: unix.BPF_JGT,
		specs.OpGreaterEqual: unix.BPF_JGE, specs.OpLessThan: unix.BPF_JGE,
	}[arg.Op]
	next := a.load(low, a.jump(cond, lo, yes, no))
	next = a.jump(unix.BPF_JEQ, hi, next, no)
	if cond != unix.BPF_JEQ {
		next = a.jump(unix.BPF_JGT, hi, yes, next)
	}
	return a.load(high, next)
}
