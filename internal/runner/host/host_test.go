package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
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
			`failed to prepare subPath for volumeMount "v": statat out/tmp/x: path escapes from parent`},
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

func TestLookPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "program": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=/nosuch:sub:" + dir}
	tests := []struct{ name, in, want string }{
		{"program", "/", filepath.Join(dir, "program")},
		{"plain", "/", ""},
		{"nosuch", "/", ""},
		{"./program", dir, filepath.Join(dir, "program")},
		{"./program", "/", ""},
		{filepath.Join(dir, "program"), "/", filepath.Join(dir, "program")},
		{dir, "/", ""},
	}
	for _, tc := range tests {
		got, err := lookPath(tc.name, env, tc.in)
		if err != nil {
			got = ""
		}
		if got != tc.want {
			t.Errorf("%s in %s: %q, %v, want %q", tc.name, tc.in, got, err, tc.want)
		}
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
