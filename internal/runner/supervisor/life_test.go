package supervisor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/crilog"
)

func mustStart(t *testing.T, c *Client, spec *runner.Spec) runner.Status {
	t.Helper()
	st, err := c.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func mustWait(t *testing.T, c *Client, id string) runner.Status {
	t.Helper()
	st, err := c.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func logOf(t *testing.T, spec *runner.Spec) string {
	t.Helper()
	var out bytes.Buffer
	if err := crilog.Read(t.Context(), spec.LogPath, crilog.Options{}, &out); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return out.String()
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not so after a minute: " + what)
		}
	}
}

// TestEngineKilled: 50 containers do not notice that the engine is killed, not
// one line of theirs is lost, and the next engine finds how each is or was.
func TestEngineKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	first := startEngine(t, dir)
	const n = 50
	for i := range n {
		if i%2 == 0 {
			first.run(t, fmt.Sprintf("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.05; done; exit %d", i))
		} else {
			first.run(t, "echo $$; sleep 1000")
		}
	}
	first.kill()

	c := openClient(t, dir)
	all, err := c.List(t.Context())
	if err != nil || len(all) != n {
		t.Fatalf("%d of %d are there, %v", len(all), n, err)
	}
	var want strings.Builder
	for i := range 10 {
		fmt.Fprintln(&want, i+1)
	}
	for _, st := range all {
		i, err := strconv.Atoi(strings.TrimPrefix(st.Pod.Name, "pod-"))
		if err != nil {
			t.Fatal(err)
		}
		spec := shellSpec(dir, st.Pod.UID, "")
		if i%2 == 0 {
			if st := mustWait(t, c, st.ID); st.ExitCode != i || st.Lost {
				t.Errorf("%+v", st)
			}
			if got := logOf(t, spec); got != want.String() {
				t.Errorf("%d: log %q", i, got)
			}
			continue
		}
		eventually(t, "it has written", func() bool { return strings.HasSuffix(logOf(t, spec), "\n") })
		if got := strings.TrimSpace(logOf(t, spec)); st.Phase != runner.Running || strconv.Itoa(st.PID) != got {
			t.Errorf("%+v, the process is %s", st, got)
		}
	}
}

// TestPrivate: with its engine, a private supervisor and all its containers go.
func TestPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := startEngine(t, dir, "SAMPAN_TEST_PRIVATE=1")
	e.run(t, "echo $$; setsid sleep 1000 & sleep 1000")
	spec := shellSpec(dir, "pod-0", "")
	eventually(t, "it runs", func() bool { return strings.HasSuffix(logOf(t, spec), "\n") })
	pid := strings.TrimSpace(logOf(t, spec))
	e.kill()
	if err := awaitUnlocked(filepath.Join(dir, "host")); err != nil {
		t.Error(err)
	}
	if exists("/proc/" + pid) {
		t.Error("the container has stayed")
	}
	text, err := os.ReadFile(filepath.Join(dir, "host", "journal"))
	if err != nil || !bytes.Contains(text, []byte(`"ExitCode":137`)) {
		t.Errorf("journal: %s, %v", text, err)
	}
}

// TestStop: nothing is left but the records, and those are found again.
func TestStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := openClient(t, dir)
	spec := shellSpec(dir, "stopped", "sleep 1000")
	st := mustStart(t, c, spec)
	pid := supervisorPID(t, c, runner.Host)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []int{st.PID, pid} {
		eventually(t, "the processes are gone", func() bool { return !exists("/proc/" + strconv.Itoa(gone)) })
	}
	if _, err := c.Start(t.Context(), spec); !errors.Is(err, errClosed) {
		t.Errorf("start after stop: %v", err)
	}
	if conn, err := dial(filepath.Join(dir, "host")); err == nil {
		conn.Close()
		t.Error("somebody answers")
	}
	again := openClient(t, dir)
	if st := mustWait(t, again, spec.ID); st.ExitCode != 137 || st.Signal != 9 || st.Lost {
		t.Errorf("%+v", st)
	}
	if err := again.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestTwoClients: each learns what the other does.
func TestTwoClients(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	a, spec := openClient(t, dir), shellSpec(dir, "a", "sleep 1000")
	mustStart(t, a, shellSpec(dir, "0", "true"))
	b := openClient(t, dir)
	mustStart(t, a, spec)
	var group sync.WaitGroup
	eventually(t, "it is known", func() bool {
		all, err := b.List(t.Context())
		return err == nil && len(all) == 2
	})
	group.Go(func() {
		if st, err := b.Wait(t.Context(), spec.ID); err != nil || st.ExitCode != 137 {
			t.Errorf("%+v, %v", st, err)
		}
	})
	if err := a.Signal(t.Context(), spec.ID, 9); err != nil {
		t.Error(err)
	}
	group.Wait()
	mustWait(t, a, spec.ID)
	if err := b.Remove(t.Context(), spec.ID); err != nil {
		t.Error(err)
	}
	eventually(t, "it is forgotten", func() bool {
		_, err := a.Wait(t.Context(), spec.ID)
		return errors.Is(err, runner.ErrNotFound)
	})
}

