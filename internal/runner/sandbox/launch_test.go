package sandbox

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/sampan-batch/sampan/internal/runner"
)

func TestLaunch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, f.spec("echo hello", "pid", "sid", "pwd", "umask", "cat /etc/image", "fds"),
		"hello", "1", "1", "/", "0022", "from the image", "0 1 2")

	out, info := f.run(t, f.spec("exit 7"))
	if info.Code != 7 || info.Signal != 0 {
		t.Errorf("exit 7: got %+v %s", info, out)
	}
	spec := f.spec("pwd", "hostname", "env A", "env PATH")
	spec.Dir, spec.Hostname, spec.Env = "/made/for/it", "its-name", []string{"A=b", "PATH=/bin"}
	f.want(t, spec, "/made/for/it", "its-name", "b", "/bin")
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	f := setup(t)
	vars := []string{"env PATH", "env HOSTNAME", "env HOME", "env TERM"}
	spec := f.spec(vars...)
	f.want(t, spec, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", spec.Hostname, "/")

	spec = f.spec(vars...)
	spec.Env = []string{"PATH=/bin", "HOSTNAME=h", "HOME=", "TERM=dumb", "PATH=/nosuch"}
	f.want(t, spec, "/bin", "h", "dumb")
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	f := setup(t)
	must(t, os.WriteFile(filepath.Join(f.layer, "bin", "data"), []byte("no program"), 0o644))
	must(t, os.WriteFile(filepath.Join(f.layer, "bin", "script"), []byte("#!/bin/nosuch\n"), 0o755))
	must(t, os.WriteFile(filepath.Join(f.layer, "bin", "windows"), []byte("#!/bin/sh\r\necho\r\n"), 0o755))
	must(t, os.WriteFile(filepath.Join(f.layer, "bin", "glibc"), dynamicProgram(t), 0o755))
	must(t, os.WriteFile(filepath.Join(f.layer, "bin", "text"), []byte("plain text"), 0o755))
	missing := filepath.Join(f.layer, "nosuch")
	for _, c := range []struct {
		change func(*runner.Spec)
		reason string
		code   int
		want   string
	}{
		{args("nosuch"), "StartError", 128, `exec: "nosuch": executable file not found in $PATH`},
		{args("/bin/nosuch"), "StartError", 128, `exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory`},
		{args("/bin/data"), "StartError", 128, `exec: "/bin/data": permission denied`},
		{args("data"), "StartError", 128, `exec: "data": permission denied`},
		{args("/bin"), "StartError", 128, `exec: "/bin": permission denied`},
		{args("/bin/script"), "StartError", 128, `exec /bin/script: no such file or directory: its interpreter "/bin/nosuch" is not there`},
		{args("script"), "StartError", 128, `exec /bin/script: no such file or directory: its interpreter "/bin/nosuch" is not there`},
		{args("/bin/windows"), "StartError", 128,
			`exec /bin/windows: no such file or directory: its interpreter "/bin/sh\r" is not there; the script has the line ends of Windows (CRLF)`},
		{args("/bin/glibc"), "StartError", 128,
			"exec /bin/glibc: no such file or directory: the loader that it was linked for is not there; it was built for another C library, or for another machine"},
		{args("/bin/text"), "StartError", 128, `exec: "/bin/text": exec format error`},
		{args(), "CreateContainerError", 0, "no command specified"},
		{args("probe", "a\x00b"), "CreateContainerConfigError", 0, `a value contains a NUL byte: "a\x00b"`},
		{func(s *runner.Spec) { s.Dir = "relative" }, "CreateContainerConfigError", 0, `working directory is not an absolute path: "relative"`},
		{func(s *runner.Spec) { s.Dir = "/etc/image" }, "StartError", 128, `chdir /etc/image: not a directory`},
		{func(s *runner.Spec) { s.Layers = []string{missing} }, "CreateContainerError", 0, "image layer " + missing + " is not a directory"},
		{func(s *runner.Spec) { s.Capabilities = []string{"CAP_MAGIC"} }, "CreateContainerError", 0, `unknown capability "CAP_MAGIC"`},
		{func(s *runner.Spec) { s.Mounts = []runner.Mount{{Source: missing, Target: "/data"}} }, "CreateContainerError", 0,
			`failed to mount "` + missing + `" to "/data": no such file or directory`},
		{func(s *runner.Spec) { s.Mounts = []runner.Mount{{Source: f.layer, Target: "/"}} }, "CreateContainerConfigError", 0,
			`a mount's target must be an absolute path other than /: "/"`},
		{func(s *runner.Spec) { s.Mounts = []runner.Mount{{Source: f.layer, Target: "/etc/image"}} }, "StartError", 128,
			`mount /etc/image: not a directory`},
		{func(s *runner.Spec) { s.Dir = strings.Repeat("/a", 2048) }, "StartError", 128, "chdir " + strings.Repeat("/a", 32) + "…: file name too long"},
		{func(s *runner.Spec) {
			s.Mounts = []runner.Mount{{Source: f.layer, Target: "/" + strings.Repeat("long", 1024)}}
		}, "StartError", 128, "mount /" + strings.Repeat("long", 16)[:63] + "…: file name too long"},
		{func(s *runner.Spec) {
			s.TerminationLog, s.TerminationLogPath = "/dev/null", strings.Repeat("/a", 1<<20)
		}, "StartError", 128,
			"mount " + strings.Repeat("/a", 32) + "…: file name too long"},
		{func(s *runner.Spec) {
			s.Mounts = slices.Repeat([]runner.Mount{{Source: f.layer, Target: strings.Repeat("/a", 2047)}}, 100)
		}, "StartError", 128, "too many mounts, or too many directories on the way to them"},
		{func(s *runner.Spec) {
			s.Args, s.Env = []string{"probe"}, []string{"PATH=" + strings.Repeat("/x:", 512) + "/bin"}
		}, "StartError", 128,
			"exec: $PATH has more than 512 directories"},
		{func(s *runner.Spec) {
			s.Args, s.Env = []string{"probe"}, []string{"PATH=/" + strings.Repeat("x", 5000)}
		}, "StartError", 128,
			`exec: "probe": executable file not found in $PATH`},
	} {
		spec := f.spec("echo")
		c.change(spec)
		p, err := f.Launch(context.Background(), spec, nil, nil, nil)
		var start *runner.StartError
		if !errors.As(err, &start) {
			t.Errorf("%s: got %v %v", c.want, p, err)
			continue
		}
		if start.Reason != c.reason || start.Code != c.code || start.Message != c.want {
			t.Errorf("got  %s %d %s\nwant %s %d %s", start.Reason, start.Code, start.Message, c.reason, c.code, c.want)
		}
	}
	spec := f.spec("pwd")
	spec.Dir = strings.Repeat("/a", 2047) // the longest path that there is
	if out, info := f.run(t, spec); strings.TrimSpace(out) != spec.Dir {
		t.Errorf("the longest working directory: %q %+v", out, info)
	}
	spec = f.spec("echo")
	spec.ID = "../escape"
	if _, err := f.Launch(context.Background(), spec, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "not a file name") {
		t.Errorf("id ../escape: %v", err)
	}
}

