package control

import (
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/cron"
	"github.com/sampan-batch/sampan/internal/endpoint"
	"github.com/sampan-batch/sampan/internal/golden"
	"github.com/sampan-batch/sampan/internal/job"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// shelf is a view of objects that a test has put there.
type shelf map[change.Key]change.Object

func shelve(kinds *kind.Kinds, objects ...change.Object) shelf {
	s := make(shelf)
	for _, obj := range objects {
		s[kindOf(nil, kinds, obj).KeyOf(obj)] = obj
	}
	return s
}

func (s shelf) Get(key change.Key) (change.Object, bool) {
	obj, ok := s[key]
	return obj, ok
}

func (s shelf) List(resource change.Resource, namespace string) iter.Seq[change.Object] {
	var found []change.Object
	for _, key := range slices.SortedFunc(maps.Keys(s), func(a, b change.Key) int { return strings.Compare(a.String(), b.String()) }) {
		if key.Resource == resource && (namespace == "" || key.Namespace == namespace) {
			found = append(found, s[key])
		}
	}
	return slices.Values(found)
}

func (s shelf) Len(resource change.Resource) int { return len(slices.Collect(s.List(resource, ""))) }

func (s shelf) Unread(string) iter.Seq[change.Key] { return func(func(change.Key) bool) {} }

func (s shelf) Owned(uid types.UID) iter.Seq2[change.Key, change.Object] {
	return func(yield func(change.Key, change.Object) bool) {
		for key, obj := range s {
			named := slices.ContainsFunc(obj.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == uid })
			if named && !yield(key, obj) {
				return
			}
		}
	}
}

func (s shelf) Index(resource change.Resource, term string) iter.Seq[change.Object] {
	kinds := kind.Builtin()
	var found []change.Object
	for obj := range s.List(resource, "") {
		if slices.Contains(kinds.Index(resource, obj), term) {
			found = append(found, obj)
		}
	}
	return slices.Values(found)
}

// TestCompleteDecisions completes what the cores decide in their own golden files:
// from what they return, bare, to what is stored.
func TestCompleteDecisions(t *testing.T) {
	t.Parallel()
	kinds := kind.Builtin()
	complete := completer(kinds, ownSteps())
	type input struct {
		Now     time.Time       `json:"now"`
		Job     batchv1.Job     `json:"job"`
		Pods    []*corev1.Pod   `json:"pods"`
		CronJob batchv1.CronJob `json:"cronJob"`
		Jobs    []*batchv1.Job  `json:"jobs"`
	}
	for core, decide := range map[string]func(input) (change.Set, change.View, change.Key){
		"job": func(in input) (change.Set, change.View, change.Key) {
			view := shelve(kinds, &in.Job)
			for _, pod := range in.Pods {
				maps.Copy(view, shelve(kinds, pod))
			}
			return job.Decide(in.Now, job.State{Job: &in.Job, Pods: in.Pods, PodKind: kinds.ByResource(kind.Pods)}), view, kinds.ByResource(kind.Jobs).KeyOf(&in.Job)
		},
		"cron": func(in input) (change.Set, change.View, change.Key) {
			c := &in.CronJob
			s := cron.State{
				CronJob: c, Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, JobKind: kinds.ByResource(kind.Jobs), UID: "new-uid", Zones: time.LoadLocation,
				Job: func(name string) *batchv1.Job {
					if i := slices.IndexFunc(in.Jobs, func(j *batchv1.Job) bool { return j.Name == name }); i >= 0 {
						return in.Jobs[i]
					}
					return nil
				},
			}
			view := shelve(kinds, c)
			for _, j := range in.Jobs {
				maps.Copy(view, shelve(kinds, j))
				if metav1.IsControlledBy(j, c) {
					s.Jobs = append(s.Jobs, j)
				}
			}
			return cron.Decide(in.Now, s), view, kinds.ByResource(kind.CronJobs).KeyOf(c)
		},
	} {
		inputs, err := filepath.Glob("../" + core + "/testdata/*.input.yaml")
		if err != nil || len(inputs) == 0 {
			t.Fatalf("no golden files of %s: %v", core, err)
		}
		for _, path := range inputs {
			name := core + "-" + strings.TrimSuffix(filepath.Base(path), ".input.yaml")
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				var in input
				if err := yaml.UnmarshalStrict(text, &in); err != nil {
					t.Fatal(err)
				}
				set, view, key := decide(in)
				if err := complete(t.Context(), "job", in.Now, view, key, &set); err != nil {
					t.Fatal(err)
				}
				for _, w := range set.Writes {
					if w.Op == change.Create && w.Key.Resource == kind.Pods {
						if w.Object.GetUID() == "" {
							t.Errorf("%s has no uid", w.Key)
						}
						w.Object.SetUID("") // which is random
					}
				}
				golden.File(t, "testdata/"+name+".output.yaml", golden.Decision(t, set))
			})
		}
	}
}