// TestRace: many engines open one directory at once, and one supervisor comes.
func TestRace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	var group sync.WaitGroup
	pids := make(chan int, 10)
	for i := range cap(pids) {
		c := openClient(t, dir)
		group.Go(func() {
			if _, err := c.Start(t.Context(), shellSpec(dir, fmt.Sprint("p", i), "sleep 1000")); err != nil {
				t.Error(err)
			}
			pids <- supervisorPID(t, c, runner.Host)
		})
	}
	group.Wait()
	close(pids)
	one := <-pids
	for pid := range pids {
		if pid != one {
			t.Errorf("there are two supervisors, %d and %d", one, pid)
		}
	}
}

// TestLongPath: a socket's path may be longer than the kernel takes.
func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), strings.Repeat("path", 30))
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "a", "exit 5")
	mustStart(t, c, spec)
	if st := mustWait(t, c, spec.ID); st.ExitCode != 5 {
		t.Errorf("%+v", st)
	}
	for path, mode := range map[string]os.FileMode{"sock": 0o600, "log": 0o600, "journal": 0o600, "lock": 0o600, "": 0o700} {
		info, err := os.Stat(filepath.Join(dir, "host", path))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v", path, info.Mode(), err)
		}
	}
}

// TestNewerClient: fields that the supervisor does not know are ignored, and
// verbs are answered with an error.
func TestNewerClient(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	mustStart(t, openClient(t, dir), shellSpec(dir, "a", "true"))
	conn, err := dial(filepath.Join(dir, "host"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer := func(id uint64, v verb, body string) (frame, map[string]any) {
		t.Helper()
		return exchange(t, conn, id, v, body)
	}
	f, hello := answer(7, verbHello, `{"Protocol": 99, "Colour": "blue"}`)
	if f.verb != verbOK || hello["Protocol"] != float64(protocol) {
		t.Errorf("hello: %v %v", f.verb, hello)
	}
	if f, _ := answer(8, 60, `{}`); f.verb != verbError || f.id != 8 {
		t.Errorf("a verb of the future: %+v", f)
	}
	if f, _ := answer(9, verbStart, `nonsense`); f.verb != verbError {
		t.Errorf("nonsense: %+v", f)
	}
	if f, e := answer(10, verbStart, `{"ID":"../x","Class":"host","Args":["true"]}`); f.verb != verbError {
		t.Errorf("a hostile ID: %+v %v", f, e)
	}
}

func exchange(t *testing.T, conn net.Conn, id uint64, v verb, body string) (frame, map[string]any) {
	t.Helper()
	out := frameWriter{w: conn}
	if err := out.send(id, v, []byte(body)); err != nil {
		t.Fatal(err)
	}
	in := newFrameReader(conn)
	for {
		f, err := readFrame(in)
		if err != nil {
			t.Fatal(err)
		}
		if f.id != id {
			continue
		}
		var fields map[string]any
		if err := json.Unmarshal(f.body, &fields); err != nil {
			t.Fatal(err)
		}
		return f, fields
	}
}

// TestSilentClient: a client that does not read holds nobody up.
func TestSilentClient(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	mustStart(t, c, shellSpec(dir, "first", "true"))
	conn, err := dial(filepath.Join(dir, "host"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange(t, conn, 1, verbHello, `{"Protocol":1}`)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 60 { // more than a socket holds
				spec := shellSpec(dir, fmt.Sprintf("%d-%d", i, j), "exit 1")
				spec.Pod.Namespace = strings.Repeat("x", 4000)
				if _, err := c.Start(t.Context(), spec); err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Wait(t.Context(), spec.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestRotatedLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := Open(t.Context(), dir, ClientOptions{
		Private: true, Command: selfCommand(), LogLimits: crilog.Limits{Size: 100_000, Files: 3},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopDir(t, dir) })
	t.Cleanup(func() { c.Close() })
	spec := shellSpec(dir, "a", "yes 0123456789 | head -n 100000; echo end")
	mustStart(t, c, spec)
	mustWait(t, c, spec.ID)
	rotated, err := crilog.Rotated(spec.LogPath)
	if err != nil || len(rotated) != 2 {
		t.Errorf("%v, %v", rotated, err)
	}
	got := logOf(t, spec)
	if !strings.HasSuffix(got, "0123456789\nend\n") || strings.Count(got, "\n") > 20_000 {
		t.Errorf("%d lines are kept", strings.Count(got, "\n"))
	}
}

// TestOOM: the kernel kills a container that wants more than its limit.
func TestOOM(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { stopDir(t, dir) })
	c := openClient(t, dir)
	spec := shellSpec(dir, "oom-"+strconv.Itoa(os.Getpid()), `x=$(head -c 200000000 /dev/zero | tr '\0' x); echo survived`)
	spec.Resources = runner.Resources{MemoryLimit: 30 << 20}
	if st := mustStart(t, c, spec); st.LimitsIgnored != "" {
		t.Skip("this machine sets no limits: " + st.LimitsIgnored)
	}
	if st := mustWait(t, c, spec.ID); !st.OOMKilled || st.ExitCode != 137 {
		t.Errorf("%+v: %s", st, logOf(t, spec))
	}
	if err := c.Remove(t.Context(), spec.ID); err != nil {
		t.Error(err)
	}
}
