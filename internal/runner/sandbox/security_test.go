package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const fields = "status CapInh CapPrm CapEff CapBnd CapAmb"
	words := func(prm, bnd string) string {
		return fmt.Sprintf("CapInh=%016s CapPrm=%016s CapEff=%016s CapBnd=%016s CapAmb=%016s", "0", prm, prm, bnd, "0")
	}
	f.want(t, f.spec(fields), words("a80425fb", "a80425fb")) // what docker run shows

	none := f.spec(fields)
	none.Capabilities = nil
	f.want(t, none, words("0", "0"))

	net := f.spec(fields)
	net.Capabilities = []string{"CAP_NET_ADMIN"}
	f.want(t, net, words("1000", "1000"))

	user := f.spec(fields, "id")
	user.UID, user.GID = ptr(uint32(1000)), ptr(uint32(100))
	f.want(t, user, words("0", "a80425fb"), "1000 1000 100 []")

	privileged := f.spec(fields, "status NoNewPrivs Seccomp")
	privileged.Privileged, privileged.Capabilities = true, f.host.caps.names()
	all := fmt.Sprintf("%x", uint64(f.host.caps))
	f.want(t, privileged, words(all, fmt.Sprintf("%x", uint64(bounding(t)))), "NoNewPrivs=0 Seccomp=0")
}

// bounding is the bounding set of this process.
func bounding(t *testing.T) (set capSet) {
	for n := range 64 {
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err == nil && v == 1 {
			set |= 1 << n
		}
	}
	return set
}

func TestUsers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("id", "write /tmp/a x", "stat /tmp/a", "write /bin/a x", "stat /dev/stdout", "write /dev/stderr through")
	spec.UID, spec.GID, spec.Groups = ptr(uint32(4711)), ptr(uint32(12)), []uint32{7, 8}
	want := []string{"4711 4711 12 [7 8]", "-rw-r--r-- 4711 12"}
	out, _ := f.run(t, spec)
	if single(t) { // without subordinate ids there are no groups, and all files are the user's
		want[0] = "4711 4711 12 []"
		if strings.Contains(out, "/bin/a") {
			t.Errorf("the image of an ordinary user is not its own: %s", out)
		}
	} else if !strings.Contains(out, "write /bin/a x: error: open /bin/a: permission denied") {
		t.Errorf("user 4711 writes to /bin: %s", out)
	}
	for _, line := range append(want, "through") {
		if !strings.Contains(out, line) {
			t.Errorf("%q is not in\n%s", line, out)
		}
	}
}

func TestSetuid(t *testing.T) {
	t.Parallel()
	if single(t) {
		t.Skip("an ordinary user without subordinate ids has no second user to become")
	}
	f := setup(t)
	copyFile(t, os.Getenv(probeVar), filepath.Join(f.layer, "bin", "suid"), 0o755|os.ModeSetuid)
	for _, allowed := range []bool{false, true} {
		spec := f.spec("run /bin/suid id", "status NoNewPrivs")
		spec.UID, spec.GID, spec.AllowPrivilegeEscalation = ptr(uint32(1000)), ptr(uint32(1000)), allowed
		if allowed {
			f.want(t, spec, "1000 0 1000 []", "NoNewPrivs=0")
		} else {
			f.want(t, spec, "1000 1000 1000 []", "NoNewPrivs=1")
		}
	}
}