// oneJob returns the parts of a loop with the Job j in its view.
func oneJob(view shelf) (l *Loop, c *Controller, key change.Key) {
	kinds := kind.Builtin()
	controllers := Controllers(kinds, sweep.Plan{}, endpoint.API{}, "", Nodes{}, nil)
	l = New(Options{
		Source: stillSource{view: view}, Kinds: kinds, Controllers: controllers, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC) },
	})
	return l, &l.Controllers[0], kinds.ByResource(kind.Jobs).Key("default", "j")
}

// stillSource is a Source in which nothing happens.
type stillSource struct {
	Source
	view change.View
}

func (s stillSource) View() change.View { return s.view }

func storedJob(edits ...func(*batchv1.Job)) *batchv1.Job {
	j := newJob("j", edits...)
	j.UID, j.ResourceVersion = "job-uid", "10"
	row := kind.Job()
	row.Default(j)
	row.Create.Prepare(j)
	return j
}

// TestRefusedCreation: what refuses a new object is the same for those of the
// controllers as for those of clients, and the core that made it is told.
func TestRefusedCreation(t *testing.T) {
	t.Parallel()
	kinds := kind.Builtin()
	urgent := func(j *batchv1.Job) { j.Spec.Template.Spec.PriorityClassName = "urgent" }
	somebody := func(j *batchv1.Job) { j.Spec.Template.Spec.ServiceAccountName = "robot" }
	for want, edit := range map[string]func(*batchv1.Job){
		`Error creating: pods "j-" is forbidden: no PriorityClass with name urgent was found`:                                      urgent,
		`Error creating: pods "j-" is forbidden: error looking up service account default/robot: serviceaccount "robot" not found`: somebody,
	} {
		l, c, key := oneJob(shelve(kinds, storedJob(edit)))
		set, err := l.decide(t.Context(), c, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(set.Notes) != 1 || set.Notes[0].Message != want || len(set.Writes) != 1 || set.WakeAt.Sub(l.Now()) != 10*time.Second {
			t.Errorf("got %+v, wake at %s\nwant %s", set.Notes, set.WakeAt, want)
		}
	}
	l, _, _ := oneJob(nil)
	cj := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "c", ResourceVersion: "10", CreationTimestamp: metav1.NewTime(l.Now().Add(-time.Minute))},
		Spec:       batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: newJob("x").Spec}},
	}
	cj.Spec.JobTemplate.Labels = map[string]string{"a b": ""}
	view := shelve(kinds, cj, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	l.Source = stillSource{view: view}
	set, err := l.decide(t.Context(), &l.Controllers[1], kinds.ByResource(kind.CronJobs).KeyOf(cj), nil)
	if err != nil || len(set.Notes) != 1 || set.Notes[0].Reason != "FailedCreate" ||
		!strings.HasPrefix(set.Notes[0].Message, `Error creating job: Job.batch "c-29497380" is invalid: metadata.labels: Invalid value: "a b"`) {
		t.Errorf("got %+v, %v", set.Notes, err)
	}
}

