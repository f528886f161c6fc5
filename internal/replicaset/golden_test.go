package replicaset

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/golden"
)

// TestGolden looks at sets with their pods: testdata/x.input.yaml is decided as
// testdata/x.output.yaml says.
func TestGolden(t *testing.T) {
	t.Parallel()
	golden.Pairs(t, "testdata", "yaml", func(t *testing.T, input []byte) []byte {
		var in struct {
			Now        time.Time                     `json:"now"`
			Set        *appsv1.ReplicaSet            `json:"set"`
			Controller *corev1.ReplicationController `json:"controller"`
			Pods       []*corev1.Pod                 `json:"pods"`
		}
		if err := yaml.UnmarshalStrict(input, &in); err != nil {
			t.Fatal(err)
		}
		if in.Controller != nil {
			return golden.Decision(t, Decide(in.Now, state(in.Controller, in.Pods...)))
		}
		return golden.Decision(t, Decide(in.Now, state(in.Set, in.Pods...)))
	})
}
