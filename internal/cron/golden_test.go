package cron

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/change"
)

var update = flag.Bool("update", false, "write testdata/*.output.yaml instead of comparing")

// input is a case of testdata: a CronJob, its Jobs, and when they are looked at.
type input struct {
	Now     time.Time       `json:"now"`
	CronJob batchv1.CronJob `json:"cronJob"`
	Jobs    []*batchv1.Job  `json:"jobs"`
}

// output is the decision, with whole objects.
type output struct {
	Writes []write       `json:"writes,omitempty"`
	Guards []string      `json:"guards,omitempty"`
	Notes  []change.Note `json:"notes,omitempty"`
	WakeAt *time.Time    `json:"wakeAt,omitempty"`
}

type write struct {
	Op     string        `json:"op"`
	Key    string        `json:"key"`
	Rev    uint64        `json:"rev,omitempty"`
	Object change.Object `json:"object,omitempty"`
}

func print(set change.Set) output {
	out := output{Notes: set.Notes}
	for _, w := range set.Writes {
		out.Writes = append(out.Writes, write{map[change.Op]string{
			change.Create: "create", change.Update: "update", change.Delete: "delete"}[w.Op], w.Key.String(), w.Rev, w.Object})
	}
	for _, g := range set.Guards {
		out.Guards = append(out.Guards, g.Key.String())
	}
	if !set.WakeAt.IsZero() {
		out.WakeAt = &set.WakeAt
	}
	return out
}

// TestGolden runs the pairs of testdata: x.input.yaml becomes x.output.yaml.
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
			got, err := yaml.Marshal(print(Decide(in.Now, state(&in.CronJob, in.Jobs...))))
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.Replace(file, ".input.", ".output.", 1)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs; run go test -update and look at the difference. Got:\n%s", golden, got)
			}
		})
	}
}

// BenchmarkDecide is the price of one look at a CronJob: before its slot, and
// when it starts a Job.
func BenchmarkDecide(b *testing.B) {
	for name, c := range map[string]*batchv1.CronJob{
		"idle":  newCron("0 5 * * *", ran(hour)),
		"zone":  newCron("0 5 * * *", ran(hour), zone("Asia/Seoul")),
		"start": newCron("*/5 * * * *", ran(hour-5*minute)),
	} {
		s := state(c, newJob(hour-5*minute, ended(batchv1.JobComplete, hour)))
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
