package victim

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Supervisors are the processes that own the victim's containers.
func (v *Victim) Supervisors() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), "\x00supervise\x00") || !strings.Contains(string(line), v.Data+"/") {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		pids = append(pids, pid)
	}
	return pids
}

// SignalSupervisors sends a signal to every supervisor, and returns how many there
// were. After SIGKILL it waits for their ends.
func (v *Victim) SignalSupervisors(sig syscall.Signal) (n int) {
	pids := v.Supervisors()
	for _, pid := range pids {
		if syscall.Kill(pid, sig) == nil {
			n++
		}
	}
	if sig != syscall.SIGKILL {
		return n
	}
	for end := time.Now().Add(10 * time.Second); len(v.Supervisors()) > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	return n
}

// Usage is what a process holds.
type Usage struct {
	Descriptors int
	Threads     int
	Resident    int64 // bytes
}

func (u Usage) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %d MB", u.Descriptors, u.Threads, u.Resident>>20)
}

// UsageOf returns what a process holds.
func UsageOf(pid int) (u Usage, err error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	u.Descriptors = len(open)
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			u.Resident = n << 10
		case "Threads":
			u.Threads = int(n)
		}
	}
	return u, nil
}
