package cron

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/golden"
)

// TestGolden looks at CronJobs with their Jobs: testdata/x.input.yaml is decided
// as testdata/x.output.yaml says.
func TestGolden(t *testing.T) {
	t.Parallel()
	golden.Pairs(t, "testdata", "yaml", func(t *testing.T, input []byte) []byte {
		var in struct {
			Now     time.Time       `json:"now"`
			CronJob batchv1.CronJob `json:"cronJob"`
			Jobs    []*batchv1.Job  `json:"jobs"`
		}
		if err := yaml.UnmarshalStrict(input, &in); err != nil {
			t.Fatal(err)
		}
		return golden.Decision(t, Decide(in.Now, state(&in.CronJob, in.Jobs...)))
	})
}

// BenchmarkDecide is the price of one look at a CronJob: before its slot, and
// when it starts a Job.
func BenchmarkDecide(b *testing.B) {
	la := mustLoad(b, "America/Los_Angeles")
	for name, c := range map[string]*batchv1.CronJob{
		"idle":  newCron("0 5 * * *", ran(hour)),
		"zone":  newCron("0 5 * * *", ran(hour), zone("America/Los_Angeles")),
		"start": newCron("*/5 * * * *", ran(hour-5*minute)),
	} {
		s := state(c, newJob(hour-5*minute, ended(batchv1.JobComplete, hour)))
		s.Zones = func(string) (*time.Location, error) { return la, nil } // as control remembers it
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if set := Decide(t0.Add(hour), s); (name == "start") != (summary(set) != "") {
					b.Fatal(summary(set), reasons(set))
				}
			}
		})
	}
}