// What an image or a manifest says in a few megabytes must not cost the supervisor many
// times as much. It runs beside no other test.
func TestStartIsBounded(t *testing.T) {
	f := setup(t)
	deep, colons := strings.Repeat("/a", 20_000), "PATH="+strings.Repeat(":", 100_000)
	for name, change := range map[string]func(*runner.Spec){
		"working directory": func(s *runner.Spec) { s.Dir = deep },
		"mount":             func(s *runner.Spec) { s.Mounts = []runner.Mount{{Source: f.layer, Target: deep}} },
		"mounts": func(s *runner.Spec) {
			for i := range 50 {
				s.Mounts = append(s.Mounts, runner.Mount{Source: f.layer, Target: strings.Repeat("/a", 1500+i)})
			}
		},
		"PATH": func(s *runner.Spec) { s.Args, s.Env = []string{strings.Repeat("n", 1000)}, []string{colons} },
	} {
		spec := f.spec("echo")
		change(spec)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := f.Launch(context.Background(), spec, nil, nil, nil)
		runtime.ReadMemStats(&after)
		if used := (after.TotalAlloc - before.TotalAlloc) >> 20; err == nil || used > 128 {
			t.Errorf("%s: it took %d MB, %v", name, used, err)
		}
	}
}

func args(list ...string) func(*runner.Spec) {
	return func(s *runner.Spec) { s.Args = list }
}

// dynamicProgram returns a program of this machine whose loader is nowhere.
func dynamicProgram(t *testing.T) []byte {
	t.Helper()
	const loader = "/lib/nosuch.so\x00"
	var b bytes.Buffer
	code := uint64(0x400000)
	size := uint64(unsafe.Sizeof(elf.Header64{}) + 2*unsafe.Sizeof(elf.Prog64{}))
	machine := elf.EM_X86_64
	if runtime.GOARCH == "arm64" {
		machine = elf.EM_AARCH64
	}
	for _, part := range []any{
		&elf.Header64{
			Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
			Entry: code + size, Phoff: uint64(unsafe.Sizeof(elf.Header64{})),
			Ehsize: uint16(unsafe.Sizeof(elf.Header64{})), Phentsize: uint16(unsafe.Sizeof(elf.Prog64{})), Phnum: 2,
		},
		&elf.Prog64{Type: uint32(elf.PT_INTERP), Flags: uint32(elf.PF_R), Off: size, Vaddr: code + size, Filesz: uint64(len(loader)), Memsz: uint64(len(loader))},
		&elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: code, Filesz: size + uint64(len(loader)),
			Memsz: size + uint64(len(loader)), Align: 64 << 10},
		[]byte(loader),
	} {
		must(t, binary.Write(&b, binary.LittleEndian, part))
	}
	return b.Bytes()
}
