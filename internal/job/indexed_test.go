package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

func indexPod(i int, edits ...func(*corev1.Pod)) *corev1.Pod {
	return newPod(fmt.Sprintf("pi-%d-x", i), append([]func(*corev1.Pod){withIndex(i)}, edits...)...)
}

func done(completed, failed string) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.CompletedIndexes = completed
		j.Status.Succeeded = ParseIndexes(completed, 1<<31-1).Len()
		if j.Spec.BackoffLimitPerIndex != nil {
			j.Status.FailedIndexes = &failed
		}
	}
}

func TestIndexed(t *testing.T) {
	t.Parallel()
	succeed := func(rule batchv1.SuccessPolicyRule) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr.To("9")}, rule}}
		}
	}
	runCases(t, []decideCase{
		{"new", newJob(indexedJob, pods(2, 3)), nil, 0,
			want{pods: "+pi-0- +pi-1-", notes: "SuccessfulCreate SuccessfulCreate", counts: "2/0/0 0/0"}},
		{"the lowest free index is next", newJob(indexedJob, pods(3, 6), started(3), done("0,2", "")),
			[]*corev1.Pod{indexPod(1), indexPod(3, exited(0, 0))}, second,
			want{pods: "+pi-4- +pi-5- !pi-3-x", notes: "SuccessfulCreate SuccessfulCreate", counts: "3/0/0 3/0", indexes: "0,2,3"}},
		{"a failed index is tried again after a while", newJob(indexedJob, pods(1, 2), started(1)), []*corev1.Pod{indexPod(0, exited(0, 1))}, 10 * second,
			want{pods: "+pi-0- !pi-0-x", notes: "SuccessfulCreate", counts: "1/0/0 0/1"}},
		{"an index that succeeded twice counts once", newJob(indexedJob, pods(2, 2), started(1), done("0", "")),
			[]*corev1.Pod{indexPod(0, exited(0, 0)), indexPod(1)}, second, want{pods: "!pi-0-x", counts: "1/0/0 1/0", indexes: "0"}},
		{"of two pods of an index the one that is further stays", newJob(indexedJob, pods(2, 2), started(3)),
			[]*corev1.Pod{indexPod(0, pending), newPod("pi-0-y", withIndex(0)), indexPod(1)}, second,
			want{pods: "-pi-0-x", notes: "SuccessfulDelete", counts: "2/0/0 0/0"}},
		{"a pod without an index goes", newJob(indexedJob, pods(2, 2), started(2)), []*corev1.Pod{indexPod(0), newPod("a"), indexPod(7)}, second,
			want{pods: "-pi-7-x… -a…", notes: "SuccessfulDelete SuccessfulDelete", counts: "1/0/2 0/0"}},
		{"complete", newJob(indexedJob, pods(1, 3), started(1), done("0,2", "")), []*corev1.Pod{indexPod(1, exited(0, 0))}, second,
			want{pods: "!pi-1-x", notes: "Completed", conditions: completed, counts: "0/0/0 3/0", indexes: "0-2"}},
		{"fewer completions", newJob(indexedJob, pods(2, 2), started(2), done("1,3-5", "")), []*corev1.Pod{indexPod(0), indexPod(6)}, second,
			want{pods: "-pi-6-x…", notes: "SuccessfulDelete", counts: "1/0/1 1/0", indexes: "1"}},
		{"fewer completions: done", newJob(indexedJob, pods(2, 2), started(0), done("0-5", "")), nil, second,
			want{notes: "Completed", conditions: completed, counts: "0/0/0 2/0", indexes: "0,1"}},
		{"successPolicy by indexes", newJob(indexedJob, pods(3, 3), started(2), done("0", ""), succeed(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("0,2")})),
			[]*corev1.Pod{indexPod(1), indexPod(2, exited(0, 0))}, second,
			want{pods: "-pi-1-x… !pi-2-x", notes: "SuccessfulDelete", conditions: "SuccessCriteriaMet(SuccessPolicy)", counts: "0/0/1 2/0", indexes: "0,2"}},
		{"successPolicy by count", newJob(indexedJob, pods(3, 3), started(1), succeed(batchv1.SuccessPolicyRule{SucceededCount: ptr.To[int32](1)})),
			[]*corev1.Pod{indexPod(1, exited(0, 0))}, second, want{pods: "!pi-1-x", notes: "Completed",
				conditions: "SuccessCriteriaMet(SuccessPolicy) Complete(SuccessPolicy)", counts: "0/0/0 1/0", indexes: "1"}},
		{"successPolicy by count of indexes", newJob(indexedJob, pods(2, 3), started(2), done("0", ""),
			succeed(batchv1.SuccessPolicyRule{SucceededIndexes: ptr.To("1-2"), SucceededCount: ptr.To[int32](1)})),
			[]*corev1.Pod{indexPod(1), indexPod(2)}, second, want{counts: "2/0/0 1/0", indexes: "0"}},
	})
}

