package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fork"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// pause is the first process of a pid namespace that the containers of a pod
// share. It sleeps, and the kernel collects orphans for it because it ignores
// SIGCHLD. Its file system is empty: a container may look at the root of any
// process that it may trace.
type pause struct {
	child *reap.Child
	ns    int // the pid namespace
}

// startPause starts a pause process in namespaces of its own.
func (l *Launcher) startPause() (*pause, error) {
	image, err := pauseImage()
	if err != nil {
		return nil, err
	}
	defer unix.Close(image)
	mnt := filepath.Join(l.env.Dir, "mnt")
	c := l.newContainer(&runner.Spec{}, nil)
	c.born()
	p := c.p
	ignore := &sigaction{handler: sigIgn}
	p.Keep(ignore)
	p.Add(
		fork.Call("ignore SIGCHLD", unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), fork.Pointer(ignore), 0, 8),
		fork.Call("make mounts private", unix.SYS_MOUNT, 0, p.String("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0),
		mountStep(p, "tmpfs", mnt, "tmpfs", quiet|unix.MS_RDONLY, "size=4k,mode=555"),
		chdirStep(p, mnt),
		fork.Call("pivot_root", unix.SYS_PIVOT_ROOT, p.String("."), p.String(".")),
		fork.Call("leave the machine's root", unix.SYS_UMOUNT2, p.String("."), unix.MNT_DETACH),
		chdirStep(p, "/"),
		fork.Call("close streams", unix.SYS_CLOSE_RANGE, 0, 2, 0),
		fork.Call("keep the image", unix.SYS_DUP3, uintptr(image), 0, unix.O_CLOEXEC),
		fork.Call("keep pidfd", unix.SYS_DUP3, uintptr(l.host.self), 3, unix.O_CLOEXEC).Tolerate(unix.EINVAL),
		fork.Call("close files", unix.SYS_CLOSE_RANGE, 4, 1<<32-1, 0),
	)
	for n := 0; n <= l.host.lastCap; n++ {
		p.Add(prctlStep("drop capability", unix.PR_CAPBSET_DROP, uintptr(n)))
	}
	p.Add(prctlStep("set no_new_privs", unix.PR_SET_NO_NEW_PRIVS, 1))
	c.become(0)
	c.watchParent()
	p.Add(fork.Call("exec pause", unix.SYS_EXECVEAT, 0, p.String(""), p.Strings([]string{"pause"}), p.Strings(nil), unix.AT_EMPTY_PATH))
	child, pidfd, err := l.startProgram(p, fork.Options{CgroupFD: -1, Flags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS})
	if err != nil {
		return nil, fmt.Errorf("start pause: %w", err)
	}
	_ = unix.Close(pidfd)
	ns, err := openNamespace(procPath(child.PID(), "ns/pid"))
	if err != nil {
		_ = child.Signal(unix.SIGKILL)
		_, _ = child.Wait()
		return nil, err
	}
	return &pause{child: child, ns: ns}, nil
}

// end kills the process, and with it whatever is left in the namespace.
func (p *pause) end() error {
	_ = unix.Close(p.ns)
	if err := p.child.Signal(unix.SIGKILL); err != nil {
		return err
	}
	_, err := p.child.Wait()
	return err
}

// sigaction is the kernel's struct sigaction.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const sigIgn = 1

// pauseCode sleeps for ever: for (;;) ppoll(NULL, 0, NULL, NULL).
var pauseCode = map[string][]byte{
	"amd64": {
		0x31, 0xff, // xor edi, edi
		0x31, 0xf6, // xor esi, esi
		0x31, 0xd2, // xor edx, edx
		0x4d, 0x31, 0xd2, // xor r10, r10
		0xb8, 0x0f, 0x01, 0x00, 0x00, // mov eax, 271
		0x0f, 0x05, // syscall
		0xeb, 0xee, // jmp to the start
	},
	"arm64": {
		0x00, 0x00, 0x80, 0xd2, // mov x0, #0
		0x01, 0x00, 0x80, 0xd2, // mov x1, #0
		0x02, 0x00, 0x80, 0xd2, // mov x2, #0
		0x03, 0x00, 0x80, 0xd2, // mov x3, #0
		0x28, 0x09, 0x80, 0xd2, // mov x8, #73
		0x01, 0x00, 0x00, 0xd4, // svc #0
		0xfa, 0xff, 0xff, 0x17, // b to the start
	},
}

// pauseImage returns a file in memory that contains an ELF executable of one
// page: a header, one segment, the code.
func pauseImage() (int, error) {
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	code := pauseCode[runtime.GOARCH]
	const base, headers = 0x400000, 64 + 56
	var elf bytes.Buffer
	elf.Write([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	size := uint64(headers + len(code))
	for _, field := range []any{
		uint16(2), machine, uint32(1), uint64(base + headers), uint64(64), uint64(0), uint32(0),
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		// The segment: loadable, readable, executable.
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000),
	} {
		if err := binary.Write(&elf, binary.LittleEndian, field); err != nil {
			return -1, err
		}
	}
	elf.Write(code)
	fd, err := unix.MemfdCreate("pause", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("pause", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	if _, err := unix.Write(fd, elf.Bytes()); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("write", err)
	}
	return fd, nil
}
