package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// slots is how many items run at a time beside GNU parallel.
const slots = 8

// batches measures `sampan run` of batches of data: beside GNU parallel, with a joblog
// that can resume, and beside what the engine itself can do.
func (b *bench) batches(ctx context.Context, r *report) error {
	for _, item := range [][]string{{"true"}, {"sleep", "0.05"}} {
		if err := b.besideParallel(ctx, r, append([]string{b.program}, item...)); err != nil {
			return err
		}
	}
	return b.large(ctx, r)
}

// besideParallel has the same items run by both: as the indexes of a Job, and as Jobs.
func (b *bench) besideParallel(ctx context.Context, r *report, command []string) error {
	what := fmt.Sprintf("%d items of %s, %d at a time", b.items, strings.Join(command[1:], " "), slots)
	limit, per := "GNU parallel is missing: apt-get install parallel", 0.0
	parallel, err := b.parallel(ctx, command)
	switch {
	case err == nil:
		per = float64(b.items) / parallel.Seconds()
		limit = fmt.Sprintf("%.0f", per)
	case !errors.Is(err, exec.ErrNotFound):
		return err
	}
	indexes, jobs := b.jobOf("item", command), []*batchv1.Job{}
	indexes.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	indexes.Spec.Completions, indexes.Spec.Parallelism = ptr.To(int32(b.items)), ptr.To[int32](slots)
	for i := range b.items {
		jobs = append(jobs, b.jobOf(fmt.Sprint("item-", i), command))
	}
	for _, as := range []struct {
		what string
		jobs []*batchv1.Job
	}{{"as indexes", []*batchv1.Job{indexes}}, {"as Jobs", jobs}} {
		log := filepath.Join(b.dir, "joblog")
		done, err := b.runJobs(ctx, as.jobs, "-j", strconv.Itoa(slots), "--joblog", log)
		if err != nil {
			return err
		}
		if lines, err := countLines(log); err != nil || lines != b.items+1 {
			return fmt.Errorf("%s, %s: the joblog has %d lines: %w", what, as.what, lines, err)
		}
		if err := os.Remove(log); err != nil {
			return err
		}
		rate := float64(b.items) / done.took.Seconds()
		note := "GNU parallel, with --joblog; goal: as many"
		if per > 0 {
			note = fmt.Sprintf("%.2f times GNU parallel, with --joblog; goal 1", rate/per)
		}
		r.add(what+", "+as.what+", per second", fmt.Sprintf("%.0f", rate), limit, note)
	}
	return nil
}

// parallel has GNU parallel run the items, and returns how long it took.
func (b *bench) parallel(ctx context.Context, command []string) (time.Duration, error) {
	var items bytes.Buffer
	for i := range b.items {
		fmt.Fprintln(&items, i)
	}
	log := filepath.Join(b.dir, "joblog")
	defer os.Remove(log)
	cmd := exec.CommandContext(ctx, "parallel", append([]string{"-N0", "-j", strconv.Itoa(slots), "--joblog", log}, command...)...)
	cmd.Stdin = &items
	cmd.Env = append(os.Environ(), "HOME="+b.dir, "PARALLEL_HOME="+b.dir)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) > 0 {
		err = fmt.Errorf("parallel: %w: %s", err, out)
	}
	return time.Since(began), err
}

