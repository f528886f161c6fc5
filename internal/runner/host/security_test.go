package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
)

// status returns fields of /proc/self/status as a container sees them.
func status(t *testing.T, l *Launcher, spec *runner.Spec) map[string]string {
	t.Helper()
	spec.Args = []string{"cat", "/proc/self/status"}
	return fields(output(t, l, spec))
}

func fields(text string) map[string]string {
	all := make(map[string]string)
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		all[key] = strings.TrimSpace(value)
	}
	return all
}

const nothing = "0000000000000000"

// TestRights: what a manifest takes away is taken away, and nothing else.
func TestRights(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	own, err := os.ReadFile("/proc/self/status")
	must(t, err)
	mine := fields(string(own))
	spec := podSpec()
	spec.AllowPrivilegeEscalation = true
	got := status(t, l, spec)
	for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Uid", "Gid", "Groups"} {
		if got[key] != mine[key] {
			t.Errorf("nothing said: %s is %s, ours %s", key, got[key], mine[key])
		}
	}
	spec.AllowPrivilegeEscalation = false
	if got = status(t, l, spec); got["NoNewPrivs"] != "1" {
		t.Errorf("no escalation: %v", got)
	}
	spec.AllowPrivilegeEscalation, spec.Capabilities = true, []string{}
	if got = status(t, l, spec); got["CapEff"] != nothing || got["CapPrm"] != nothing || got["CapAmb"] != nothing {
		t.Errorf("all dropped: %v", got)
	}
	if os.Geteuid() != 0 {
		if got["NoNewPrivs"] != "1" {
			t.Error("a set-user-id program would get back what was dropped")
		}
		return
	}
	if got["CapBnd"] != nothing || got["NoNewPrivs"] != "0" {
		t.Errorf("all dropped, as root: %v", got)
	}
	spec.Capabilities = []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}
	const two = "0000000000000401"
	if got = status(t, l, spec); got["CapEff"] != two || got["CapPrm"] != two || got["CapBnd"] != two {
		t.Errorf("two are left: %v", got)
	}
	spec.UID = ptr.To[uint32](12345)
	if got = status(t, l, spec); got["CapEff"] != nothing || got["CapBnd"] != two {
		t.Errorf("two are left to another user: %v", got)
	}
	spec.Capabilities = []string{"CAP_NONSENSE"}
	if _, err := l.Launch(t.Context(), spec, nil, os.Stdout, os.Stderr); err == nil || err.Error() != `unknown capability "CAP_NONSENSE"` {
		t.Errorf("%v", err)
	}
}

// TestExecRights: a process that is added has no more than the first.
func TestExecRights(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	spec := podSpec("sleep", "1000")
	spec.Capabilities = []string{}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	defer out.Close()
	p, err := l.Launch(t.Context(), spec, nil, out, out)
	must(t, err)
	added, err := p.Exec(t.Context(), runner.ExecSpec{Args: []string{"cat", "/proc/self/status", "/proc/self/oom_score_adj"}}, nil, out, out)
	must(t, err)
	_, err = added.Wait()
	must(t, err)
	text, err := os.ReadFile(out.Name())
	must(t, err)
	got := fields(string(text))
	if got["CapEff"] != nothing || got["NoNewPrivs"] != "1" || !strings.HasSuffix(string(text), "\n1000\n") {
		t.Errorf("%s", text)
	}
	must(t, p.Signal(9))
	_, err = p.Wait()
	must(t, errors.Join(err, p.Release()))
}