// TestSteps: a step sees what the controllers make, each object once, and what it
// refuses is not stored.
func TestSteps(t *testing.T) {
	t.Parallel()
	kinds := kind.Builtin()
	l, c, key := oneJob(shelve(kinds, storedJob(func(j *batchv1.Job) {
		three := int32(3)
		j.Spec.Parallelism, j.Spec.Completions = &three, &three
	})))
	var seen []string
	limit := 9
	steps := slices.Insert(ownSteps(), 3, step{name: "quota", do: func(_ *completion, k *kind.Kind, w *change.Write) error {
		pod := w.Object.(*corev1.Pod)
		seen = append(seen, fmt.Sprintf("%s %s %s", pod.GenerateName, pod.Name, pod.Spec.ServiceAccountName))
		if len(seen) > limit {
			return forbidden(k, pod, fmt.Errorf("exceeded quota"))
		}
		return nil
	}})
	l.Complete = completer(kinds, steps)
	set, err := l.decide(t.Context(), c, key, nil)
	if err != nil || len(set.Writes) != 4 || !slices.Equal(seen, slices.Repeat([]string{"j-  default"}, 3)) {
		t.Errorf("%d writes, %v; seen were %q", len(set.Writes), err, seen)
	}
	seen, limit = nil, 2
	if set, err = l.decide(t.Context(), c, key, nil); err != nil || len(set.Writes) != 1 || set.Notes[0].Message != `Error creating: pods "j-" is forbidden: exceeded quota` {
		t.Errorf("%d writes, %v, %+v", len(set.Writes), err, set.Notes)
	}
}

func TestGiveName(t *testing.T) {
	t.Parallel()
	kinds := kind.Builtin()
	j := storedJob()
	names := func(view shelf, n int, prefix string) []string {
		var set change.Set
		for range n {
			set.Create(change.Key{Resource: kind.Pods, Namespace: "default"}, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: prefix}})
			set.Note(change.Note{Message: "Created pod: ", NameOf: set.Writes[len(set.Writes)-1].Object})
		}
		if err := completer(kinds, clusterSteps())(t.Context(), "job", time.Time{}, view, kinds.ByResource(kind.Jobs).KeyOf(j), &set); err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, w := range set.Writes {
			if w.Key.Name != w.Object.GetName() || set.Notes[i].Message != "Created pod: "+w.Key.Name || w.Object.GetUID() != "" {
				t.Errorf("%s is %+v, noted as %q", w.Key, w.Object, set.Notes[i].Message)
			}
			got = append(got, w.Key.Name)
		}
		return got
	}
	first := names(shelve(kinds, j), 3, "j-")
	for _, name := range first {
		suffix := strings.TrimPrefix(name, "j-")
		if len(suffix) != 5 || strings.Trim(suffix, "bcdfghjklmnpqrstvwxz2456789") != "" {
			t.Errorf("%q is not as Kubernetes makes names", name)
		}
	}
	if again := names(shelve(kinds, j), 3, "j-"); !slices.Equal(again, first) || first[0] == first[1] {
		t.Errorf("the same cause makes %v and %v", first, again)
	}
	taken := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: first[0]}}
	if got := names(shelve(kinds, j, taken), 2, "j-"); !slices.Equal(got, first[1:]) {
		t.Errorf("with the first name taken they are %v, want %v", got, first[1:])
	}
	later := storedJob(func(j *batchv1.Job) {})
	later.ResourceVersion = "11"
	if got := names(shelve(kinds, later), 1, "j-"); got[0] == first[0] {
		t.Error("another cause makes the same name")
	}
	if got := names(shelve(kinds, j), 1, strings.Repeat("x", 70))[0]; len(got) != 63 || got[:58] != strings.Repeat("x", 58) {
		t.Errorf("got %s", got)
	}
	var set change.Set
	set.Create(change.Key{Resource: kind.Pods, Namespace: "default"}, &corev1.Pod{})
	if err := completer(kinds, ownSteps())(t.Context(), "job", time.Time{}, shelve(kinds, j), kinds.ByResource(kind.Jobs).KeyOf(j), &set); err == nil {
		t.Error("a pod without a name is created")
	}
}

// BenchmarkComplete is the price of a decision that creates so many pods, from the
// view to what is stored.
func BenchmarkComplete(b *testing.B) {
	for _, n := range []int32{1, 500} {
		j := storedJob(func(j *batchv1.Job) { j.Spec.Parallelism, j.Spec.Completions = &n, &n })
		l, c, key := oneJob(nil)
		s, err := store.Open(store.Options{Path: filepath.Join(b.TempDir(), "store.db"), Codec: kind.NewCodec(l.Kinds), Index: l.Kinds.Index})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		var set change.Set
		set.Create(key, j)
		if _, err := s.Apply(b.Context(), set); err != nil {
			b.Fatal(err)
		}
		l.Source = FromStore(s)
		b.Run(fmt.Sprintf("pods=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if set, err := l.decide(b.Context(), c, key, nil); err != nil || len(set.Writes) != int(n)+1 {
					b.Fatal(len(set.Writes), err)
				}
			}
		})
	}
}
