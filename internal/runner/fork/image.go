package fork

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// segmentAlign is a multiple of every page size.
const segmentAlign = 64 << 10

// image returns a sealed file in memory that is the program as an executable:
//
//	0                 ELF header, the interpreter's code
//	segmentAlign …    steps, header and memory, as they lie from dataBase on
//
// The child, and whoever can see it, can neither change the file nor tell
// anything from it but its own program. It is nobody else's: what is done to its
// owner or mode changes nothing.
func (p *Program) image() (int, error) {
	head, err := p.link()
	if err != nil {
		return -1, err
	}
	code := interpreter()
	if code == nil {
		return -1, ErrUnsupported
	}
	fd, err := unix.MemfdCreate("start", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("start", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, fmt.Errorf("fork: a file in memory that can be executed (sysctl vm.memfd_noexec must not be 2): %w", err)
	}
	if fd == Status { // the child needs that number
		dup, err := unix.FcntlInt(Status, unix.F_DUPFD_CLOEXEC, Status+1)
		_ = unix.Close(Status)
		if err != nil {
			return -1, os.NewSyscallError("fcntl", err)
		}
		fd = dup
	}
	steps := unsafe.Slice((*byte)(unsafe.Pointer(&p.calls[0])), uintptr(len(p.calls))*unsafe.Sizeof(call{}))
	end := unsafe.Slice((*byte)(unsafe.Pointer(&head)), unsafe.Sizeof(head))
	err = errors.Join(
		writeAt(fd, 0, elfHeader(len(p.memory)), code),
		writeAt(fd, segmentAlign+int64(p.address(0)-dataBase), steps, end, p.memory),
	)
	if err == nil {
		const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("fork: write the program: %w", err)
	}
	return fd, nil
}

func writeAt(fd int, offset int64, parts ...[]byte) error {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	n, err := unix.Pwritev(fd, parts, offset)
	if err == nil && n < size {
		err = unix.ENOSPC
	}
	return err
}

// The sizes of ELF's own structures, and where the code begins behind them.
const (
	elfHeaderSize  = int(unsafe.Sizeof(elf.Header64{}))
	elfProgramSize = int(unsafe.Sizeof(elf.Prog64{}))
	codeOffset     = elfHeaderSize + 3*elfProgramSize
)

// elfHeader describes the file: the code, the data with so many bytes of
// memory, and a stack that is not executable.
func elfHeader(memory int) []byte {
	machine := elf.EM_X86_64
	if runtime.GOARCH == "arm64" {
		machine = elf.EM_AARCH64
	}
	code := uint64(codeOffset + len(interpreter()))
	data := uint64(memoryBase-dataBase) + uint64(memory)
	var b bytes.Buffer
	b.Grow(codeOffset)
	for _, part := range []any{
		&elf.Header64{
			Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
			Entry: codeBase + uint64(codeOffset), Phoff: uint64(elfHeaderSize),
			Ehsize: uint16(elfHeaderSize), Phentsize: uint16(elfProgramSize), Phnum: 3,
		},
		&elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
			Vaddr: codeBase, Paddr: codeBase, Filesz: code, Memsz: code, Align: segmentAlign},
		&elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: segmentAlign,
			Vaddr: dataBase, Paddr: dataBase, Filesz: data, Memsz: data, Align: segmentAlign},
		&elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W)},
	} {
		_ = binary.Write(&b, binary.LittleEndian, part) // a Buffer takes everything
	}
	return b.Bytes()
}
