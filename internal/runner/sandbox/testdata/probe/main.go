// Probe is the program that tests run in containers. Each argument is a command;
// its result is a line of output, and the exit code is that of "exit".
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	for _, arg := range os.Args[1:] {
		words := strings.Fields(arg)
		do := commands[words[0]]
		if do == nil {
			fmt.Println("probe: no command", words[0])
			os.Exit(99)
		}
		out, err := do(words[1:])
		if err != nil {
			fmt.Printf("%s: error: %v\n", arg, err)
		} else if out != "" {
			fmt.Println(strings.TrimRight(out, "\n"))
		}
	}
}

var commands map[string]func([]string) (string, error)

func init() {
	commands = map[string]func([]string) (string, error){
		"echo": func(a []string) (string, error) { return strings.Join(a, " "), nil },
		"cat":  cat,
		"write": func(a []string) (string, error) {
			return "", os.WriteFile(a[0], []byte(strings.Join(a[1:], " ")), 0o644)
		},
		"append": func(a []string) (string, error) {
			f, err := os.OpenFile(a[0], os.O_WRONLY, 0)
			if err != nil {
				return "", err
			}
			defer f.Close()
			_, err = f.WriteString(strings.Join(a[1:], " "))
			return "", err
		},
		"mkdir":    func(a []string) (string, error) { return "", os.Mkdir(a[0], 0o755) },
		"ls":       ls,
		"stat":     stat,
		"readlink": func(a []string) (string, error) { return os.Readlink(a[0]) },
		"pwd":      func([]string) (string, error) { return os.Getwd() },
		"env":      func(a []string) (string, error) { return os.Getenv(a[0]), nil },
		"hostname": func([]string) (string, error) { return os.Hostname() },
		"id": func([]string) (string, error) {
			groups, _ := os.Getgroups()
			return fmt.Sprint(os.Getuid(), os.Geteuid(), os.Getgid(), groups), nil
		},
		"pid": func([]string) (string, error) { return fmt.Sprint(os.Getpid()), nil },
		"sid": func([]string) (string, error) {
			s, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
			return fmt.Sprint(s), nil
		},
		"umask":  func([]string) (string, error) { return fmt.Sprintf("%04o", syscall.Umask(0)), nil },
		"status": status,
		"fds":    fds,
		"exit":   func(a []string) (string, error) { n, err := strconv.Atoi(a[0]); os.Exit(n); return "", err },
		"sleep":  func(a []string) (string, error) { d, err := time.ParseDuration(a[0]); time.Sleep(d); return "", err },
		"kill": func(a []string) (string, error) {
			pid, err := strconv.Atoi(a[0])
			if err != nil {
				return "", err
			}
			return "", syscall.Kill(pid, 0)
		},
		"swaps":     swaps,
		"spy":       spy,
		"status-of": func(a []string) (string, error) { return statusOf("/proc/"+a[0]+"/status", a[1:]) },
		"ids-of":    idsOf,
		"write-exe": writeExe,
		"mount":     func(a []string) (string, error) { return "", syscall.Mount("tmpfs", a[0], "tmpfs", 0, "") },
		"mknod":     mknod,
		"syscall":   rawSyscall,
		"socket": func(a []string) (string, error) {
			n, err := strconv.Atoi(a[0])
			if err != nil {
				return "", err
			}
			_, err = syscall.Socket(n, syscall.SOCK_STREAM, 0)
			return "", err
		},
		"run":     run,
		"spawn":   spawn,
		"orphans": orphans,
		"trap":    trap,
		"eat":     eat,
		"threads": threads,
		"flood": func(a []string) (string, error) {
			w := bufio.NewWriter(os.Stdout)
			defer w.Flush()
			for i := range 1000 {
				fmt.Fprintln(w, "line", i)
			}
			return "", nil
		},
		"processes": processes,
		"wait-file": func(a []string) (string, error) {
			for range 2000 {
				if _, err := os.Stat(a[0]); err == nil {
					return "", nil
				}
				time.Sleep(5 * time.Millisecond)
			}
			return "", fmt.Errorf("%s does not appear", a[0])
		},
		"flags": func(a []string) (string, error) {
			var st syscall.Statfs_t
			err := syscall.Statfs(a[0], &st)
			return fmt.Sprintf("ro=%v nosuid=%v nodev=%v noexec=%v", st.Flags&1 != 0, st.Flags&2 != 0, st.Flags&4 != 0, st.Flags&8 != 0), err
		},
		"chmod": func(a []string) (string, error) {
			mode, err := strconv.ParseUint(a[0], 8, 32)
			if err != nil {
				return "", err
			}
			return "", syscall.Chmod(a[1], uint32(mode))
		},
		"chown": func(a []string) (string, error) {
			id, err := strconv.Atoi(a[0])
			if err != nil {
				return "", err
			}
			return "", os.Lchown(a[1], id, id)
		},
		"link":   func(a []string) (string, error) { return "", os.Symlink(a[0], a[1]) },
		"fifo":   func(a []string) (string, error) { return "", syscall.Mkfifo(a[0], 0o600) },
		"device": func(a []string) (string, error) { return "", syscall.Mknod(a[0], syscall.S_IFCHR|0o600, 1<<8|3) },
		"listen": listen,
		"fix":    immutable,
		"deep":   deep,
		"tty": func([]string) (string, error) {
			f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
			if err != nil {
				return "", err
			}
			return "a controlling terminal", f.Close()
		},
	}
}