func TestPerIndex(t *testing.T) {
	t.Parallel()
	maxFailed := func(n int32) func(*batchv1.Job) { return func(j *batchv1.Job) { j.Spec.MaxFailedIndexes = &n } }
	failIndex := func(j *batchv1.Job) {
		j.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed)
		j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
			{Action: "FailIndex", OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{9}}},
			{Action: "Ignore", OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{8}}},
		}}
	}
	waits := func(text string) func(*batchv1.Job) {
		return func(j *batchv1.Job) { j.Annotations = map[string]string{BackoffAnnotation: text} }
	}
	runCases(t, []decideCase{
		{"new", newJob(perIndexLimit(1), pods(1, 2)), nil, 0, want{pods: "+pi-0-", notes: "SuccessfulCreate", counts: "1/0/0 0/0", indexes: ";"}},
		{"a failed pod stays until it is replaced", newJob(perIndexLimit(1), pods(2, 2), started(2), done("", "")),
			[]*corev1.Pod{indexPod(0, exited(0, 1), failedBefore(0)), indexPod(1, failedBefore(0))}, 9 * second,
			want{notes: "BackOff", counts: "1/0/0 0/0", indexes: ";", wake: 10 * second}},
		{"it is explained once", newJob(perIndexLimit(1), pods(2, 2), started(1), done("", ""), waits("0")),
			[]*corev1.Pod{indexPod(0, exited(0, 1), failedBefore(0)), indexPod(1, failedBefore(0))}, 9 * second,
			want{counts: "1/0/0 0/0", indexes: ";", wake: 10 * second}},
		{"it is replaced and counted", newJob(perIndexLimit(1), pods(2, 2), started(1), done("", ""), waits("0")),
			[]*corev1.Pod{indexPod(0, exited(0, 1), failedBefore(0)), indexPod(1, failedBefore(0))}, 10 * second,
			want{pods: "+pi-0- !pi-0-x", notes: "SuccessfulCreate", counts: "2/0/0 0/1", indexes: ";"}},
		{"the second wait is longer", newJob(perIndexLimit(5), pods(1, 2), started(1), done("", "")),
			[]*corev1.Pod{indexPod(0, exited(0, 1), failedBefore(2))}, 10 * second,
			want{notes: "BackOff", counts: "0/0/0 0/0", indexes: ";", wake: 40 * second}},
		{"an index fails for good", newJob(perIndexLimit(1), pods(2, 3), started(2), done("", "")),
			[]*corev1.Pod{indexPod(0, exited(0, 1), failedBefore(1)), indexPod(1, failedBefore(0))}, second,
			want{pods: "+pi-2- !pi-0-x", notes: "IndexFailed SuccessfulCreate", counts: "2/0/0 0/1", indexes: ";0"}},
		{"the last index fails", newJob(perIndexLimit(0), pods(2, 3), started(1), done("0,1", "")), []*corev1.Pod{indexPod(2, exited(0, 1))}, second,
			want{pods: "!pi-2-x", notes: "IndexFailed FailedIndexes", conditions: "FailureTarget(FailedIndexes) Failed(FailedIndexes)", counts: "0/0/0 2/1", indexes: "0,1;2"}},
		{"too many indexes fail", newJob(perIndexLimit(0), maxFailed(1), pods(3, 3), started(3), done("", "0")),
			[]*corev1.Pod{indexPod(1, exited(0, 1)), indexPod(2)}, second,
			want{pods: "-pi-2-x… !pi-1-x", notes: "IndexFailed SuccessfulDelete", conditions: "FailureTarget(MaxFailedIndexesExceeded)", counts: "0/0/1 0/2", indexes: ";0,1"}},
		{"a completed index does not fail", newJob(perIndexLimit(0), pods(2, 2), started(1), done("0", "")),
			[]*corev1.Pod{indexPod(0, exited(0, 1)), indexPod(1)}, second, want{pods: "!pi-0-x", counts: "1/0/0 1/1", indexes: "0;"}},
		{"a failed index does not complete", newJob(perIndexLimit(0), pods(2, 2), started(1), done("", "0")),
			[]*corev1.Pod{indexPod(0, exited(0, 0)), indexPod(1)}, second, want{pods: "!pi-0-x", counts: "1/0/0 0/0", indexes: ";0"}},
		{"FailIndex", newJob(perIndexLimit(5), failIndex, pods(1, 2), started(1), done("", "")), []*corev1.Pod{indexPod(0, exited(0, 9))}, second,
			want{pods: "+pi-1- !pi-0-x", notes: "IndexFailed SuccessfulCreate", counts: "1/0/0 0/1", indexes: ";0"}},
		{"Ignore", newJob(perIndexLimit(0), failIndex, pods(1, 1), started(1), done("", "")), []*corev1.Pod{indexPod(0, exited(0, 8))}, 10 * second,
			want{pods: "+pi-0- !pi-0-x", notes: "SuccessfulCreate PodFailureIgnored", counts: "1/0/0 0/0", indexes: ";"}},
		{"being deleted: nothing is kept", newJob(perIndexLimit(5), pods(1, 1), started(1), done("", ""), func(j *batchv1.Job) { j.DeletionTimestamp = at(0) }),
			[]*corev1.Pod{indexPod(0, exited(0, 8))}, second, want{pods: "!pi-0-x", counts: "0/0/0 0/1", indexes: ";"}},
	})
}

