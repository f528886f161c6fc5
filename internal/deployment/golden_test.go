package deployment

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/golden"
)

// TestGolden looks at Deployments with their ReplicaSets: testdata/x.input.yaml is decided
// as testdata/x.output.yaml says.
func TestGolden(t *testing.T) {
	t.Parallel()
	golden.Pairs(t, "testdata", "yaml", func(t *testing.T, input []byte) []byte {
		var in struct {
			Now        time.Time            `json:"now"`
			Deployment appsv1.Deployment    `json:"deployment"`
			Sets       []*appsv1.ReplicaSet `json:"sets"`
		}
		if err := yaml.UnmarshalStrict(input, &in); err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, &in.Deployment)
		for _, s := range in.Sets {
			w.sets[s.Name] = s
		}
		return golden.Decision(t, Decide(in.Now, w.state()))
	})
}