// large measures many Jobs and a large one, beside the same through the API of an engine
// that shows nothing and hands out no logs.
func (b *bench) large(ctx context.Context, r *report) error {
	command := []string{b.program, "true"}
	jobs := make([]*batchv1.Job, b.lines)
	for i := range jobs {
		jobs[i] = b.jobOf(fmt.Sprint("line-", i), command)
	}
	indexed := b.jobOf("indexed", command)
	indexed.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	indexed.Spec.Completions, indexed.Spec.Parallelism = ptr.To(int32(b.indexes)), ptr.To[int32](100)
	for _, m := range []struct {
		what string
		n    int
		jobs []*batchv1.Job
	}{
		{fmt.Sprintf("run of %d Jobs of a line", b.lines), b.lines, jobs},
		{fmt.Sprintf("run of an Indexed Job of %d", b.indexes), b.indexes, []*batchv1.Job{indexed}},
	} {
		own, err := b.engineRate(ctx, m.jobs)
		if err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
		read, err := b.runJobs(ctx, m.jobs, "--dry-run")
		if err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
		done, err := b.runJobs(ctx, m.jobs, "--no-logs")
		if err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
		r.add(m.what+", per second", fmt.Sprintf("%.0f", float64(m.n)/done.took.Seconds()), fmt.Sprintf("%.0f", float64(m.n)/own.took.Seconds()),
			"from the first line read to the last file removed; beside an engine that was there before, and stays")
		r.add(m.what+", CPU each", ms(done.cpu/time.Duration(m.n)), ms(own.cpu/time.Duration(m.n)), "an engine, and a client that shows nothing")
		r.add(m.what+", CPU of reading and checking", ms(read.cpu/time.Duration(m.n)), "", "--dry-run")
		shown := done.cpu - own.cpu - read.cpu
		r.add(m.what+", CPU of the display", ms(shown/time.Duration(m.n)), "", fmt.Sprintf("%.0f %% of what the engine takes; goal 5", 100*shown.Seconds()/own.cpu.Seconds()))
		r.add(m.what+", memory", mb(done.memory), "", "most of it at a time, engine and display")
	}
	return nil
}

// engineRate is what an engine, and its client, take for Jobs that are created through its API.
func (b *bench) engineRate(ctx context.Context, jobs []*batchv1.Job) (ran, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	before := ownCPU()
	e, err := b.serve(ctx, "host")
	if err != nil {
		return ran{}, err
	}
	took, err := e.runAll(ctx, jobs, b.clients)
	e.stop()
	return ran{took: took, cpu: descendantsCPU() - before}, err
}

// runAll creates Jobs, and returns how long it took until the last had ended.
func (e *engine) runAll(ctx context.Context, jobs []*batchv1.Job, clients int) (time.Duration, error) {
	c, err := e.watchEnds(ctx)
	if err != nil {
		return 0, err
	}
	defer c.watch.Stop()
	began := time.Now()
	if err := e.createAll(ctx, jobs, clients); err != nil {
		return 0, err
	}
	err = c.wait(ctx, len(jobs))
	return time.Since(began), err
}

// jobOf is a Job of one pod.
func (b *bench) jobOf(name string, command []string) *batchv1.Job {
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "c", Image: imageName, Command: command}},
		}}},
	}
}

// ran is what a `sampan run` took.
type ran struct {
	took   time.Duration
	cpu    time.Duration // of all processes
	memory int64         // bytes, at most at a time
}

// runJobs runs Jobs as processes of this machine.
func (b *bench) runJobs(ctx context.Context, jobs []*batchv1.Job, args ...string) (ran, error) {
	var input bytes.Buffer
	for _, job := range jobs {
		line, err := json.Marshal(job)
		if err != nil {
			return ran{}, err
		}
		input.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(ctx, b.binary, append([]string{"run", "--runtime=host"}, append(args, "-")...)...)
	cmd.Stdin = &input
	cmd.Env = append(os.Environ(), "TMPDIR="+b.dir)
	before, began := ownCPU(), time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return ran{}, fmt.Errorf("sampan run: %w: %s", err, out)
	}
	took := time.Since(began)
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return ran{took, descendantsCPU() - before, usage.Maxrss * 1024}, nil
}

// descendantsCPU is the CPU time of this process and all that it has started, of which
// nothing is to run any more. A supervisor outlives its engine, and comes to this process then:
// see PR_SET_CHILD_SUBREAPER in run.
func descendantsCPU() time.Duration {
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil && err != syscall.EINTR {
			return ownCPU() // there is no child left
		}
	}
}

func countLines(file string) (int, error) {
	data, err := os.ReadFile(file)
	return bytes.Count(data, []byte("\n")), err
}
