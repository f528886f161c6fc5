package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/board"
	"github.com/sampan-batch/sampan/internal/report"
)

// endedPods has pods of a Job end, with the exit codes that their names end with.
func endedPods(t *testing.T, namespace, job string, names ...string) []*board.PodResult {
	t.Helper()
	now := time.Now()
	b := board.New(now, true)
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: job, UID: "u"}}
	b.Add(now, j)
	for _, name := range names {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name)}}
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", Name: job, UID: "u", Controller: ptr.To(true)}}
		pod.Status.Phase = corev1.PodSucceeded
		b.Pod(now, pod, false)
	}
	return b.PodsEnded(now, true)
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// columns are some of each line of a log of jobs.
func columns(text string, which ...int) string {
	var out []string
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		var some []string
		for _, i := range which {
			some = append(some, cells[i])
		}
		out = append(out, strings.Join(some, " "))
	}
	return strings.Join(out, ", ")
}

// A log of jobs goes on behind what is there, also behind a line that was torn, and gives
// no pod a second line.
func TestJoblogGoesOn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	first, err := openJoblog(path, "ns")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range endedPods(t, "ns", "j", "a", "b") {
		first.add(p)
	}
	if _, err := openJoblog(path, "ns"); err == nil || !strings.Contains(err.Error(), "another run writes to it") {
		t.Errorf("opened twice: %v", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	whole := contents(t, path)
	if err := os.WriteFile(path, []byte(whole+"3\tc\t12"), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := openJoblog(path, "ns")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(endedPods(t, "ns", "j", "a", "c"), endedPods(t, "other", "j", "a")...) {
		second.add(p)
	}
	if err := second.close(); err != nil {
		t.Fatal(err)
	}
	text := contents(t, path)
	if want := "Seq Host Job, 1 a j, 2 b j, 3 c j, 4 a other/j"; !strings.HasPrefix(text, whole) || columns(text, 0, 1, 8) != want {
		t.Errorf("got %s\n%s", columns(text, 0, 1, 8), text)
	}
}

// What is no log of jobs is left as it is.
func TestJoblogThatIsNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"my notes\n":                   "is no log of jobs",
		"my notes":                     "is no log of jobs",
		report.JoblogHead + "\n1\ta\n": "line 2: 2 columns instead of 12",
		report.JoblogHead + "\n" + "x" + "\t\t\n": "line 2: ",
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openJoblog(path, "ns"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
		if contents(t, path) != text {
			t.Errorf("%q became %q", text, contents(t, path))
		}
	}
	if _, err := openJoblog(t.TempDir(), "ns"); err == nil {
		t.Error("a directory is taken")
	}
	if _, err := openJoblog("/dev/full", "ns"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
}

// limitedDisk is a file system that is so large.
func limitedDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small file system, which only root may: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fillUp takes all room of a disk, and returns what gives it back.
func fillUp(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 100))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

// On a full disk the log has whole lines only, and says that some are missing.
func TestJoblogOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := limitedDisk(t, "64k")
	path := filepath.Join(dir, "log")
	l, err := openJoblog(path, "ns")
	if err != nil {
		t.Fatal(err)
	}
	free := fillUp(t, dir)
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprint("pod-", i))
	}
	for _, p := range endedPods(t, "ns", "j", names...) {
		l.add(p)
	}
	free()
	l.add(endedPods(t, "ns", "j", "last")[0])
	if err := l.close(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("closed with %v", err)
	}
	lines := strings.Split(strings.TrimSuffix(contents(t, path), "\n"), "\n")
	for i, line := range lines[1:] {
		if e, err := report.ParseJoblogLine(line); err != nil || e.Seq != i+1 {
			t.Errorf("line %d: %q, %v", i+2, line, err)
		}
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, "\tlast\t") {
		t.Errorf("the last is %q", last)
	}
}

func resultPod(namespace, job, name, index string, containers ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if job != "" {
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", Name: job, Controller: ptr.To(true)}}
	}
	if index != "" {
		pod.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: index}
	}
	for _, c := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c})
	}
	return pod
}

