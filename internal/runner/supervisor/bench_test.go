package supervisor

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

// parallel calls f b.N times, n at a time, and reports calls per second and
// the CPU time per call of this process and its children.
func parallel(b *testing.B, n int, cpu func() time.Duration, f func(i int) error) {
	b.Helper()
	var next atomic.Int64
	errs := make(chan error, n)
	before := cpu()
	b.ResetTimer()
	for range n {
		go func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					errs <- nil
					return
				}
				if err := f(int(i)); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
	b.ReportMetric((cpu()-before).Seconds()*1e3/float64(b.N), "cpu-ms/start")
}

// cpuOf adds the CPU times of this process, its collected children, and those
// of another process.
func cpuOf(b *testing.B, pid int) func() time.Duration {
	return func() time.Duration {
		var sum time.Duration
		for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
			var u syscall.Rusage
			if err := syscall.Getrusage(who, &u); err != nil {
				b.Fatal(err)
			}
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
		if pid == 0 {
			return sum
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Fatal(err)
		}
		var skip string
		var utime, stime, cutime, cstime int64
		if _, err := fmt.Sscan(string(text), &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip,
			&skip, &skip, &skip, &utime, &stime, &cutime, &cstime); err != nil {
			b.Fatal(err)
		}
		return sum + time.Duration(utime+stime+cutime+cstime)*10*time.Millisecond
	}
}

// trivial is the cheapest program at hand.
func trivial() []string {
	if path, err := exec.LookPath("busybox"); err == nil {
		return []string{path, "true"}
	}
	return []string{"/bin/true"}
}

// BenchmarkLoop is what the machine can do: start a process and wait for it.
func BenchmarkLoop(b *testing.B) {
	args := trivial()
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			parallel(b, n, cpuOf(b, 0), func(int) error { return exec.Command(args[0], args[1:]...).Run() })
		})
	}
}

// BenchmarkRunner is the same through the supervisor, with a log, a record, and
// the removal of everything.
func BenchmarkRunner(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkRunner(b, n, trivial()) })
	}
}

func benchmarkRunner(b *testing.B, n int, args []string) {
	ctx, dir := b.Context(), b.TempDir()
	c, err := Open(ctx, dir, ClientOptions{Private: true, Command: selfCommand()})
	if err != nil {
		b.Fatal(err)
	}
	run := func(i int) error {
		uid := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		spec := &runner.Spec{
			ID: uid + "_main_0", Class: runner.Host, Container: "main", Args: args,
			Pod:     runner.PodRef{Namespace: "default", Name: "bench", UID: uid},
			Env:     []string{"PATH=/usr/bin:/bin", "HOSTNAME=bench", "KUBERNETES_SERVICE_HOST=10.0.0.1"},
			LogPath: filepath.Join(dir, "logs", "default_bench_"+uid+"_main_0.log"),
		}
		if _, err := c.Start(ctx, spec); err != nil {
			return err
		}
		if _, err := c.Wait(ctx, spec.ID); err != nil {
			return err
		}
		if err := c.Remove(ctx, spec.ID); err != nil {
			return err
		}
		return c.RemovePod(ctx, uid)
	}
	if err := run(0); err != nil {
		b.Fatal(err)
	}
	l, err := c.link(runner.Host)
	if err != nil {
		b.Fatal(err)
	}
	parallel(b, n, cpuOf(b, l.pid()), run)
	if err := c.Stop(ctx); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkExec is a command in a container, as a probe executes it.
func BenchmarkExec(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ctx, dir := b.Context(), b.TempDir()
			c, err := Open(ctx, dir, ClientOptions{Private: true, Command: selfCommand()})
			if err != nil {
				b.Fatal(err)
			}
			spec := shellSpec(dir, "a", "sleep 1000")
			if _, err := c.Start(ctx, spec); err != nil {
				b.Fatal(err)
			}
			l, err := c.link(runner.Host)
			if err != nil {
				b.Fatal(err)
			}
			args := trivial()
			parallel(b, n, cpuOf(b, l.pid()), func(int) error {
				res, err := runner.ExecOutput(ctx, c, spec.ID, args, time.Minute)
				if err == nil && res.ExitCode != 0 {
					err = fmt.Errorf("it ended with %d", res.ExitCode)
				}
				return err
			})
			if err := c.Stop(ctx); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkCodec is why the wire carries JSON: for a Spec of usual size, gob
// saves some 25 µs. A start takes a millisecond.
func BenchmarkCodec(b *testing.B) {
	spec := shellSpec("/var/lib/sampan", "00000000-0000-4000-8000-000000000000", "python worker.py --queue http://queue:8080")
	for i := range 20 {
		spec.Env = append(spec.Env, fmt.Sprintf("QUEUE_%d_SERVICE_HOST=10.96.0.%d", i, i))
	}
	b.Run("json", func(b *testing.B) {
		for b.Loop() {
			text, err := json.Marshal(spec)
			if err != nil {
				b.Fatal(err)
			}
			if err := json.Unmarshal(text, &runner.Spec{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("gob", func(b *testing.B) {
		var wire bytes.Buffer
		out, in := gob.NewEncoder(&wire), gob.NewDecoder(&wire)
		for b.Loop() {
			if err := out.Encode(spec); err != nil {
				b.Fatal(err)
			}
			if err := in.Decode(&runner.Spec{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
