// Package conformance runs the suite of the runner contract against the
// sandbox, through its supervisor: as the user who runs the tests and, when that
// is root, as nobody too.
package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
	"github.com/sampan-batch/sampan/internal/runner/runnertest"
	"github.com/sampan-batch/sampan/internal/runner/sandbox"
	"github.com/sampan-batch/sampan/internal/runner/supervisor"
)

const (
	// asVar makes the test program a supervisor.
	asVar  = "SAMPAN_CONFORMANCE_AS"
	nobody = 65534
)

func TestMain(m *testing.M) {
	if os.Getenv(asVar) == "supervisor" {
		if err := supervise(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if code == 0 && os.Geteuid() == 0 {
		code = asNobody()
	}
	os.Exit(code)
}

func supervise() error {
	opts, err := supervisor.ParseArgs(os.Args[1:])
	if err != nil {
		return err
	}
	opts.Launchers = map[runner.Class]func(runner.LauncherEnv) (runner.Launcher, error){
		runner.Sandbox: func(env runner.LauncherEnv) (runner.Launcher, error) { return sandbox.New(env) },
	}
	return supervisor.Main(context.Background(), opts)
}

// asNobody runs the tests again as an ordinary user.
func asNobody() int {
	home, err := os.MkdirTemp("", "conformance-")
	if err == nil {
		defer os.RemoveAll(home)
		err = os.Chown(home, nobody, nobody)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	fmt.Println("=== as an ordinary user")
	var args []string
	for _, arg := range os.Args[1:] {
		if !strings.HasPrefix(arg, "-test.testlogfile") && !strings.Contains(arg, "profile") {
			args = append(args, arg)
		}
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stderr, home
	cmd.Env = append(os.Environ(), "TMPDIR="+home, "HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return 0
}

func TestSandbox(t *testing.T) {
	t.Parallel()
	if err := tryNamespaces(); err != nil {
		t.Skip("this machine refuses the namespaces that containers need:", err)
	}
	layer := busyboxLayer(t)
	runnertest.Run(t, func(t *testing.T) runner.Runner {
		dir := t.TempDir()
		t.Cleanup(func() { stop(t, dir) })
		return &client{open(t, dir), dir}
	}, runnertest.Options{
		Class: runner.Sandbox,
		Prepare: func(_ *testing.T, spec *runner.Spec) {
			spec.Layers = []string{layer}
			spec.Hostname = spec.Pod.Name
			spec.AllowPrivilegeEscalation = true
			spec.Capabilities = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"}
		},
		Reconnect: func(t *testing.T, r runner.Runner) runner.Runner {
			old := r.(*client)
			if err := old.Close(); err != nil {
				t.Error(err)
			}
			return &client{open(t, old.dir), old.dir}
		},
		KillSupervisor: func(t *testing.T, r runner.Runner) {
			killed := false
			eachProcess(t, func(pid int) {
				line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				if err == nil && bytes.Contains(line, []byte("--dir="+r.(*client).dir+"\x00")) {
					killed = syscall.Kill(pid, syscall.SIGKILL) == nil
				}
			})
			if !killed {
				t.Error("there is no supervisor")
			}
		},
		Alive: alive,
	})
}

// A container runs as any user, whether the supervisor is root's, or that of a
// user with subordinate ids, or without.
func TestUser(t *testing.T) {
	t.Parallel()
	if err := tryNamespaces(); err != nil {
		t.Skip("this machine refuses the namespaces that containers need:", err)
	}
	dir, uid, gid := t.TempDir(), uint32(1000), uint32(100)
	t.Cleanup(func() { stop(t, dir) })
	c := open(t, dir)
	spec := &runner.Spec{
		ID: "user_main_0", Class: runner.Sandbox, Container: "main", Pod: runner.PodRef{Namespace: "default", Name: "user", UID: "user"},
		Args: []string{"sh", "-c", "id -u; id -g; touch /tmp/mine && stat -c %u:%g /tmp/mine; cat /proc/self/uid_map >&2"},
		UID:  &uid, GID: &gid, Layers: []string{busyboxLayer(t)}, LogPath: filepath.Join(dir, "log"),
	}
	if _, err := c.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(t.Context(), spec.ID); err != nil || st.ExitCode != 0 {
		t.Errorf("ended with %+v %v", st, err)
	}
	if err := c.Remove(t.Context(), spec.ID); err != nil {
		t.Error(err)
	}
	var out, idMap bytes.Buffer
	for stream, to := range map[crilog.Stream]*bytes.Buffer{crilog.Stdout: &out, crilog.Stderr: &idMap} {
		if err := crilog.Read(t.Context(), spec.LogPath, crilog.Options{Stream: stream}, to); err != nil {
			t.Fatal(err)
		}
	}
	if want := "1000\n100\n1000:100\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	t.Logf("its ids: %s", idMap.String())
}

// TestEscape: in the machine's pid namespace a container's processes are its
// own too, wherever they have gone.
func TestEscape(t *testing.T) {
	t.Parallel()
	if err := tryNamespaces(); err != nil {
		t.Skip("this machine refuses the namespaces that containers need:", err)
	}
	dir := t.TempDir()
	t.Cleanup(func() { stop(t, dir) })
	c := open(t, dir)
	spec := &runner.Spec{
		ID: "escape_main_0", Class: runner.Sandbox, Container: "main", Pod: runner.PodRef{Namespace: "default", Name: "escape", UID: "escape"},
		Args:    []string{"sh", "-c", "setsid env -i unshare -m sleep 1000 & sleep 0.5; echo $!"},
		HostPID: true, Privileged: true, Capabilities: []string{"CAP_SYS_ADMIN"}, AllowPrivilegeEscalation: true,
		Layers: []string{busyboxLayer(t)}, LogPath: filepath.Join(dir, "log"),
	}
	if _, err := c.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(t.Context(), spec.ID); err != nil || st.ExitCode != 0 {
		t.Errorf("ended with %+v %v", st, err)
	}
	var out bytes.Buffer
	if err := crilog.Read(t.Context(), spec.LogPath, crilog.Options{}, &out); err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(out.String())
	if _, err := strconv.Atoi(pid); err != nil {
		t.Fatalf("it wrote %q", pid)
	}
	if alive(t, spec, pid) {
		t.Error("a process in a mount namespace of its own goes on")
	}
	if err := c.Remove(t.Context(), spec.ID); err != nil {
		t.Error(err)
	}
}

func tryNamespaces() error {
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	err := cmd.Start()
	if err == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return err
}

// client is a runner.Runner whose directory is known.
type client struct {
	*supervisor.Client
	dir string
}

func open(t *testing.T, dir string) *supervisor.Client {
	t.Helper()
	c, err := supervisor.Open(t.Context(), dir, supervisor.ClientOptions{
		Private: true, Command: supervisor.Command{Path: "/proc/self/exe", Env: []string{asVar + "=supervisor"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// stop stops the supervisor, which must leave nothing but its log.
func stop(t *testing.T, dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's has ended
	defer cancel()
	c, err := supervisor.Open(ctx, dir, supervisor.ClientOptions{
		Private: true, Command: supervisor.Command{Path: "/proc/self/exe", Env: []string{asVar + "=supervisor"}},
	})
	if err == nil {
		err = c.Stop(ctx)
	}
	if err != nil {
		t.Errorf("stop: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "sandbox", "launcher", "[uw]*", "*")); err != nil || len(left) > 0 {
		t.Errorf("containers are left on disk: %q %v", left, err)
	}
	if t.Failed() {
		text, _ := os.ReadFile(filepath.Join(dir, "sandbox", "log"))
		t.Logf("the supervisor's log:\n%s", text)
	}
}

// alive tells whether the container has a process that knows itself as pid.
func alive(t *testing.T, spec *runner.Spec, pid string) bool {
	found := false
	eachProcess(t, func(outside int) {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", outside))
		if err != nil || !bytes.Contains(mounts, []byte("/upper/"+spec.ID+",")) {
			return
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", outside))
		if err != nil {
			return
		}
		for line := range strings.Lines(string(status)) {
			if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
				fields := strings.Fields(ids)
				found = found || fields[len(fields)-1] == pid
			}
		}
	})
	return found
}

func eachProcess(t *testing.T, f func(pid int)) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			f(pid)
		}
	}
}

// busyboxLayer returns a root file system with busybox and nothing else.
func busyboxLayer(t *testing.T) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("the suite needs a static busybox: apt-get install busybox-static")
	}
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	layer := t.TempDir()
	bin := filepath.Join(layer, "bin")
	for _, err := range []error{
		os.Chmod(layer, 0o755), os.Mkdir(bin, 0o755),
		os.Mkdir(filepath.Join(layer, "tmp"), 0o777), os.Chmod(filepath.Join(layer, "tmp"), 0o1777|os.ModeSticky),
		os.WriteFile(filepath.Join(bin, "busybox"), data, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range strings.FieldsSeq(string(list)) {
		if name == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return layer
}
