package supervisor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/runner"
)

func mustOpenJournal(t *testing.T, path string) *journal {
	t.Helper()
	j, skipped, err := openJournal(path)
	if err != nil || skipped > 0 {
		t.Fatalf("%d lines skipped, %v", skipped, err)
	}
	return j
}

func specOf(id string) *runner.Spec {
	return &runner.Spec{
		ID: id, Class: runner.Host, Pod: runner.PodRef{Namespace: "n", Name: "p\n", UID: "u-" + id}, Container: "c", Attempt: 3,
		Args: []string{"echo", "secret"}, Env: []string{"PASSWORD=secret"},
	}
}

// said is what a journal says, to be compared.
func said(j *journal) map[string]string {
	all := make(map[string]string)
	for id, rec := range j.live {
		all[id] = fmt.Sprint(rec.started, rec.created.UTC())
		if rec.ended != nil {
			all[id] += fmt.Sprint(rec.ended.ExitCode)
		}
	}
	return all
}

// TestJournal does random things to a journal, and opens it again at random
// moments, as it is or with half a line at its end: it says the same.
func TestJournal(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpenJournal(t, path)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for n := range 5000 {
		id := fmt.Sprint("c", rnd.IntN(50))
		rec := j.live[id]
		switch {
		case rnd.IntN(100) == 0:
			want := said(j)
			if rnd.IntN(2) == 0 {
				f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
				must(err)
				_, err = f.WriteString(`{"Gone":"c1`)
				must(err)
				must(f.Close())
			}
			j = mustOpenJournal(t, path)
			if got := said(j); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d, step %d:\ngot  %v\nwant %v", seed, n, got, want)
			}
		case rec == nil:
			must(j.start(specOf(id), time.Now()))
		case rec.ended == nil:
			must(j.end(&runner.Status{ID: id, ExitCode: rnd.IntN(256)}))
		default:
			must(j.gone(id))
		}
	}
}

