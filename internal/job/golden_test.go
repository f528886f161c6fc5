package job

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/golden"
)

// TestGolden looks at Jobs with their pods: testdata/x.input.yaml is decided as
// testdata/x.output.yaml says.
func TestGolden(t *testing.T) {
	t.Parallel()
	golden.Pairs(t, "testdata", "yaml", func(t *testing.T, input []byte) []byte {
		var in struct {
			Now  time.Time     `json:"now"`
			Job  batchv1.Job   `json:"job"`
			Pods []*corev1.Pod `json:"pods"`
		}
		if err := yaml.UnmarshalStrict(input, &in); err != nil {
			t.Fatal(err)
		}
		return golden.Decision(t, Decide(in.Now, state(&in.Job, in.Pods...)))
	})
}