func TestInherit(t *testing.T) {
	t.Parallel()
	ignored := func(p *corev1.Pod) { p.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = "3" }
	j := newJob(perIndexLimit(9), pods(1, 2), started(1))
	set := Decide(t0.Add(time.Hour), state(j, indexPod(0, exited(0, 1), failedBefore(2), ignored)))
	pod := set.Writes[0].Object.(*corev1.Pod)
	for key, want := range map[string]string{
		batchv1.JobIndexFailureCountAnnotation: "3", batchv1.JobIndexIgnoredFailureCountAnnotation: "3", batchv1.JobCompletionIndexAnnotation: "0",
	} {
		if got := pod.Annotations[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if pod.Labels[batchv1.JobCompletionIndexAnnotation] != "0" || pod.Spec.Hostname != "pi-0" || pod.GenerateName != "pi-0-" {
		t.Errorf("got %+v", pod.ObjectMeta)
	}
	env := pod.Spec.Containers[0].Env
	if len(env) != 1 || env[0].Name != "JOB_COMPLETION_INDEX" || env[0].ValueFrom.FieldRef.FieldPath != "metadata.labels['batch.kubernetes.io/job-completion-index']" {
		t.Errorf("env is %+v", env)
	}
	if _, shared := j.Spec.Template.Labels[batchv1.JobCompletionIndexAnnotation]; shared || len(j.Spec.Template.Spec.Containers[0].Env) > 0 {
		t.Error("the template was modified")
	}
}

func TestIndexSets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in          string
		completions int32
		out         string
		exact       bool
	}{
		{"", 5, "", true}, {"1", 5, "1", true}, {"0-4", 5, "0-4", true}, {"0,1", 5, "0,1", true}, {"0-1", 5, "0,1", false},
		{"0,1,2", 5, "0-2", false}, {"0,2-4", 5, "0,2-4", true}, {"0-4,7", 5, "0-4", false}, {"3-9", 5, "3,4", false},
		{"3,1", 5, "3", false}, {"x,2", 5, "2", false}, {"1-", 5, "", false}, {"-1", 5, "", false}, {"01", 5, "1", false},
		{"2-1,3", 5, "3", false}, {"99999999999", 5, "", false}, {"1,", 5, "1", false}, {",", 5, "", false}, {"1-3,4", 9, "1-4", false},
	} {
		set, exact := parseIndexes(c.in, c.completions)
		if set.String() != c.out || exact != c.exact {
			t.Errorf("%q below %d is %q, %v; want %q, %v", c.in, c.completions, set, exact, c.out, c.exact)
		}
	}
	x, y := ParseIndexes("1-3,5,9-11", 20), ParseIndexes("0,4,6-9", 20)
	for got, want := range map[string]string{
		x.union(y).String(): "0-11", x.minus(y).String(): "1-3,5,10,11", y.minus(x).String(): "0,4,6-8", fmt.Sprint(x.overlap(y)): "1",
		fmt.Sprint(missing(4, 20, x)): "[0 4 6 7]", fmt.Sprint(missing(9, 8, x)): "[0 4 6 7]", fmt.Sprint(missing(2, 1)): "[0]",
		fmt.Sprint(missing(3, 20, x, y)):                    "[12 13 14]",
		fmt.Sprint(x.Has(9), x.Has(8), x.Has(12), x.Has(0)): "true false false false", fmt.Sprint(slices.Collect(y.All())): "[0 4 6 7 8 9]",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	var c collector
	for _, i := range []int32{5, 1, 2, 5, 3} {
		c.add(i)
	}
	if set, distinct := c.set(); set.String() != "1-3,5" || distinct {
		t.Errorf("collected %s, distinct %v", set, distinct)
	}
}

// FuzzParseIndexes checks the parser, and the sets' arithmetic, against a map.
func FuzzParseIndexes(f *testing.F) {
	for _, s := range []string{"", "1,3-5,7", "0-99", "7-3", "1,1", "2147483647", "1-2147483647", "a-b", ",,", "5-"} {
		f.Add(s, "2-4,6", int32(50))
	}
	f.Fuzz(func(t *testing.T, a, b string, completions int32) {
		completions %= 1000
		x, exact := parseIndexes(a, completions)
		y := ParseIndexes(b, completions)
		if exact != (x.String() == a) {
			t.Fatalf("%q prints as %q, exact %v", a, x, exact)
		}
		if again, exact := parseIndexes(x.String(), completions); !slices.Equal(again, x) || !exact {
			t.Fatalf("%q is read back as %q", x, again)
		}
		in := func(set Indexes) map[int32]bool {
			m := make(map[int32]bool)
			last := int32(-2)
			for _, s := range set {
				if s.first <= last+1 || s.last < s.first || s.last >= completions {
					t.Fatalf("%q below %d has the span %v after %d", a, completions, s, last)
				}
				last = s.last
			}
			for i := range set.All() {
				m[i] = true
			}
			return m
		}
		mx, my, union, minus := in(x), in(y), in(x.union(y)), in(x.minus(y))
		var overlap int32
		for i := int32(0); i < completions; i++ {
			if union[i] != (mx[i] || my[i]) || minus[i] != (mx[i] && !my[i]) || x.Has(i) != mx[i] {
				t.Fatalf("%q and %q differ from the model at %d", x, y, i)
			}
			if mx[i] && my[i] {
				overlap++
			}
		}
		if x.overlap(y) != overlap || int(x.Len()) != len(mx) {
			t.Fatalf("%q and %q overlap in %d, want %d", x, y, x.overlap(y), overlap)
		}
		if free := missing(completions, completions, x, y); len(free)+len(union) != int(max(0, completions)) {
			t.Fatalf("%q and %q miss %v of %d", x, y, free, completions)
		}
	})
}

// FuzzAcceptedIndexes: what validation takes for indexes is read as it is meant.
func FuzzAcceptedIndexes(f *testing.F) {
	for _, s := range []string{"0", "1,3-5,7", "+1,3-+4", "007-9", "1-2-3", "-1", "5,5", "3,4,5"} {
		f.Add(s, int32(20))
	}
	row := kind.Job()
	f.Fuzz(func(t *testing.T, text string, completions int32) {
		completions = 1 + (completions&0x7fffffff)%1000
		job := newJob(indexedJob, func(j *batchv1.Job) {
			j.Spec.Completions = &completions
			j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: &text}}}
		})
		for _, err := range row.Create.Validate(job) {
			if strings.Contains(err.Field, "succeededIndexes") {
				return
			}
		}
		want := make(map[int32]bool)
		for item := range strings.SplitSeq(text, ",") {
			from, to, isRange := strings.Cut(item, "-")
			first, _ := strconv.Atoi(from)
			last := first
			if isRange {
				last, _ = strconv.Atoi(to)
			}
			for i := first; i <= last && text != ""; i++ {
				want[int32(i)] = true
			}
		}
		got := ParseIndexes(text, completions)
		for i := range got.All() {
			if !want[i] {
				t.Fatalf("%q is read as %q: there is no %d", text, got, i)
			}
		}
		if int(got.Len()) != len(want) {
			t.Fatalf("%q is read as %q: not all of it", text, got)
		}
	})
}