func TestSeccomp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	sys := func(nr int, args ...string) string { return fmt.Sprint("syscall ", nr, " ", strings.Join(args, " ")) }
	calls := []struct {
		call, want string
	}{
		{"status Seccomp", "Seccomp=2"},
		{"mount /tmp", "operation not permitted"},
		{sys(unix.SYS_UNSHARE, fmt.Sprint(unix.CLONE_NEWUSER)), "operation not permitted"},
		{sys(unix.SYS_KEYCTL, "0"), "operation not permitted"},
		{sys(unix.SYS_INIT_MODULE, "0"), "operation not permitted"},
		{sys(unix.SYS_FINIT_MODULE, "0"), "operation not permitted"},
		{sys(unix.SYS_BPF, "0"), "operation not permitted"},
		{sys(unix.SYS_USERFAULTFD, "0"), "operation not permitted"},
		{sys(unix.SYS_IO_URING_SETUP, "0"), "operation not permitted"},
		{sys(unix.SYS_CLONE3, "0"), "function not implemented"},
		{sys(5000), "function not implemented"},
		{sys(0x40000000), "function not implemented"}, // x32
		{sys(unix.SYS_PERSONALITY, "0xffffffff"), "result 0"},
		{sys(unix.SYS_PERSONALITY, "0x40000"), "operation not permitted"},
		{"socket 40", "operation not permitted"}, // AF_VSOCK
		{"socket 38", "operation not permitted"}, // AF_ALG
		{"socket 1", ""},
		{"socket 2", ""},
	}
	var commands, want []string
	for _, c := range calls {
		commands = append(commands, c.call)
		switch {
		case strings.Contains(c.want, "=") || strings.HasPrefix(c.want, "result"):
			want = append(want, c.want)
		case c.want != "":
			want = append(want, c.call+": error: "+c.want)
		}
	}
	f.want(t, f.spec(commands...), want...)

	unconfined := f.spec("status Seccomp")
	unconfined.SeccompUnconfined = true
	f.want(t, unconfined, "Seccomp=0")

	// With the capability the calls exist, and are refused by others.
	admin := f.spec(sys(unix.SYS_UNSHARE, fmt.Sprint(unix.CLONE_NEWUTS)), "status Seccomp")
	admin.Capabilities = append([]string{"CAP_SYS_ADMIN"}, defaultCapabilities...)
	f.want(t, admin, "result 0", "Seccomp=2")
}

func TestProcessesOutsideAreOutOfReach(t *testing.T) {
	t.Parallel()
	f := setup(t)
	out, _ := f.run(t, f.spec("processes", fmt.Sprintf("kill %d", os.Getpid()), fmt.Sprintf("kill %d", os.Getppid()), "kill -1"))
	want := fmt.Sprintf("[1]\nkill %d: error: no such process\nkill %d: error: no such process\nkill -1: error: no such process", os.Getpid(), os.Getppid())
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	ptrace := fmt.Sprintf("syscall %d 16 %d", unix.SYS_PTRACE, os.Getpid()) // PTRACE_ATTACH
	f.want(t, f.spec(ptrace), ptrace+": error: no such process")

	host := f.spec(fmt.Sprintf("kill %d", os.Getpid()), ptrace)
	host.HostPID = true
	out, _ = f.run(t, host)
	if !strings.Contains(out, ptrace+": error: operation not permitted") {
		t.Errorf("with the machine's processes in sight: %s", out)
	}
}

func TestFilesOutsideAreOutOfReach(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("write /etc/image changed", "write /srv/new x", "cat /etc/image",
		"ls /", "readlink /proc/1/root", "cat "+filepath.Join(f.layer, "etc", "image"), "cat /proc/1/root/etc/image",
		"write /proc/sys/kernel/hostname x", "write /sys/kernel/mm/ksm/run 1", "flags /", "flags /sys", "flags /dev")
	out, _ := f.run(t, spec)
	lines := strings.Split(out, "\n")
	want := []string{
		"changed",
		"bin dev etc proc srv sys tmp",
		"/",
		"no such file or directory",
		"changed",
		"read-only file system", "read-only file system",
		"ro=false nosuid=false nodev=true noexec=false",
		"ro=true nosuid=true nodev=true noexec=true",
		"ro=false nosuid=true nodev=true noexec=false",
	}
	if len(lines) != len(want) {
		t.Fatalf("got\n%s", out)
	}
	for i := range want {
		if !strings.HasSuffix(lines[i], want[i]) {
			t.Errorf("got %q, want %q", lines[i], want[i])
		}
	}
	if text, err := os.ReadFile(filepath.Join(f.layer, "etc", "image")); err != nil || string(text) != "from the image" {
		t.Errorf("the image is now %q %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(f.layer, "srv", "new")); err == nil {
		t.Error("a file of the container is in the image")
	}
}

func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777))
	spec := f.spec("write /a x", "write /tmp/a x", "write /data/a x", "cat /data/a", "write /dev/shm/a x", "echo end")
	spec.ReadOnlyRoot, spec.Dir = true, "/made"
	spec.Mounts = []runner.Mount{{Source: dir, Target: "/data"}}
	f.want(t, spec, "write /a x: error: open /a: read-only file system", "write /tmp/a x: error: open /tmp/a: read-only file system",
		"x", "end")
}

