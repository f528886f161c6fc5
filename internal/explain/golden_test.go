package explain

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/golden"
)

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
	return CronJob(now, time.LoadLocation, in.CronJob, in.Jobs, in.Events).String()
}

// TestGolden explains testdata/x.input.yaml as testdata/x.output.txt says.
func TestGolden(t *testing.T) {
	t.Parallel()
	golden.Pairs(t, "testdata", "txt", func(t *testing.T, data []byte) []byte {
		var in input
		if err := yaml.UnmarshalStrict(data, &in); err != nil {
			t.Fatal(err)
		}
		return []byte(in.explain(t))
	})
}