func cat(a []string) (string, error) {
	text, err := os.ReadFile(a[0])
	if len(text) > 4096 {
		text = text[:4096]
	}
	return string(text), err
}

func ls(a []string) (string, error) {
	entries, err := os.ReadDir(a[0])
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " "), err
}

func stat(a []string) (string, error) {
	info, err := os.Stat(a[0])
	if err != nil {
		return "", err
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%v %d %d", info.Mode(), st.Uid, st.Gid), nil
}

// status prints fields of /proc/self/status.
func status(a []string) (string, error) { return statusOf("/proc/self/status", a) }

func statusOf(path string, a []string) (string, error) {
	text, err := os.ReadFile(path)
	var out []string
	for _, line := range strings.Split(string(text), "\n") {
		for _, want := range a {
			if value, ok := strings.CutPrefix(line, want+":"); ok {
				out = append(out, want+"="+strings.TrimSpace(value))
			}
		}
	}
	return strings.Join(out, " "), err
}

// fds prints what the standard streams and other descriptors are that this
// process was born with.
func fds([]string) (string, error) {
	var list []string
	for fd := range 1024 {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || strings.HasPrefix(name, "anon_inode:") {
			continue // the Go runtime's poller
		}
		list = append(list, fmt.Sprint(fd))
	}
	return strings.Join(list, " "), nil
}

// listen makes a socket, and leaves it.
func listen(a []string) (string, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	return "", syscall.Bind(fd, &syscall.SockaddrUnix{Name: a[0]})
}

// immutable makes a file or directory so that nobody can change or remove it.
func immutable(a []string) (string, error) {
	f, err := os.Open(a[0])
	if err != nil {
		return "", err
	}
	defer f.Close()
	// The others stay as they are: ext4 takes the lack of one for a wish to convert
	// the file, which it cannot always fulfil.
	var flags int32
	const get, set = 0x80086601, 0x40086602
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), get, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return "", errno
	}
	flags |= 0x10 // FS_IMMUTABLE_FL
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), set, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return "", errno
	}
	return "", nil
}

// deep makes directories one in another, with a file in the last, and works in
// the last from then on.
func deep(a []string) (string, error) {
	levels, err := strconv.Atoi(a[1])
	if err != nil {
		return "", err
	}
	if err := os.Chdir(a[0]); err != nil {
		return "", err
	}
	for range levels {
		if err := syscall.Mkdir("d", 0o755); err != nil {
			return "", err
		}
		if err := syscall.Chdir("d"); err != nil {
			return "", err
		}
	}
	return "", os.WriteFile("file", make([]byte, 100<<10), 0o644)
}

func processes([]string) (string, error) {
	dir, err := os.ReadDir("/proc")
	var pids []int
	for _, e := range dir {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	sort.Ints(pids)
	return fmt.Sprint(pids), err
}

// mknod creates a device and opens it.
func mknod(a []string) (string, error) {
	major, _ := strconv.Atoi(a[1])
	minor, _ := strconv.Atoi(a[2])
	if err := syscall.Mknod(a[0], syscall.S_IFCHR|0o666, major<<8|minor); err != nil {
		return "", fmt.Errorf("mknod: %w", err)
	}
	f, err := os.Open(a[0])
	if err != nil {
		return "", err
	}
	return "opened", f.Close()
}

func rawSyscall(a []string) (string, error) {
	var n [4]uintptr
	for i, s := range a {
		v, err := strconv.ParseUint(s, 0, 64)
		if err != nil {
			return "", err
		}
		n[i] = uintptr(v)
	}
	r, _, errno := syscall.RawSyscall(n[0], n[1], n[2], n[3])
	if errno != 0 {
		return "", errno
	}
	return fmt.Sprint("result ", r), nil
}

// run executes a program and prints its output.
func run(a []string) (string, error) {
	cmd := exec.Command(a[0], strings.ReplaceAll(strings.Join(a[1:], " "), "_", " "))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// spawn starts a probe in the background, in a session of its own.
func spawn(a []string) (string, error) {
	cmd := exec.Command("/proc/self/exe", strings.Join(a, " "))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	return fmt.Sprint(cmd.Process.Pid), nil
}

// orphans starts processes whose parents end at once.
func orphans([]string) (string, error) {
	for range 3 {
		cmd := exec.Command("/proc/self/exe", "spawn sleep 1h")
		cmd.Stderr = os.Stdout // to which they hold on; what is spawned is not said
		if err := cmd.Run(); err != nil {
			return "", err
		}
	}
	return "", nil
}

// trap waits for SIGTERM, and says first that it does.
func trap([]string) (string, error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	fmt.Println("ready")
	return fmt.Sprint(<-signals), nil
}

// eat takes so many MiB of memory.
func eat(a []string) (string, error) {
	n, err := strconv.Atoi(a[0])
	if err != nil {
		return "", err
	}
	mem, err := syscall.Mmap(-1, 0, n<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return "", err
	}
	for i := 0; i < len(mem); i += 4096 {
		mem[i] = 1
	}
	return "fed", nil
}

// threads makes threads until it may not.
func threads(a []string) (string, error) {
	n, err := strconv.Atoi(a[0])
	if err != nil {
		return "", err
	}
	for i := range n {
		attr := &os.ProcAttr{}
		if _, err := os.StartProcess("/proc/self/exe", []string{"probe", "sleep 1h"}, attr); err != nil {
			return fmt.Sprint("refused after ", i), nil
		}
	}
	return "all", nil
}
