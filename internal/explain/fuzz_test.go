package explain

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// FuzzAnswer: whatever objects a cluster holds, there is an answer, and it is
// the same one each time.
func FuzzAnswer(f *testing.F) {
	files, err := filepath.Glob("testdata/*.input.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var in input
		if yaml.Unmarshal(data, &in) != nil {
			return
		}
		in.Zone = ""
		in.Pods = given(in.Pods)
		in.Jobs = given(in.Jobs)
		in.Events = given(in.Events)
		if in.CronJob == nil {
			in.CronJob = &batchv1.CronJob{}
		}
		if first, second := in.explain(t), in.explain(t); first == "" || first != second {
			t.Errorf("got %q, then %q", first, second)
		}
	})
}

// given drops nil, which no API returns.
func given[T any](list []*T) []*T {
	var all []*T
	for _, x := range list {
		if x != nil {
			all = append(all, x)
		}
	}
	return all
}

func TestAnswersOfNothing(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	events := []*corev1.Event{{}}
	for _, a := range []Answer{
		Pod(now, &corev1.Pod{}, events),
		Job(now, &batchv1.Job{}, []*corev1.Pod{{}}, events),
		CronJob(now, time.LoadLocation, &batchv1.CronJob{}, []*batchv1.Job{{}}, events),
	} {
		if a.Summary == "" || len(a.SoFar) == 0 {
			t.Errorf("%+v", a)
		}
	}
}
