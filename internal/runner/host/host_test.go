package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath/hangs"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

func newLauncher(t *testing.T) *Launcher {
	t.Helper()
	l, err := New(runner.LauncherEnv{Dir: t.TempDir(), Reaper: reap.New(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if l.dirs.outside.path != "" {
			os.RemoveAll(l.dirs.outside.path)
		}
		if err := l.Finish(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func podSpec(args ...string) *runner.Spec {
	return &runner.Spec{ID: "uid_main_0", Container: "main", Args: args, Pod: runner.PodRef{UID: "uid"}}
}

// output runs a container to its end and returns what it wrote.
func output(t *testing.T, l *Launcher, spec *runner.Spec) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p, err := l.Launch(t.Context(), spec, nil, out, out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := p.Release(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	spec := podSpec("env")
	spec.Env = []string{"HOME=/elsewhere", "A=1"}
	spec.TerminationLog = "/tmp/termination-log"
	got := strings.Split(strings.TrimSpace(output(t, l, spec)), "\n")
	want := []string{"HOME=/elsewhere", "A=1", "PATH=" + os.Getenv("PATH"),
		"SAMPAN_TERMINATION_LOG=/tmp/termination-log", "SAMPAN_CONTAINER=" + l.env.Dir + "/uid_main_0"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	spec := podSpec("true")
	spec.Mounts = []runner.Mount{{Source: "/etc/", Target: "/etc"}}
	output(t, l, spec)
	spec.Mounts = append(spec.Mounts, runner.Mount{Source: "/etc", Target: "/config"})
	_, err := l.Launch(t.Context(), spec, nil, os.Stdout, os.Stderr)
	var start *runner.StartError
	if !errors.As(err, &start) || start.Reason != "CreateContainerConfigError" || !strings.Contains(start.Message, "/config") {
		t.Errorf("%v", err)
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	spec := podSpec("sh", "-c", "id -u; id -g; id -G; touch mine")
	spec.UID, spec.GID, spec.Groups = ptr.To[uint32](12345), ptr.To[uint32](54321), []uint32{7, 8}
	if os.Geteuid() != 0 {
		_, err := l.Launch(t.Context(), spec, nil, os.Stdout, os.Stderr)
		var start *runner.StartError
		if !errors.As(err, &start) || start.Reason != "CreateContainerConfigError" {
			t.Errorf("%v", err)
		}
		return
	}
	// It can write in its directory, although those above are closed to it.
	if err := os.Chmod(l.env.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := output(t, l, spec); got != "12345\n54321\n54321 7 8\n" {
		t.Errorf("got %q", got)
	}
	spec.Dir = "/"
	if got := output(t, l, spec); !strings.Contains(got, "Permission denied") {
		t.Errorf("got %q", got)
	}
}

func TestWorkDirs(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	in := func(uid, script string) string {
		spec := podSpec("sh", "-c", script)
		spec.Pod.UID = uid
		return output(t, l, spec)
	}
	first := in("a", "pwd; touch x")
	if got := in("a", "pwd; ls"); got != first+"x\n" {
		t.Errorf("the same pod: %q, want %q", got, first)
	}
	if got := in("b", "ls; pwd; chmod 700 ."); got == first || !strings.HasPrefix(got, l.env.Dir) {
		t.Errorf("another pod: %q", got)
	}
	for _, uid := range []string{"a", "b", "nobody"} {
		if err := l.RemovePod(uid); err != nil {
			t.Error(err)
		}
	}
	if len(l.dirs.spare) > 0 {
		t.Errorf("used ones are kept: %v", l.dirs.spare)
	}
	third := in("c", "pwd; ls")
	if err := l.RemovePod("c"); err != nil {
		t.Error(err)
	}
	if got := in("d", "pwd; ls"); got != third {
		t.Errorf("an untouched one is not used again: %q, %q", got, third)
	}
}

// What a pod has left in its directory is measured, and does not hold up
// anybody when it goes.
func TestWorkDirOfManyLevels(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	spec := podSpec("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do mkdir d; cd d; done; head -c 50000 /dev/zero >f; chmod 0 .; cd ../..; chmod 555 .")
	output(t, l, spec)
	usage, err := l.Usage("uid", nil)
	// An ordinary user cannot look into what is closed to everybody.
	if most := usage.Shared; err != nil || most.Inodes < 9 || os.Geteuid() == 0 && (most.Inodes != 11 || most.Bytes < 50000) {
		t.Errorf("%+v, %v", usage, err)
	}
	dir := l.dirs.of("uid")
	if err := l.RemovePod("uid"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it is still there:", err)
	}
	if err := l.Finish(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(l.env.Dir, "aside")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A launcher that finds the directories of another waits for no removal.
func TestWorkDirsOfAFormerSupervisor(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	output(t, l, podSpec("sh", "-c", "mkdir a; touch a/b; chmod 555 a"))
	next, err := New(l.env)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(l.env.Dir, "work")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := next.Finish(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMountsInPlace(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	dir := t.TempDir()
	if err := os.Symlink("/", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	const no = "the host runtime has no file system of its own: it cannot mount "
	for _, test := range []struct {
		mount runner.Mount
		err   string
	}{
		{runner.Mount{Volume: "v", Source: dir, Target: dir + "/"}, ""},
		{runner.Mount{Volume: "v", Source: dir, SubPath: "a/b", Target: dir + "/a/b"}, ""},
		{runner.Mount{Volume: "v", Source: dir, SubPath: "a/b", Target: dir}, no + dir},
		{runner.Mount{Volume: "v", Source: dir, SubPath: "out/tmp/x", Target: dir + "/out/tmp/x"},
			`failed to prepare subPath for volumeMount "v": subPath "out/tmp/x": it escapes from the volume`},
		{runner.Mount{Volume: "v", Source: dir, Target: "/data"}, no + "/data"},
		{runner.Mount{Volume: "v", Target: "/data"}, no + "/data"},
	} {
		spec := podSpec("true")
		spec.Mounts = []runner.Mount{test.mount}
		p, err := l.Launch(t.Context(), spec, nil, out, out)
		if err == nil {
			_, _ = p.Wait()
			_ = p.Release()
		}
		if got := fmt.Sprint(err); err == nil && test.err != "" || err != nil && got != test.err {
			t.Errorf("%+v: got %v, want %q", test.mount, err, test.err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "a", "b")); err != nil || !info.IsDir() {
		t.Error(err)
	}
}

// A command is looked for as execvp does, with the container's PATH and in its
// directory.
func TestLookPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, sub := range []string{"sub", "sub/late", "first", "first/program"} {
		must(t, os.Mkdir(in(sub), 0o755))
	}
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "program": 0o755, "sub/plain": 0o755, "first/data": 0o755} {
		text := "#!/bin/sh\necho $0\n"
		if name == "first/data" {
			text = "\x00no program"
		}
		must(t, os.WriteFile(in(name), []byte(text), mode))
	}
	must(t, os.WriteFile(in("windows"), []byte("#!/bin/sh\r\necho\r\n"), 0o755))
	const notFound = `exec: "%s": executable file not found in $PATH`
	const crlf = `its interpreter "/bin/sh\r" is not there; the script has the line ends of Windows (CRLF)`
	l := newLauncher(t)
	for _, tc := range []struct{ name, path, in, want, err string }{
		{"program", "/nosuch:sub:" + dir, "/", in("program"), ""},
		{"program", "first:" + dir, dir, in("program"), ""}, // not the directory of this name
		{"plain", "/nosuch:" + dir, "/", "", notFound},
		{"plain", dir + ":sub", dir, in("sub/plain"), ""},
		{"plain", dir + ":sub", "/", "", notFound},
		{"late", dir + ":sub", dir, "", notFound},
		{"nosuch", dir, "/", "", notFound},
		{"program", "", "/", "", notFound},
		{"data", in("first"), "/", "", `exec: "%s": exec format error`},
		{"./program", "", dir, in("program"), ""},
		{"./program", dir, "/", "", `exec: "%s": stat /program: no such file or directory`},
		{in("program"), "", "/", in("program"), ""},
		{in("plain"), "", "/", "", `exec: "%s": permission denied`},
		{in("plain/x"), "", "/", "", `exec: "%s": stat ` + in("plain/x") + `: not a directory`},
		{dir, "", "/", "", `exec: "%s": is a directory`},
		{"windows", dir, "/", "", `exec: "%s": no such file or directory: ` + crlf},
		{in("windows"), "", "/", "", `exec: "%s": no such file or directory: ` + crlf},
	} {
		spec := podSpec(tc.name)
		spec.Dir, spec.Env = tc.in, []string{"PATH=" + tc.path}
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		must(t, err)
		p, err := l.Launch(t.Context(), spec, nil, out, out)
		if err == nil {
			_, _ = p.Wait()
			must(t, p.Release())
		}
		text, readErr := os.ReadFile(out.Name())
		must(t, readErr)
		out.Close()
		want := tc.err
		if want != "" {
			want = fmt.Sprintf(strings.ReplaceAll(tc.err, `"%s"`, "%q"), tc.name)
		}
		if got := strings.TrimSpace(string(text)); got != tc.want || err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%s in %s, PATH=%s: %q, %v, want %q, %q", tc.name, tc.in, tc.path, got, err, tc.want, want)
		}
	}
}

// The working directory is made where it is missing.
// TestStartIsBounded: what a manifest says in a few kilobytes must not cost the supervisor
// many times as much. It runs beside no other test.
func TestStartIsBounded(t *testing.T) {
	l := newLauncher(t)
	for name, change := range map[string]func(*runner.Spec){
		"working directory": func(s *runner.Spec) { s.Dir = strings.Repeat("/a", 20_000) },
		"PATH": func(s *runner.Spec) {
			s.Args, s.Env = []string{strings.Repeat("n", 1000)}, []string{"PATH=" + strings.Repeat("x:", 100_000)}
		},
	} {
		spec := podSpec("true")
		change(spec)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := l.Launch(t.Context(), spec, nil, os.Stdout, os.Stderr)
		runtime.ReadMemStats(&after)
		if used := (after.TotalAlloc - before.TotalAlloc) >> 20; err == nil || used > 48 || len(err.Error()) > 2000 {
			t.Errorf("%s: it took %d MB, %.200v", name, used, err)
		}
	}
}

func TestWorkingDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	l := newLauncher(t)
	for _, test := range []struct{ dir, err string }{
		{dir, ""},
		{dir + "/a/b", ""},
		{dir + "/a/b", ""},
		{dir + "/file", "create the working directory: mkdir " + dir + "/file: not a directory"},
		{dir + "/file/x", "create the working directory: mkdir " + dir + "/file: not a directory"},
		{"/proc/sampan", "create the working directory: mkdir /proc/sampan: no such file or directory"},
	} {
		spec := podSpec("pwd")
		spec.Dir = test.dir
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		must(t, err)
		p, err := l.Launch(t.Context(), spec, nil, out, out)
		if err == nil {
			_, _ = p.Wait()
			must(t, p.Release())
		}
		text, readErr := os.ReadFile(out.Name())
		must(t, readErr)
		out.Close()
		if got := strings.TrimSpace(string(text)); test.err == "" && (err != nil || got != test.dir) || test.err != "" && fmt.Sprint(err) != test.err {
			t.Errorf("%s: got %q, %v, want %q", test.dir, got, err, test.err)
		}
	}
}

// A start that meets a path that does not answer ends with its context, and holds
// up no other.
func TestHangingStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hang, err := hangs.Mount(dir)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		t.Skip("there is nothing here that hangs: ", err)
	}
	must(t, err)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(t, err)
	l := newLauncher(t)
	// A group keeps who hangs in it, until he does no more.
	var ids []string
	podOf := func(name string) *runner.Spec {
		spec := podSpec("true")
		spec.Pod.UID, spec.ID = name, name+"_main_0"
		ids = append(ids, spec.ID)
		return spec
	}
	t.Cleanup(func() {
		hang.Release()
		null.Close()
		must(t, l.groups.Recover(ids))
	})
	for what, meet := range map[string]func(*runner.Spec){
		"working directory": func(s *runner.Spec) { s.Dir = dir + "/a" },
		"command":           func(s *runner.Spec) { s.Args = []string{dir + "/a"} },
		"PATH":              func(s *runner.Spec) { s.Env = []string{"PATH=" + dir} },
		"subPath": func(s *runner.Spec) {
			s.Mounts = []runner.Mount{{Volume: "v", Source: dir, SubPath: "a", Target: dir + "/a"}}
		},
	} {
		spec, other := podOf("hanging-"+what[:3]), podOf("other-"+what[:3])
		meet(spec)
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := l.Launch(ctx, spec, nil, null, null)
				ended <- err
			}()
			select {
			case err := <-ended:
				t.Fatalf("it does not hang: %v", err)
			case <-time.After(200 * time.Millisecond):
			}
			p, err := l.Launch(t.Context(), other, nil, null, null)
			must(t, err)
			if info, err := p.Wait(); err != nil || info.Code != 0 {
				t.Errorf("another: %+v %v", info, err)
			}
			must(t, p.Release())
			cancel()
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
					t.Errorf("got %v", err)
				}
			case <-time.After(time.Minute): // its group is tried to be removed for a while
				t.Error("it does not end with its context")
			}
		})
	}
}

// TestRecover: what a dead supervisor left running is found by its mark.
func TestRecover(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	spec := podSpec("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// Nobody waits for the first process, as if the supervisor had died with it.
	p, err := l.Launch(t.Context(), spec, nil, out, out)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.(*process).child.Ended(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	// Another supervisor's containers have nothing to do with it.
	if err := newLauncher(t).Recover([]*runner.Spec{spec}); err != nil {
		t.Error(err)
	}
	if mark, ok := marker(pid); ok && mark != l.mark(spec.ID) {
		t.Fatalf("the process %d is marked %q", pid, mark)
	}
	if err := l.Recover([]*runner.Spec{spec}); err != nil {
		t.Error(err)
	}
	for state, _, _ := stat(pid); state != 0 && state != 'Z'; state, _, _ = stat(pid) { // it goes in a moment
		time.Sleep(time.Millisecond)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}
