package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/board"
)

var t0 = time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)

func after(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// run is a run of one Job, told to a board.
type run struct {
	board *board.Board
	job   *batchv1.Job
}

func newRun(name string, indexed bool) *run {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	j.Spec = batchv1.JobSpec{Completions: ptr.To[int32](1), BackoffLimit: ptr.To[int32](0), Selector: &metav1.LabelSelector{}}
	if indexed {
		j.Spec.Completions, j.Spec.CompletionMode = ptr.To[int32](3), ptr.To(batchv1.IndexedCompletion)
	}
	r := &run{board.New(t0, true), j}
	r.board.Add(t0, j)
	return r
}

// pod has a pod end with an exit code after having written its last lines. index -1 is
// none.
func (r *run) pod(name string, index int, exit int32, last ...string) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", UID: r.job.UID, Controller: ptr.To(true)}}
	if index >= 0 {
		p.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(index)}
	}
	p.Status.Phase = corev1.PodSucceeded
	if exit != 0 {
		p.Status.Phase = corev1.PodFailed
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: exit, Reason: "Error", StartedAt: metav1.NewTime(t0), FinishedAt: metav1.NewTime(after(1)),
	}}}}
	r.board.Pod(after(1), p, false)
	written := int64(0)
	for _, line := range last {
		written += int64(len(line)) + 1
	}
	r.board.Live(p.UID, "main", 0, board.Life{Began: after(0.5), Ended: after(0.75), Bytes: written, Last: last})
}

func (r *run) ends(how batchv1.JobConditionType, reason string) board.Result {
	j := r.job.DeepCopy()
	j.Status.Conditions = []batchv1.JobCondition{{Type: how, Status: corev1.ConditionTrue, Reason: reason, Message: "so it is"}}
	r.board.Job(after(2), j, false)
	return board.Result{Jobs: r.board.Results(after(3)), Seconds: 3}
}

func TestJoblog(t *testing.T) {
	t.Parallel()
	r := newRun("import", true)
	r.pod("import-0-a", 0, 0, "done")
	r.pod("import-1-a", 1, 3, "FATAL", "bye")
	r.pod("import-1-b", 1, 137)
	want := []string{
		"1\timport-0-a\t1772884800.500\t0.250\t0\t5\t0\t0\timport\t0\t1\t",
		"2\timport-1-a\t1772884800.500\t0.250\t0\t10\t3\t0\timport\t1\t1\t",
		"3\timport-1-b\t1772884800.500\t0.250\t0\t0\t137\t9\timport\t1\t2\t",
	}
	for i, p := range r.board.PodsEnded(after(2), true) {
		line := JoblogLine(i+1, "import", p)
		if line != want[i] {
			t.Errorf("got  %q\nwant %q", line, want[i])
		}
		got, err := ParseJoblogLine(line)
		if want := (JoblogEntry{i + 1, p.Name, "import"}); got != want || err != nil {
			t.Errorf("read again: %+v, %v", got, err)
		}
	}
	evicted := &board.PodResult{Name: "p", Attempt: 1, Status: "Failed", Reason: "Evi\tcted\n", EndTime: &metav1.MicroTime{Time: t0}}
	if got, want := JoblogLine(7, "x/import", evicted), "7\tp\t1772884800.000\t0.000\t0\t0\t-1\t0\tx/import\t\t1\tEvi cted "; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, wrong := range []string{"", "Seq\tHost", JoblogHead, "0" + want[0][1:], want[0] + "\tx"} {
		if got, err := ParseJoblogLine(wrong); err == nil {
			t.Errorf("%q is read as %+v", wrong, got)
		}
	}
}

