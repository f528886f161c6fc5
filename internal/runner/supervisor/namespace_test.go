package supervisor

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sampan-batch/sampan/internal/runner"
)

// nobody is an ordinary user.
const nobody = 65534

// runAs runs tests of this package again in a process that was started so.
func runAs(t *testing.T, attr *syscall.SysProcAttr, tests, as string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^("+tests+")$", "-test.v", "-test.timeout=5m")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp", "HOME=/", asVar+"="+as)
	cmd.SysProcAttr = attr
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("\n--- PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestOrdinaryUser runs tests of this package as nobody.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	runAs(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}},
		"TestHost|TestNamespaces|TestEngineKilled", "")
}

// TestNamespaces: the supervisor of the class sandbox has a mount namespace of
// its own and, unless it is root, is root of a user namespace.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "a", "id -u; readlink /proc/self/ns/mnt /proc/self/ns/user; mount -t tmpfs x "+dir+" && touch "+dir+"/visible; exit 3")
	spec.Class, spec.LogPath = runner.Sandbox, filepath.Join(dir, "sandbox", "a.log")
	mustStart(t, c, spec)
	st := mustWait(t, c, spec.ID)
	got := logOf(t, spec)
	lines := strings.Split(got, "\n")
	if st.ExitCode != 3 || len(lines) != 4 {
		t.Fatalf("%+v: %q", st, got)
	}
	mine := func(ns string) string {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	if lines[0] != "0" {
		t.Errorf("it runs as %s", lines[0])
	}
	if lines[1] == mine("mnt") {
		t.Error("it has the engine's mount namespace")
	}
	if (lines[2] == mine("user")) != (os.Geteuid() == 0) {
		t.Errorf("its user namespace is %s, the engine's %s", lines[2], mine("user"))
	}
	if exists(filepath.Join(dir, "visible")) {
		t.Error("a mount is visible outside")
	}
}

// TestRanges: an ordinary user to whom ids are given has them in the namespace.
func TestRanges(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 || ownRanges() == nil {
		t.Skip("no ids are given to this user, or newuidmap is not installed")
	}
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "a", "id -u; cat /proc/self/uid_map | wc -l; touch x && chown 12:34 x && stat -c %u:%g x")
	spec.Class = runner.Sandbox
	mustStart(t, c, spec)
	mustWait(t, c, spec.ID)
	if got := logOf(t, spec); got != "0\n2\n12:34\n" {
		t.Errorf("got %q", got)
	}
}

// TestRefused runs the next test where user namespaces are switched off: in a
// user namespace that allows none below it.
func TestRefused(t *testing.T) {
	t.Parallel()
	all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	runAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true},
		"TestWithoutNamespaces", "refused")
}

const maxNamespaces = "/proc/sys/user/max_user_namespaces"

func becomeRefused() error {
	if err := os.WriteFile(maxNamespaces, []byte("0"), 0); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody)); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// TestWithoutNamespaces: plain processes still run; for the others there is
// a reason, and a remedy.
func TestWithoutNamespaces(t *testing.T) {
	t.Parallel()
	if text, err := os.ReadFile(maxNamespaces); err != nil || strings.TrimSpace(string(text)) != "0" || os.Geteuid() == 0 {
		t.Skip("user namespaces are not switched off here")
	}
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "a", "exit 3")
	mustStart(t, c, spec)
	if st := mustWait(t, c, spec.ID); st.ExitCode != 3 {
		t.Errorf("%+v", st)
	}
	spec.Class, spec.ID = runner.Sandbox, "b_main_0"
	_, err := c.Start(t.Context(), spec)
	var start *runner.StartError
	if !errors.As(err, &start) || !strings.Contains(start.Message, "user.max_user_namespaces") {
		t.Errorf("%v", err)
	}
}

func TestSubordinate(t *testing.T) {
	t.Parallel()
	const text = "# comment\nroot:1:1\nann:100000:65536\n1000:300000:70000\nannette:5:99999999\nann:x:y\nann:7\n"
	tests := []struct {
		names []string
		want  idRange
		ok    bool
	}{
		{[]string{"1000", "ann"}, idRange{300000, 70000}, true},
		{[]string{"1001", "ann"}, idRange{100000, 65536}, true},
		{[]string{"1001"}, idRange{}, false},
	}
	for _, tc := range tests {
		if got, ok := parseSubordinate(text, tc.names); got != tc.want || ok != tc.ok {
			t.Errorf("%v: %v, %v", tc.names, got, ok)
		}
	}
}
