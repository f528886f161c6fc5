package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

// engine is a `sampan serve` that is being measured.
type engine struct {
	binary, data, program string
	cmd                   *exec.Cmd
	client                kubernetes.Interface
	ready                 time.Duration
	serial                atomic.Int64
	ttl                   *int32 // ttlSecondsAfterFinished of its Jobs
}

// serve starts an engine on a fresh directory and waits until it is ready.
func (b *bench) serve(ctx context.Context, class string) (*engine, error) {
	return b.serveIn(ctx, nil, class, nil)
}

// serveIn is serve in a control group, with images beside the benchmark's own, and with flags.
func (b *bench) serveIn(ctx context.Context, g *group, class string, images []string, flags ...string) (*engine, error) {
	data, err := os.MkdirTemp(b.dir, "data-*")
	if err != nil {
		return nil, err
	}
	if class == "sandbox" {
		images = append(images, b.image)
	}
	for _, image := range images {
		load := exec.CommandContext(ctx, b.binary, "image", "load", "--data-dir", data, image)
		if out, err := load.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("load the image: %w\n%s", err, out)
		}
	}
	e := &engine{binary: b.binary, data: data, program: b.inside(class)}
	args := append([]string{b.binary, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--runtime", class}, flags...)
	if g != nil {
		args = append([]string{"/proc/self/exe"}, g.enter(args...)...)
	}
	e.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	if e.cmd.Stderr, err = os.Create(e.log()); err != nil { // a line for each Job
		return nil, err
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		text, _ := os.ReadFile(e.log())
		e.stop()
		return nil, fmt.Errorf("serve said %q: %w\n%s", line, err, text)
	}
	e.ready = time.Since(began)
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(data, "kubeconfig"))
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	e.client, err = kubernetes.NewForConfig(config)
	return e, err
}

// log is where the engine writes its log.
func (e *engine) log() string { return filepath.Join(e.data, "bench.log") }

func (e *engine) stop() {
	if out, err := exec.Command(e.binary, "stop", "--data-dir", e.data).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: sampan stop: %v\n%s", err, out)
	}
	e.cmd.Wait()
	os.RemoveAll(e.data)
}

func (e *engine) job(suspend bool) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bench-%06d", e.serial.Add(1))},
		Spec: batchv1.JobSpec{
			Suspend:                 ptr.To(suspend),
			TTLSecondsAfterFinished: e.ttl,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever,
				Containers: []corev1.Container{{
					Name: "c", Image: imageName, Command: []string{e.program, "true"},
				}},
			}},
		},
	}
}

// create creates n Jobs with several clients at a time.
func (e *engine) create(ctx context.Context, n, clients int, suspend bool) error {
	jobs := make([]*batchv1.Job, n)
	for i := range jobs {
		jobs[i] = e.job(suspend)
	}
	return e.createAll(ctx, jobs, clients)
}

func (e *engine) createAll(ctx context.Context, jobs []*batchv1.Job, clients int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	for _, job := range jobs {
		group.Go(func() error {
			_, err := e.client.BatchV1().Jobs("default").Create(ctx, job, metav1.CreateOptions{})
			return err
		})
	}
	return group.Wait()
}

func (e *engine) store(ctx context.Context, n, clients int) error {
	return e.create(ctx, n, clients, true)
}

// ends counts Jobs that come to their end, from now on.
type ends struct {
	watch  watch.Interface
	failed error
	mu     sync.Mutex
	n      int
	more   chan struct{}
}

func (e *engine) watchEnds(ctx context.Context) (*ends, error) {
	list, err := e.client.BatchV1().Jobs("default").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=none"}) // for its revision
	if err != nil {
		return nil, err
	}
	w, err := e.client.BatchV1().Jobs("default").Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, err
	}
	c := &ends{watch: w, more: make(chan struct{}, 1)}
	go c.count()
	return c, nil
}

func (c *ends) count() {
	seen := map[string]bool{}
	for ev := range c.watch.ResultChan() {
		j, ok := ev.Object.(*batchv1.Job)
		if !ok || seen[j.Name] {
			continue
		}
		for _, cond := range j.Status.Conditions {
			if cond.Status != corev1.ConditionTrue || (cond.Type != batchv1.JobComplete && cond.Type != batchv1.JobFailed) {
				continue
			}
			seen[j.Name] = true
			c.mu.Lock()
			c.n++
			if cond.Type == batchv1.JobFailed {
				c.failed = fmt.Errorf("job %s failed: %s", j.Name, cond.Message)
			}
			c.mu.Unlock()
			select {
			case c.more <- struct{}{}:
			default:
			}
		}
	}
	close(c.more)
}

// wait returns when n Jobs have ended.
func (c *ends) wait(ctx context.Context, n int) error {
	for {
		c.mu.Lock()
		have, failed := c.n, c.failed
		c.mu.Unlock()
		if failed != nil || have >= n {
			return failed
		}
		select {
		case _, ok := <-c.more:
			if !ok {
				return fmt.Errorf("the watch ended after %d of %d Jobs", have, n)
			}
		case <-ctx.Done():
			return fmt.Errorf("%d of %d Jobs ended: %w", have, n, context.Cause(ctx))
		}
	}
}

// latency is the median time of one Job on an idle engine.
func (e *engine) latency(ctx context.Context, n int) (time.Duration, error) {
	c, err := e.watchEnds(ctx)
	if err != nil {
		return 0, err
	}
	defer c.watch.Stop()
	var all []time.Duration
	for i := range n + 3 {
		began := time.Now()
		if err := e.create(ctx, 1, 1, false); err != nil {
			return 0, err
		}
		if err := c.wait(ctx, i+1); err != nil {
			return 0, err
		}
		if i >= 3 { // the first ones warm up
			all = append(all, time.Since(began))
		}
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

// rate is how often something was done, and what CPU time each took.
type rate struct {
	perSecond float64
	cpu       time.Duration
	client    time.Duration // the same, of who asked for it
}

// throughput creates n one-pod Jobs and waits for the last to complete.
func (e *engine) throughput(ctx context.Context, n, clients int) (rate, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	c, err := e.watchEnds(ctx)
	if err != nil {
		return rate{}, err
	}
	defer c.watch.Stop()
	cpu, client := e.cpu(), ownCPU()
	began := time.Now()
	if err := e.create(ctx, n, clients, false); err != nil {
		return rate{}, err
	}
	if err := c.wait(ctx, n); err != nil {
		return rate{}, err
	}
	took := time.Since(began)
	return rate{
		perSecond: float64(n) / took.Seconds(),
		cpu:       (e.cpu() - cpu) / time.Duration(n), client: (ownCPU() - client) / time.Duration(n),
	}, nil
}

// cpu is the CPU time of the engine and its supervisors, with the children that
// they have waited for.
func (e *engine) cpu() time.Duration {
	var total time.Duration
	for _, pid := range e.processes() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		for _, f := range fields[11:15] { // utime stime cutime cstime
			ticks, _ := strconv.ParseInt(f, 10, 64)
			total += time.Duration(ticks) * time.Second / 100
		}
	}
	return total
}

// processes are the engine and the supervisors of its data directory.
func (e *engine) processes() []int {
	pids := []int{e.cmd.Process.Pid}
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), "supervise") || !strings.Contains(string(line), e.data) {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		pids = append(pids, pid)
	}
	return pids
}

// resident is the resident set of the engine, in bytes.
func (e *engine) resident() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no VmRSS in /proc/%d/status", e.cmd.Process.Pid)
}
