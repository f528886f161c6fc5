package fake_test

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/fake"
	"github.com/sampan-batch/sampan/internal/runner/runnertest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	runnertest.Run(t, func(*testing.T) runner.Runner { return fake.New(nil) }, runnertest.Options{
		Class: runner.Sandbox, Simulated: true,
		Reconnect:      func(_ *testing.T, r runner.Runner) runner.Runner { return r },
		KillSupervisor: func(_ *testing.T, r runner.Runner) { r.(*fake.Runner).Lose() },
	})
}

func TestFakeTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := fake.New(func(spec *runner.Spec) fake.Script {
			script := fake.Shell(spec)
			script.StartDelay = time.Minute
			return script
		})
		if _, err := r.Start(t.Context(), &runner.Spec{ID: "a", Args: []string{"sleep", "86400"}}); err != nil {
			t.Fatal(err)
		}
		st, err := r.Wait(t.Context(), "a")
		if err != nil || st.FinishedAt.Sub(st.StartedAt) != 24*time.Hour || time.Since(began) != 24*time.Hour+time.Minute {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

func TestShell(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args []string
		want fake.Script
	}{
		{[]string{"/bin/true"}, fake.Script{}},
		{[]string{"false"}, fake.Script{Exit: 1}},
		{[]string{"sleep", "1.5"}, fake.Script{Steps: []fake.Step{{Sleep: 1500 * time.Millisecond}}}},
		{[]string{"sleep", "infinity"}, fake.Script{Steps: []fake.Step{{Sleep: 1<<63 - 1}}}},
		{[]string{"sh", "-c", "echo a  'b  c' \"$X ${X}\" >&2\nexit 3; echo no"},
			fake.Script{Steps: []fake.Step{{Stderr: "a b  c 1 1\n"}}, Exit: 3}},
		{[]string{"bash", "-c", "false; what"}, fake.Script{Steps: []fake.Step{{Stderr: "sh: what: not found\n"}}, Exit: 127}},
		{[]string{"sh", "-c", "kill -9 $$; echo no"}, fake.Script{Signal: 9}},
		{[]string{"sh", "-c", "printf 'a\\nb'; 'unclosed"}, fake.Script{
			Steps: []fake.Step{{Stdout: "a\nb"}, {Stderr: "sh: unclosed: not found\n"}}, Exit: 127}},
	}
	for _, tc := range tests {
		if got := fake.Shell(&runner.Spec{Args: tc.args, Env: []string{"X=1"}}); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q:\ngot  %+v\nwant %+v", tc.args, got, tc.want)
		}
	}
}