func TestJournalShrinks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpenJournal(t, path)
	if err := j.start(specOf("stays"), time.Now()); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 10_000)
	for i := range 2000 {
		id := fmt.Sprint("c", i)
		spec := specOf(id)
		spec.Pod.Name = long
		if err := j.start(spec, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := j.gone(id); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 2*slack {
		t.Errorf("it has %d bytes, %v", info.Size(), err)
	}
	if j = mustOpenJournal(t, path); len(j.live) != 1 || j.live["stays"] == nil {
		t.Errorf("it says %v", said(j))
	}
}

// TestDamagedJournal: what can be read of it is.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpenJournal(t, path)
	for _, id := range []string{"a", "b"} {
		if err := j.start(specOf(id), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = append(append(make([]byte, 4096), "\n{}}\n"...), text...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	j, skipped, err := openJournal(path)
	if err != nil || skipped != 2 || len(j.live) != 2 {
		t.Errorf("%d skipped, %v, %v", skipped, said(j), err)
	}
}

// TestJournalKeepsNoSecrets: what it says of a container is what recovery needs;
// what an older one says besides is gone once it has been opened.
func TestJournalKeepsNoSecrets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	old, err := json.Marshal(specOf("old"))
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf(`{"At":"2026-11-21T10:00:00.5Z","Start":%s}`+"\n", old)
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	j := mustOpenJournal(t, path)
	if err := j.start(specOf("new"), time.Now()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || bytes.Contains(text, []byte("secret")) || bytes.Contains(text, []byte("PASSWORD")) {
		t.Errorf("it says %s %v", text, err)
	}
	j = mustOpenJournal(t, path)
	for _, id := range []string{"old", "new"} {
		want := specOf(id)
		want.Args, want.Env = nil, nil
		if rec := j.live[id]; rec == nil || !reflect.DeepEqual(rec.started.spec(), want) {
			t.Errorf("%s: %+v", id, rec)
		}
	}
}

// BenchmarkJournalLine is what the record of a start costs, beside that of the
// Spec of usual size that it is taken from.
func BenchmarkJournalLine(b *testing.B) {
	spec := specOf("00000000-0000-4000-8000-000000000000_main_0")
	for b.Loop() {
		rec := record{created: time.Now(), started: startedOf(spec)}
		if _, err := rec.line(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSpecRoundTrip: every field of a Spec survives the wire.
func TestSpecRoundTrip(t *testing.T) {
	t.Parallel()
	uid := uint32(1000)
	spec := &runner.Spec{
		ID: "a", Class: runner.Sandbox, Pod: runner.PodRef{Namespace: "n", Name: "p", UID: "u"}, Container: "c", Attempt: 2,
		Args: []string{"a<b"}, Env: []string{"A=\n"}, Mounts: []runner.Mount{{Source: "/s", Target: "/t", Volume: "v", SubPath: "a"}},
		UID: &uid, Resources: runner.Resources{MemoryLimit: 1 << 40}, Capabilities: []string{},
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	got := &runner.Spec{}
	if err := json.Unmarshal(text, got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, spec) {
		t.Errorf("\ngot  %+v\nwant %+v", got, spec)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"At":"2026-11-21T10:00:00Z","Start":{"ID":"a"}}` + "\n" + `{"End":{"ID":"a"}}` + "\n" + `{"Gone":"a"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		live, _ := parseJournal(text)
		for id := range live {
			if id == "" {
				t.Error("a container without ID")
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	out := frameWriter{w: &b}
	if err := out.send(7, verbHello, helloRequest{Protocol: 1}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 1, 2, 3})
	f.Fuzz(func(t *testing.T, wire []byte) {
		in := newFrameReader(bytes.NewReader(wire))
		for {
			fr, err := readFrame(in)
			if err != nil {
				return
			}
			if len(fr.body) > len(wire) {
				t.Errorf("a body of %d bytes from %d", len(fr.body), len(wire))
			}
		}
	})
}

// full makes the journal's disk full until the returned function is called.
func full(t *testing.T, j *journal) (free func()) {
	t.Helper()
	fd, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip(err)
	}
	real := j.fd
	j.fd = fd
	return func() {
		unix.Close(fd)
		j.fd = real
	}
}

// TestJournalOwes: on a full disk no start counts that was not recorded, and
// every end and removal is recorded as soon as there is room.
func TestJournalOwes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpenJournal(t, path)
	for _, id := range []string{"ends", "goes", "stays"} {
		if err := j.start(specOf(id), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	free := full(t, j)
	if err := j.start(specOf("unrecorded"), time.Now()); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path) {
		t.Errorf("a start: %v", err)
	}
	if err := errors.Join(j.end(&runner.Status{ID: "ends", ExitCode: 3}), j.gone("goes")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("an end: %v", err)
	}
	if err := j.settle(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("settled: %v", err)
	}
	want := said(j)
	if len(want) != 2 || !strings.HasSuffix(want["ends"], "3") {
		t.Errorf("it says %v", want)
	}
	free()
	if lost := said(mustOpenCopy(t, path)); len(lost) != 3 {
		t.Errorf("it was written on a full disk: %v", lost)
	}
	if err := j.settle(); err != nil {
		t.Fatal(err)
	}
	if got := said(mustOpenCopy(t, path)); !reflect.DeepEqual(got, want) {
		t.Errorf("settled:\ngot  %v\nwant %v", got, want)
	}
	free = full(t, j)
	if err := j.gone("ends"); err == nil {
		t.Error("it was written on a full disk")
	}
	free()
	if err := j.start(specOf("next"), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got, want := said(mustOpenCopy(t, path)), said(j); len(got) != 2 || !reflect.DeepEqual(got, want) {
		t.Errorf("with the next line:\ngot  %v\nwant %v", got, want)
	}
}

// mustOpenCopy opens a copy of a journal that is in use.
func mustOpenCopy(t *testing.T, path string) *journal {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(other, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return mustOpenJournal(t, other)
}

// TestJournalNotRewritten: a journal that cannot be written anew is used as it
// is; and one that would be no shorter is not written anew.
func TestJournalNotRewritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpenJournal(t, path)
	if err := j.start(specOf("a"), time.Now()); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	mustOpenJournal(t, path)
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written anew without need: %v", err)
	}
	if err := errors.Join(j.start(specOf("b"), time.Now()), j.gone("b")); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString(`{"Gone":"a`) // cut short
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	// What a rename cannot replace stands where the new one is made.
	if err := os.MkdirAll(filepath.Join(path+".next", "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	j = mustOpenJournal(t, path)
	if err := j.start(specOf("c"), time.Now()); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it is another file: %v", err)
	}
	long := strings.Repeat("x", 100_000)
	for i := range 100 { // too long, and cannot be made shorter
		spec := specOf(fmt.Sprint("d", i))
		spec.Pod.Name = long
		if err := errors.Join(j.start(spec, time.Now()), j.gone(spec.ID)); err != nil {
			t.Fatal(err)
		}
	}
	want := said(j)
	if len(want) != 2 {
		t.Errorf("it says %v", want)
	}
	if err := os.RemoveAll(path + ".next"); err != nil {
		t.Fatal(err)
	}
	j = mustOpenJournal(t, path)
	if got := said(j); !reflect.DeepEqual(got, want) {
		t.Errorf("\ngot  %v\nwant %v", got, want)
	}
	if after, err := os.Stat(path); err != nil || after.Size() > 4096 {
		t.Errorf("there is room now, and it has %d bytes, %v", after.Size(), err)
	}
}