// Every life of a container has a file of its own, where names lead.
func TestResults(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	dir := filepath.Join(t.TempDir(), "results")
	r, err := openResults(dir, "ns", func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "j"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		pod       *corev1.Pod
		container string
		want      string
	}{
		{resultPod("ns", "j", "j-7-x", "7", "c"), "c", "j/7-1.log"},
		{resultPod("ns", "j", "j-7-y", "7", "c"), "c", "j/7-2.log"},
		{resultPod("ns", "k", "k-x", "", "c"), "c", "k/k-x-1.log"},
		{resultPod("ns", "k", "k-x", "", "c"), "c", "k/k-x-2.log"},
		{resultPod("ns", "", "alone", "", "c"), "c", "alone/alone-1.log"},
		{resultPod("other", "j", "j-7-x", "7", "c"), "c", "other_j/7-1.log"},
		{resultPod("ns", "many", "many-0-x", "0", "a", "b"), "b", "many/0-1_b.log"},
		// What a manifest says is no path.
		{resultPod("ns", "", "alone2", "../../7", "c"), "c", "alone2/alone2-1.log"},
		{resultPod("ns", "", "alone3", "7%d/..", "c"), "c", "alone3/alone3-1.log"},
	} {
		f := r.create(c.pod, c.container)
		f.write(fmt.Appendf(nil, "output %d\n\x00", i))
		f.close()
		path := filepath.Join(dir, c.want)
		if got := contents(t, path); got != fmt.Sprintf("output %d\n\x00", i) {
			t.Errorf("%s: %q", c.want, got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", c.want, info.Mode(), err)
		}
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

// No link that somebody has left there leads out of the directory.
func TestResultsFollowNoLinkOutside(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	for _, link := range []struct{ to, name string }{{outside, "j"}, {filepath.Join(outside, "file"), "7-1.log"}} {
		if err := os.MkdirAll(filepath.Join(dir, "k"), 0o700); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, link.name)
		if link.name != "j" {
			at = filepath.Join(dir, "k", link.name)
		}
		if err := os.Symlink(link.to, at); err != nil {
			t.Fatal(err)
		}
	}
	var warned error
	r, err := openResults(dir, "ns", func(err error) { warned = err })
	if err != nil {
		t.Fatal(err)
	}
	r.create(resultPod("ns", "j", "j-7-x", "7", "c"), "c").close()
	if warned == nil {
		t.Error("no warning")
	}
	f := r.create(resultPod("ns", "k", "k-7-x", "7", "c"), "c")
	f.write([]byte("here"))
	f.close()
	if got := contents(t, filepath.Join(dir, "k", "7-2.log")); got != "here" {
		t.Errorf("got %q", got)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
	if r.close() == nil {
		t.Error("closed as if all were there")
	}
}

// A full disk is told once, and is no success.
func TestResultsOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := limitedDisk(t, "64k")
	var warned []error
	r, err := openResults(filepath.Join(dir, "r"), "ns", func(err error) { warned = append(warned, err) })
	if err != nil {
		t.Fatal(err)
	}
	fillUp(t, dir)
	for i := range 2 {
		f := r.create(resultPod("ns", "j", "j-x", fmt.Sprint(i), "c"), "c")
		f.write(make([]byte, 100000))
		f.flush()
		f.close()
	}
	if err := r.close(); !errors.Is(err, unix.ENOSPC) || len(warned) != 1 {
		t.Errorf("closed with %v; warned %v", err, warned)
	}
	if _, err := openResults(filepath.Join(dir, "s"), "ns", nil); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("opened with %v", err)
	}
}

// How a run ends is told besides what is missing in its files.
func TestRecordsClose(t *testing.T) {
	t.Parallel()
	l, err := openJoblog(filepath.Join(t.TempDir(), "log"), "ns")
	if err != nil {
		t.Fatal(err)
	}
	l.failed = io.ErrShortWrite
	for _, c := range []struct {
		err  error
		code int
		want string
	}{
		{nil, exitFailed, "--joblog: lines are missing: short write"},
		{&exitError{code: exitTimedOut}, exitTimedOut, "--joblog: lines are missing: short write"},
		{&exitError{exitFailed, errInterrupted}, exitFailed, "--joblog: lines are missing: short write\ninterrupted"},
	} {
		var exit *exitError
		if err := (&records{joblog: l}).close(c.err); !errors.As(err, &exit) || exit.code != c.code || exit.Error() != c.want {
			t.Errorf("%v: got %v", c.err, err)
		}
	}
	if err := (&records{}).close(nil); err != nil {
		t.Errorf("got %v", err)
	}
}
