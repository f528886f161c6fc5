package daemonset

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/golden"
)

// TestGolden looks at DaemonSets with all that belongs to them: testdata/x.input.yaml is
// decided as testdata/x.output.yaml says.
func TestGolden(t *testing.T) {
	t.Parallel()
	golden.Pairs(t, "testdata", "yaml", func(t *testing.T, input []byte) []byte {
		var in struct {
			Now       time.Time                    `json:"now"`
			Set       appsv1.DaemonSet             `json:"set"`
			Nodes     []*corev1.Node               `json:"nodes"`
			Pods      []*corev1.Pod                `json:"pods"`
			Revisions []*appsv1.ControllerRevision `json:"revisions"`
		}
		if err := yaml.UnmarshalStrict(input, &in); err != nil {
			t.Fatal(err)
		}
		s := state(&in.Set)
		s.Nodes, s.Pods, s.Revisions = in.Nodes, in.Pods, in.Revisions
		return golden.Decision(t, Decide(in.Now, s))
	})
}