func TestRunAsNonRoot(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for _, uid := range []*uint32{nil, ptr.To[uint32](0), ptr.To[uint32](12345)} {
		spec := podSpec("true")
		spec.Pod.Namespace, spec.Pod.Name = "ns", "p"
		spec.RunAsNonRoot, spec.UID = true, uid
		if uid == nil && os.Geteuid() != 0 {
			output(t, l, spec)
			continue
		}
		if os.Geteuid() != 0 {
			continue // it cannot be anybody else
		}
		if uid != nil && *uid != 0 {
			output(t, l, spec)
			continue
		}
		_, err := l.Launch(t.Context(), spec, nil, os.Stdout, os.Stderr)
		var start *runner.StartError
		const want = `container has runAsNonRoot and image will run as root (pod: "p_ns(uid)", container: main)`
		if !errors.As(err, &start) || start.Reason != "CreateContainerConfigError" || start.Code != 0 || start.Message != want {
			t.Errorf("%v", err)
		}
	}
}

// TestInheritedFiles: what the engine's parent left open is not a container's.
func TestInheritedFiles(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	secret, err := unix.Open(os.DevNull, unix.O_RDONLY, 0) // without close-on-exec
	must(t, err)
	defer unix.Close(secret)
	if got := output(t, l, podSpec("sh", "-c", "echo /proc/self/fd/*")); strings.Contains(got, fmt.Sprintf("/fd/%d", secret)) {
		t.Errorf("it has %s", got)
	}
}

// TestOtherUser: a process of another user is one: its group, its home, and the
// ways to its directory and its last words.
func TestOtherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root has other users")
	}
	l := newLauncher(t)
	must(t, os.Chmod(l.env.Dir, 0o700))
	spec := podSpec("sh", "-c", `id -u; id -g; id -G; echo $HOME $USER $LOGNAME
		echo mine > "$(pwd)/file" && cat "$(pwd)/file"; echo last words > $SAMPAN_TERMINATION_LOG`)
	spec.UID, spec.Env = ptr.To[uint32](65534), []string{"PATH=" + os.Getenv("PATH")}
	spec.TerminationLog = filepath.Join(l.env.Dir, "termination")
	want := lookup(65534)
	if want.name != "nobody" || want.gid == 0 {
		t.Skipf("an unusual machine: nobody is %+v", want)
	}
	got := strings.Split(output(t, l, spec), "\n")
	gid := fmt.Sprint(want.gid)
	if all := []string{"65534", gid, gid, want.home + " nobody nobody", "mine", ""}; !slices.Equal(got, all) {
		t.Errorf("got %q, want %q", got, all)
	}
	if text, err := os.ReadFile(spec.TerminationLog); string(text) != "last words\n" {
		t.Errorf("its last words are %q, %v", text, err)
	}
	outside := l.dirs.outside.path
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside are %v, %v", entries, err)
	}
	must(t, l.RemovePod("uid"))
	if _, err := os.Stat(outside); err == nil || l.dirs.outside.path != "" {
		t.Error("the directory outside is left")
	}
	// Nobody whom the machine knows does not get root's group.
	spec = podSpec("sh", "-c", "id -u; id -g; echo $HOME $USER")
	spec.UID = ptr.To[uint32](12345)
	if got := output(t, l, spec); got != "12345\n12345\n/\n" {
		t.Errorf("unknown: %q", got)
	}
	// What a supervisor that died has left, the next one removes.
	left := l.dirs.outside.path
	if _, err := New(l.env); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("the former supervisor's directory is left")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestProcessLimit: where no control group bounds them, an ordinary user's
// containers together may have fewer processes than the supervisor.
func TestProcessLimit(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	if l.processes == 0 {
		t.Skip("control groups do it, or this is root")
	}
	var own unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NPROC, &own))
	got := output(t, l, podSpec("sh", "-c", "cat /proc/self/limits"))
	want := fmt.Sprintf("%d %d", l.processes, l.processes)
	for line := range strings.Lines(got) {
		if rest, ok := strings.CutPrefix(line, "Max processes"); ok && !strings.HasPrefix(strings.Join(strings.Fields(rest), " "), want) {
			t.Errorf("%s, want %s", line, want)
		}
	}
	if l.processes >= own.Cur {
		t.Errorf("%d is not less than our own %d", l.processes, own.Cur)
	}
}
