package explain

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write testdata/*.output.txt instead of comparing")

// input is a case of testdata: one object to explain, what there is to go by,
// and when and in which time zone somebody asks.
type input struct {
	Now     time.Time        `json:"now"`
	Zone    string           `json:"zone"`
	Pod     *corev1.Pod      `json:"pod"`
	Job     *batchv1.Job     `json:"job"`
	Pods    []*corev1.Pod    `json:"pods"`
	CronJob *batchv1.CronJob `json:"cronJob"`
	Jobs    []*batchv1.Job   `json:"jobs"`
	Events  []*corev1.Event  `json:"events"`
}

func (in *input) explain(t *testing.T) string {
	t.Helper()
	zone, err := time.LoadLocation(in.Zone)
	if err != nil {
		t.Fatal(err)
	}
	now := in.Now.In(zone)
	switch {
	case in.Pod != nil:
		return Pod(now, in.Pod, in.Events).String()
	case in.Job != nil:
		return Job(now, in.Job, in.Pods, in.Events).String()
	}
	return CronJob(now, in.CronJob, in.Jobs, in.Events).String()
}

// TestGolden runs the pairs of testdata: x.input.yaml becomes x.output.txt.
// With -update the latter is written.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.input.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".input.yaml"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var in input
			if err := yaml.UnmarshalStrict(data, &in); err != nil {
				t.Fatal(err)
			}
			got := in.explain(t)
			golden := strings.Replace(file, ".input.yaml", ".output.txt", 1)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