func TestJUnit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		run  func() board.Result
		want string
	}{
		{"indexes, one of which needs a second try and one fails", func() board.Result {
			r := newRun("j", true)
			r.pod("j-2-a", 2, 4, "index 2 <does> not & work", "\x1b[31mred")
			r.pod("j-1-a", 1, 1)
			r.pod("j-1-b", 1, 0)
			r.pod("j-0-a", 0, 0)
			return r.ends(batchv1.JobFailed, "FailedIndexes")
		}, `<testsuites name="sampan run" tests="3" failures="1" errors="0" skipped="0" time="3.000">
  <testsuite name="job/j" tests="3" failures="1" errors="0" skipped="0" time="2.000" timestamp="2026-03-07T12:00:00">
    <testcase name="index 0" classname="default.j" time="0.250"></testcase>
    <testcase name="index 1" classname="default.j" time="0.250">
      <system-err>pod j-1-a: main exited with 1 after 0.25s&#xA;</system-err>
    </testcase>
    <testcase name="index 2" classname="default.j" time="0.250">
      <failure message="main exited with 4 after 0.25s">pod j-2-a: main exited with 4 after 0.25s&#xA;index 2 &lt;does&gt; not &amp; work&#xA;\x1b[31mred&#xA;</failure>
    </testcase>
  </testsuite>
</testsuites>
`},
		{"a try that was made good", func() board.Result {
			r := newRun("j", false)
			r.pod("j-a", -1, 1)
			r.pod("j-b", -1, 0)
			return r.ends(batchv1.JobComplete, "CompletionsReached")
		}, `<testsuites name="sampan run" tests="1" failures="0" errors="0" skipped="0" time="3.000">
  <testsuite name="job/j" tests="1" failures="0" errors="0" skipped="0" time="2.000" timestamp="2026-03-07T12:00:00">
    <testcase name="j-b" classname="default.j" time="0.250"></testcase>
    <system-err>pod j-a: main exited with 1 after 0.25s&#xA;</system-err>
  </testsuite>
</testsuites>
`},
		{"an index that the success policy does not need", func() board.Result {
			r := newRun("j", true)
			r.pod("j-1-a", 1, 1)
			return r.ends(batchv1.JobComplete, "SuccessPolicy")
		}, `<testsuites name="sampan run" tests="1" failures="0" errors="0" skipped="1" time="3.000">
  <testsuite name="job/j" tests="1" failures="0" errors="0" skipped="1" time="2.000" timestamp="2026-03-07T12:00:00">
    <testcase name="index 1" classname="default.j" time="0.250">
      <skipped message="the Job is Complete without it: main exited with 1 after 0.25s">pod j-1-a: main exited with 1 after 0.25s&#xA;</skipped>
    </testcase>
  </testsuite>
</testsuites>
`},
		{"no pod says why", func() board.Result {
			return newRun("j", false).ends(batchv1.JobFailed, "DeadlineExceeded")
		}, `<testsuites name="sampan run" tests="1" failures="1" errors="0" skipped="0" time="3.000">
  <testsuite name="job/j" tests="1" failures="1" errors="0" skipped="0" time="2.000" timestamp="2026-03-07T12:00:00">
    <testcase name="job/j" classname="default.j" time="2.000">
      <failure message="DeadlineExceeded: so it is" type="DeadlineExceeded"></failure>
    </testcase>
  </testsuite>
</testsuites>
`},
		{"it was stopped", func() board.Result {
			return board.Result{Jobs: newRun("j", false).board.Results(after(3)), Seconds: 3}
		}, `<testsuites name="sampan run" tests="1" failures="0" errors="1" skipped="0" time="3.000">
  <testsuite name="job/j" tests="1" failures="0" errors="1" skipped="0" time="3.000" timestamp="2026-03-07T12:00:00">
    <testcase name="job/j" classname="default.j" time="3.000">
      <error message="it was stopped before it had ended"></error>
    </testcase>
  </testsuite>
</testsuites>
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if err := JUnit(&out, c.run()); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimPrefix(out.String(), xml.Header); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// FuzzJUnit: whatever pods write and manifests say, the report is XML, and says it.
func FuzzJUnit(f *testing.F) {
	for _, s := range []string{"plain", "]]></failure><x>", "\x00\x1b[31m\xff\u0085\ufffe\uffff", "&amp;<!--", "a\r\nb\tc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := newRun("j", false)
		r.pod("j-a", -1, 1, s, s)
		res := r.ends(batchv1.JobFailed, s)
		res.Jobs[0].Message, res.Jobs[0].Name = s, s
		var out bytes.Buffer
		if err := JUnit(&out, res); err != nil {
			t.Fatal(err)
		}
		dec := xml.NewDecoder(&out)
		said := ""
		for {
			token, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %s", err, out.String())
			}
			if data, ok := token.(xml.CharData); ok {
				said += string(data)
			}
		}
		if !strings.Contains(said, text(s)+"\n"+text(s)+"\n") {
			t.Errorf("%q does not say %q", said, text(s))
		}
	})
}

func TestCommand(t *testing.T) {
	t.Parallel()
	if got, want := Command("group", "", "pod x"), "::group::pod x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got := Command("error", "a: b, c%\n", "50%\r\n::set-env name=x::y, z")
	if want := "::error title=a%3A b%2C c%25%0A::50%25%0D%0A::set-env name=x::y, z"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
