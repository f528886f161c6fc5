package crilog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/utils/ptr"
)

func mustOpen(t testing.TB, path string, limits Limits) *Writer {
	t.Helper()
	w, err := Open(path, limits)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustWrite(t testing.TB, w *Writer, stream Stream, text string) {
	t.Helper()
	if err := w.Write(stream, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, path string, opts Options) string {
	t.Helper()
	var out bytes.Buffer
	if err := Read(t.Context(), path, opts, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var stamp = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z `)

func TestFormat(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxLine)
	tests := []struct {
		name   string
		writes []string // stdout, but what begins with ! goes to stderr
		want   string
	}{
		{"nothing", nil, ""},
		{"a line", []string{"hello\n"}, "stdout F hello\n"},
		{"an empty line", []string{"\n"}, "stdout F \n"},
		{"two in one write", []string{"a\nb\n"}, "stdout F a\nstdout F b\n"},
		{"one in three writes", []string{"a", "b", "c\n"}, "stdout F abc\n"},
		{"no newline at the end", []string{"a\nb"}, "stdout F a\nstdout P b\n"},
		{"streams keep apart", []string{"a", "!b\n", "c\n"}, "stderr F b\nstdout F ac\n"},
		{"as long as may be", []string{long + "\n"}, "stdout F " + long + "\n"},
		{"one more", []string{long + "y\n"}, "stdout P " + long + "\nstdout F y\n"},
		{"one more, in two writes", []string{long, "y\n"}, "stdout P " + long + "\nstdout F y\n"},
		{"long, and no end", []string{long, long, "z"}, "stdout P " + long + "\nstdout P " + long + "\nstdout P z\n"},
		{"not text", []string{"\xff\x00\n"}, "stdout F \xff\x00\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "pod", "main", "0.log")
			w := mustOpen(t, path, Limits{})
			said := ""
			for _, text := range tc.writes {
				if text, ok := strings.CutPrefix(text, "!"); ok {
					mustWrite(t, w, Stderr, text)
					continue
				}
				mustWrite(t, w, Stdout, text)
				said += text
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Count(tc.want, "\n")
			if got := len(stamp.FindAll(raw, -1)); got != lines {
				t.Errorf("%d times in %d lines", got, lines)
			}
			if got := stamp.ReplaceAllString(string(raw), ""); got != tc.want {
				t.Errorf("got  %.200q\nwant %.200q", got, tc.want)
			}
			if got := mustRead(t, path, Options{Stream: Stdout}); got != said {
				t.Errorf("read %.200q, it was %.200q", got, said)
			}
		})
	}
}

func TestStamp(t *testing.T) {
	t.Parallel()
	var s stamper
	for _, at := range []time.Time{
		time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC),
		time.Date(2026, 11, 21, 10, 0, 0, 123456789, time.UTC),
		time.Date(2026, 11, 21, 11, 0, 0, 999999999, time.FixedZone("", 3600)),
		time.Date(1999, 1, 2, 3, 4, 5, 1, time.UTC),
	} {
		s.set(at)
		if got, want := string(s.text[:]), at.UTC().Format("2006-01-02T15:04:05.000000000Z"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// written makes a log of the lines 1…n, each with a time of its own, in files
// of a few lines.
func written(t *testing.T, n, perFile int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	var file []byte
	for i := 1; i <= n; i++ {
		at := time.Date(2026, 11, 21, 10, 0, i, 0, time.UTC)
		stream := Stdout
		if i%2 == 0 {
			stream = Stderr
		}
		file = fmt.Appendf(file, "%s %s F line %d\n", at.Format(stampLayout), stream, i)
		name := path
		if i%perFile == 0 && i < n {
			name += "." + at.Format(rotationTime)
		} else if i < n {
			continue
		}
		if err := os.WriteFile(name, file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
		file = nil
	}
	return path
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	t.Parallel()
	at := func(sec int) time.Time { return time.Date(2026, 11, 21, 10, 0, sec, 0, time.UTC) }
	ended := make(chan struct{})
	close(ended)
	tests := []struct {
		name string
		opts Options
		want string
	}{
		{"all", Options{}, lines(1, 10)},
		{"tail within a file", Options{Tail: ptr.To[int64](1)}, lines(10, 10)},
		{"tail of a whole file", Options{Tail: ptr.To[int64](4)}, lines(7, 10)},
		{"tail across files", Options{Tail: ptr.To[int64](5)}, lines(6, 10)},
		{"tail of all", Options{Tail: ptr.To[int64](10)}, lines(1, 10)},
		{"tail of more", Options{Tail: ptr.To[int64](99)}, lines(1, 10)},
		{"tail of none", Options{Tail: ptr.To[int64](0)}, ""},
		{"since", Options{Since: at(3)}, lines(3, 10)},
		{"since, in the last file", Options{Since: at(9)}, lines(9, 10)},
		{"since the future", Options{Since: at(11)}, ""},
		{"since and tail", Options{Since: at(9), Tail: ptr.To[int64](5)}, lines(9, 10)},
		{"limit", Options{LimitBytes: ptr.To[int64](9)}, "line 1\nli"},
		{"limit at a line's end", Options{LimitBytes: ptr.To[int64](7)}, "line 1\n"},
		{"limit of nothing", Options{LimitBytes: ptr.To[int64](0)}, ""},
		{"a stream", Options{Stream: Stderr, Since: at(7)}, "line 8\nline 10\n"},
		{"timestamps", Options{Timestamps: true, Tail: ptr.To[int64](1)}, "2026-11-21T10:00:10.000000000Z line 10\n"},
		{"follow what has ended", Options{Follow: true, Ended: ended}, lines(1, 10)},
		{"follow the tail", Options{Follow: true, Ended: ended, Tail: ptr.To[int64](2)}, lines(9, 10)},
	}
	for _, perFile := range []int{3, 100} {
		for _, tc := range tests {
			t.Run(fmt.Sprint(tc.name, " ", perFile), func(t *testing.T) {
				t.Parallel()
				if got := mustRead(t, written(t, 10, perFile), tc.opts); got != tc.want {
					t.Errorf("got  %q\nwant %q", got, tc.want)
				}
			})
		}
	}
}

func TestReadOddities(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	if err := Read(t.Context(), path, Options{}, &bytes.Buffer{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	const at = "2026-11-21T10:00:00.000000000Z "
	text := "garbage\n\n" + at + "stdin F no stream\n" + at + "stdout X no tag\n" +
		at + "stdout P be\n" + at + "stdout F:more gin\n" + at + "stdout F not whole"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := mustRead(t, path, Options{Timestamps: true}), at+"begin\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	w := mustOpen(t, path, Limits{Size: 1000, Files: 3})
	for i := 1; i <= 1000; i++ {
		mustWrite(t, w, Stdout, fmt.Sprintf("line %d\n", i))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := Rotated(path)
	if err != nil || len(old) != 2 {
		t.Fatalf("kept %v, %v", old, err)
	}
	for _, file := range append(old, path) {
		if info, err := os.Stat(file); err != nil || info.Size() > 1100 {
			t.Errorf("%s: %v, %v", file, info.Size(), err)
		}
	}
	got := mustRead(t, path, Options{})
	var first int
	if _, err := fmt.Sscanf(got, "line %d\n", &first); err != nil {
		t.Fatal(err)
	}
	if got != lines(first, 1000) || first < 900 || first > 980 {
		t.Errorf("the log is not whole: it begins with %d and has %d lines", first, strings.Count(got, "\n"))
	}
	if err := Remove(path); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestFollow has a reader keep up with a writer that rotates all the time.
func TestFollow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	// Enough files that a slow reader loses nothing.
	w := mustOpen(t, path, Limits{Size: 2000, Files: 1000})
	ended := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		defer close(ended)
		for i := 1; i <= 5000; i++ {
			mustWrite(t, w, Stdout, fmt.Sprintf("line %d\n", i))
			if i%50 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		group.Go(func() {
			var out bytes.Buffer
			if err := Read(t.Context(), path, Options{Follow: true, Ended: ended}, &out); err != nil {
				t.Error(err)
			}
			if got := out.String(); got != lines(1, 5000) {
				t.Errorf("%d lines", strings.Count(got, "\n"))
			}
		})
	}
	group.Wait()
}

func TestFollowIsPrompt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "0.log")
	w := mustOpen(t, path, Limits{})
	ctx, cancel := context.WithCancelCause(t.Context())
	seen := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		done <- Read(ctx, path, Options{Follow: true}, writerFunc(func(p []byte) { seen <- string(p) }))
	}()
	for i := range 3 {
		text := fmt.Sprintf("line %d\n", i)
		mustWrite(t, w, Stdout, text)
		select {
		case got := <-seen:
			if got != text {
				t.Errorf("got %q", got)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the line is not seen")
		}
	}
	gone := errors.New("the client has gone")
	cancel(gone)
	if err := <-done; !errors.Is(err, gone) {
		t.Errorf("ended with %v", err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// TestAnyBoundaries writes random text in random pieces and reads it back.
func TestAnyBoundaries(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "0.log")
	w := mustOpen(t, path, Limits{Size: 100 << 10, Files: 100})
	said := map[Stream][]byte{}
	for range 2000 {
		stream := []Stream{Stdout, Stderr}[rnd.IntN(2)]
		piece := bytes.Repeat([]byte{byte('a' + rnd.IntN(26))}, rnd.IntN(100))
		if rnd.IntN(20) == 0 {
			piece = bytes.Repeat(piece, rnd.IntN(1000))
		}
		if rnd.IntN(3) == 0 {
			piece = append(piece, '\n')
		}
		said[stream] = append(said[stream], piece...)
		mustWrite(t, w, stream, string(piece))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for stream, want := range said {
		if got := mustRead(t, path, Options{Stream: stream}); got != string(want) {
			t.Errorf("seed %d: %s differs: %d bytes, want %d", seed, stream, len(got), len(want))
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("2026-11-21T10:00:00.000000000Z stdout F text\n"), int64(1))
	f.Add([]byte("x stderr P:F \n\n \n  \n"), int64(0))
	f.Fuzz(func(t *testing.T, text []byte, tail int64) {
		path := filepath.Join(t.TempDir(), "0.log")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		whole := mustRead(t, path, Options{})
		if part := mustRead(t, path, Options{Tail: &tail}); !strings.HasSuffix(whole, part) && len(part) > 0 {
			t.Errorf("the tail %q is not the end of %q", part, whole)
		}
		mustRead(t, path, Options{Timestamps: true, Since: time.Unix(0, 0), LimitBytes: ptr.To[int64](10)})
	})
}

func BenchmarkWrite(b *testing.B) {
	w := mustOpen(b, filepath.Join(b.TempDir(), "0.log"), DefaultLimits())
	chunk := bytes.Repeat([]byte("a line as a program might well write it, of some eighty bytes or so, all in all\n"), 100)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if err := w.Write(Stdout, chunk); err != nil {
			b.Fatal(err)
		}
	}
}