func TestMaskedPaths(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var commands []string
	for _, path := range f.kit.masked {
		commands = append(commands, "cat /proc/"+path)
	}
	for _, path := range f.kit.maskedDirs {
		path = "/proc/" + path
		commands = append(commands, "ls "+path, "mkdir "+path+"/x")
	}
	for _, path := range []string{"/sys/firmware", "/sys/devices/virtual/powercap"} {
		if _, err := os.Stat(path); err == nil {
			commands = append(commands, "ls "+path)
		}
	}
	if len(commands) < 3 {
		t.Fatalf("this machine has none of the paths: %q", commands)
	}
	out, _ := f.run(t, f.spec(commands...))
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, "read-only file system") {
			t.Errorf("a masked path shows %q", line)
		}
	}
	for _, path := range f.kit.readOnly {
		f.want(t, f.spec("flags /proc/"+path), "ro=true nosuid=true nodev=true noexec=true")
	}
}

func TestDevices(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := f.spec("ls /dev", "write /dev/null x", "write /dev/full x", "stat /dev/shm", "readlink /dev/fd", "readlink /dev/ptmx", "tty",
		"mknod /tmp/mem 1 1", "mknod /dev/mem 1 1")
	out, _ := f.run(t, spec)
	lines := strings.Split(out, "\n")
	want := []string{
		"fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
		"write /dev/full x: error: write /dev/full: no space left on device",
		"dtrwxrwxrwx 0 0", "/proc/self/fd", "pts/ptmx",
		"tty: error: open /dev/tty: no such device or address",
		"mknod /tmp/mem 1 1: error: open /tmp/mem: permission denied",
		"mknod /dev/mem 1 1: error: open /dev/mem: permission denied",
	}
	if ordinary(t) { // nodes cannot even be made
		want[6] = "mknod /tmp/mem 1 1: error: mknod: operation not permitted"
		want[7] = "mknod /dev/mem 1 1: error: mknod: operation not permitted"
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", out, strings.Join(want, "\n"))
	}
}

// A hostile image has links where mounts go. They must lead nowhere but into
// the container.
func TestHostileImage(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	must(t, os.Mkdir(filepath.Join(outside, "dir"), 0o777))
	must(t, os.WriteFile(filepath.Join(outside, "file"), []byte("outside"), 0o666))
	volume := t.TempDir()
	must(t, os.WriteFile(filepath.Join(volume, "mark"), []byte("volume"), 0o644))
	up := strings.Repeat("../", 20)
	for name, links := range map[string]map[string]string{
		"special":  {"dev": "/etc", "proc": "/srv", "sys": "/tmp"},
		"absolute": {"data": outside + "/dir", "file": outside + "/file"},
		"relative": {"data": up + outside + "/dir", "file": up + outside + "/file"},
		"parent":   {"mnt": outside, "data": "/mnt/dir", "file": "/mnt/file"},
		"proc":     {"data": "/proc/1/root" + outside + "/dir", "file": "/proc/1/cwd" + outside + "/file"},
		"old root": {"data": "/proc/self/cwd" + outside + "/dir", "file": "/proc/self/fd/3" + outside + "/file"},
		"loop":     {"data": "data", "file": "file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			for link, to := range links {
				_ = os.RemoveAll(filepath.Join(f.layer, link))
				must(t, os.Symlink(to, filepath.Join(f.layer, link)))
			}
			spec := f.spec("write /data/new x", "append /file x", "cat /data/mark", "write "+outside+"/dir/escaped x")
			spec.Mounts = []runner.Mount{
				{Source: volume, Target: "/data", ReadOnly: true},
				{Source: filepath.Join(volume, "mark"), Target: "/file", ReadOnly: true},
			}
			r, w, err := os.Pipe()
			must(t, err)
			p, err := f.Launch(context.Background(), spec, nil, w, w)
			w.Close()
			if err != nil {
				t.Logf("refused: %v", err)
			} else {
				out, _ := (&running{p, t, collect(r)}).wait()
				t.Log(out)
			}
			if left, err := os.ReadDir(filepath.Join(outside, "dir")); err != nil || len(left) > 0 {
				t.Errorf("written outside: %v %v", left, err)
			}
			if text, err := os.ReadFile(filepath.Join(outside, "file")); err != nil || string(text) != "outside" {
				t.Errorf("written outside: %q %v", text, err)
			}
			if text, err := os.ReadFile(filepath.Join(volume, "mark")); err != nil || string(text) != "volume" {
				t.Errorf("the volume was written: %q %v", text, err)
			}
		})
	}
}
