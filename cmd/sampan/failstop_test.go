package main_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// served is a `sampan serve` of a test, with the kubectl that talks to it.
type served struct {
	t      *testing.T
	tools  *tools
	data   string
	cmd    *exec.Cmd
	stderr bytes.Buffer // to be read when it has ended
	ended  chan struct{}
}

func startServe(t *testing.T, env ...string) *served {
	t.Helper()
	s := &served{t: t, tools: buildTools(t), data: filepath.Join(t.TempDir(), "data"), ended: make(chan struct{})}
	bin := filepath.Join(s.tools.bin, "sampan")
	s.cmd = exec.Command(bin, "serve", "--runtime=host", "--data-dir", s.data, "--listen", "127.0.0.1:0")
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.data}, env...)
	s.cmd.Stderr = &s.stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		if out, err := exec.Command(bin, "stop", "--data-dir", s.data, "--grace-period", "1s").CombinedOutput(); err != nil {
			t.Errorf("sampan stop: %v\n%s", err, out)
		}
	})
	line := make([]byte, 4096)
	n, err := out.Read(line)
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	if err != nil || !strings.HasPrefix(string(line[:n]), "sampan is ready: ") {
		t.Fatalf("serve says %q, %v", line[:n], err)
	}
	return s
}

// kubectl returns what it prints, and whether it succeeded.
func (s *served) kubectl(args ...string) (string, bool) {
	cmd := exec.Command(filepath.Join(s.tools.bin, "kubectl"), args...)
	cmd.Env = []string{"KUBECONFIG=" + filepath.Join(s.data, "kubeconfig"), "HOME=" + s.data}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// failSyncs makes every second sync of each thread of the engine fail, until one
// does of which nobody can say what it has left on the disk.
func (s *served) failSyncs() {
	s.t.Helper()
	cmd := exec.Command("strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=2+2",
		"-p", fmt.Sprint(s.cmd.Process.Pid))
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("apt-get install strace: %v", err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	deadline := time.Now().Add(time.Minute)
	for i := 0; time.Now().Before(deadline); i++ {
		out, ok := s.kubectl("create", "configmap", fmt.Sprint("c", i))
		switch {
		case !ok && strings.Contains(out, "restart to continue from what the disk holds"), s.hasEnded(0):
			return
		case !ok && !strings.Contains(out, "input/output error") && !strings.Contains(out, "connect") && !strings.Contains(out, "EOF"):
			s.t.Fatalf("refused for another reason: %s", out)
		}
	}
	s.t.Fatal("no sync has failed within a minute")
}

func (s *served) hasEnded(within time.Duration) bool {
	select {
	case <-s.ended:
		return true
	case <-time.After(within):
		return false
	}
}

// TestFailStopAlone: an engine that nobody starts again goes on to show what is
// stored, and says that it does not live.
func TestFailStopAlone(t *testing.T) {
	t.Parallel()
	s := startServe(t)
	if out, ok := s.kubectl("create", "configmap", "before"); !ok {
		t.Fatal(out)
	}
	s.failSyncs()
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		if out, ok := s.kubectl("get", "--raw", path); ok || !strings.Contains(out, `[-]store failed: reason withheld\n`) {
			t.Errorf("%s: %s", path, out)
		}
	}
	out, ok := s.kubectl("get", "--raw", "/livez/store")
	if ok || !strings.Contains(out, filepath.Join(s.data, "store.db")) || !strings.Contains(out, "restart to continue") {
		t.Errorf("why: %s", out)
	}
	if out, ok := s.kubectl("get", "configmap", "before"); !ok {
		t.Errorf("what is stored: %s", out)
	}
	if out, ok := s.kubectl("create", "configmap", "after"); ok {
		t.Errorf("it was created: %s", out)
	}
	if s.hasEnded(100 * time.Millisecond) {
		t.Error("the engine has ended")
	}
}

// TestFailStopSupervised: under a service manager that is told how the engine
// fares, it ends with a line that says why, and what it is told stops before.
func TestFailStopSupervised(t *testing.T) {
	t.Parallel()
	m := listenAsManager(t)
	s := startServe(t, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=400000")
	m.await(t, "READY=1")
	m.await(t, "STATUS=ready: https://127.0.0.1:")
	for range 5 {
		m.await(t, "WATCHDOG=1")
	}
	if out, ok := s.kubectl("create", "configmap", "before"); !ok {
		t.Fatal(out)
	}
	s.failSyncs()
	if !s.hasEnded(30 * time.Second) {
		t.Fatal("the engine goes on")
	}
	lines := strings.Split(strings.TrimSpace(s.stderr.String()), "\n")
	last := lines[len(lines)-1]
	if s.cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(last, "error: ending, to be started again by the service manager") ||
		!strings.Contains(last, "store.db") || !strings.Contains(last, "input/output error") {
		t.Errorf("exit %d, last line %q", s.cmd.ProcessState.ExitCode(), last)
	}
	m.await(t, "STOPPING=1")

	// What was acknowledged is there when it is started again, by hand here.
	again := exec.Command(s.cmd.Path, s.cmd.Args[1:]...)
	again.Env = slices.DeleteFunc(slices.Clone(s.cmd.Env), func(v string) bool { return strings.HasPrefix(v, "NOTIFY_SOCKET=") })
	out, err := again.StdoutPipe()
	if err == nil {
		err = again.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Process.Kill(); _ = again.Wait() }()
	if n, err := out.Read(make([]byte, 4096)); err != nil {
		t.Fatalf("it does not start again: %d, %v", n, err)
	}
	if out, ok := s.kubectl("get", "configmap", "before"); !ok {
		t.Errorf("what was acknowledged: %s", out)
	}
}

// manager is a service manager that listens.
type manager struct {
	path string
	mu   sync.Mutex
	told []string
}

func listenAsManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{path: filepath.Join(dir, "socket")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.told = append(m.told, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	return m
}

// await waits until the engine says something that begins so, and forgets it.
func (m *manager) await(t *testing.T, begin string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		m.mu.Lock()
		i := slices.IndexFunc(m.told, func(s string) bool { return strings.HasPrefix(s, begin) })
		if i >= 0 {
			m.told = slices.Delete(m.told, i, i+1)
		}
		m.mu.Unlock()
		if i >= 0 {
			return
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t.Fatalf("the service manager was not told %q, but %q", begin, m.told)
}
