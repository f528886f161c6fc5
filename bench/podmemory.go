package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// podMemory measures what a pod that does nothing takes, beside a process that does nothing.
func (b *bench) podMemory(ctx context.Context, r *report) error {
	bare, err := b.sleeps()
	if err != nil {
		return fmt.Errorf("bare processes: %w", err)
	}
	group := newGroup("pods")
	defer group.remove()
	e, err := b.serveIn(ctx, group, "sandbox", nil)
	if err != nil {
		return err
	}
	defer e.stop()
	// A pod before the others, so that what there is once (the supervisor, the node's network) is there.
	if err := e.idlePods(ctx, 1, b.clients); err != nil {
		return err
	}
	time.Sleep(quietTime)
	before, err := e.taken(group)
	if err != nil {
		return err
	}
	if err := e.idlePods(ctx, b.pods, b.clients); err != nil {
		return err
	}
	time.Sleep(quietTime)
	after, err := e.taken(group)
	if err != nil {
		return err
	}
	each := after.minus(before).over(b.pods)
	kernel := func(t taken) string {
		if group == nil {
			return "not seen"
		}
		return kb(t.kernel)
	}
	note := fmt.Sprintf("%d pods of `sleep`, beside as many processes of it; proportional set", b.pods)
	r.add("memory per idle pod, all of it", kb(each.sum()), kb(bare.sum()), note)
	r.add("memory per idle pod, engine", kb(each.engine), "", fmt.Sprintf("%s in all", mb(after.engine)))
	r.add("memory per idle pod, supervisor", kb(each.supervisor), "", fmt.Sprintf("%s in all", mb(after.supervisor)))
	r.add("memory per idle pod, its processes", kb(each.processes), kb(bare.processes), "")
	r.add("memory per idle pod, kernel", kernel(each), kernel(bare), "as its control group is charged")
	return nil
}

// taken is memory, in bytes, by who has it.
type taken struct{ engine, supervisor, processes, kernel int64 }

func (t taken) sum() int64 { return t.engine + t.supervisor + t.processes + t.kernel }

func (t taken) minus(o taken) taken {
	return taken{t.engine - o.engine, t.supervisor - o.supervisor, t.processes - o.processes, t.kernel - o.kernel}
}

func (t taken) over(n int) taken {
	m := int64(n)
	return taken{t.engine / m, t.supervisor / m, t.processes / m, t.kernel / m}
}

// taken reads what the engine takes, with its supervisors and the pods.
func (e *engine) taken(g *group) (t taken, err error) {
	own := e.processes()
	for i, pid := range own {
		n, err := proportional(pid)
		if err != nil {
			return t, err
		}
		if i == 0 {
			t.engine += n
		} else {
			t.supervisor += n
		}
	}
	t.processes = ofDescendants(own)
	t.kernel = g.kernel()
	return t, nil
}

// idlePods makes pods, and waits until they run.
func (e *engine) idlePods(ctx context.Context, n, clients int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	set := map[string]string{"set": fmt.Sprint("idle-", e.serial.Add(1))}
	pods := e.client.CoreV1().Pods("default")
	group, of := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	for i := range n {
		group.Go(func() error {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(set["set"], "-", i), Labels: set}, Spec: corev1.PodSpec{
				TerminationGracePeriodSeconds: ptr.To[int64](0),
				Containers:                    []corev1.Container{{Name: "c", Image: imageName, Command: []string{e.program, "sleep", "100000"}}},
			}}
			_, err := pods.Create(of, pod, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for {
		list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(metav1.SetAsLabelSelector(set))})
		if err != nil {
			return err
		}
		running := 0
		for i := range list.Items {
			if list.Items[i].Status.Phase == corev1.PodRunning {
				running++
			}
		}
		if running == n {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d pods run: %w", running, n, context.Cause(ctx))
		}
	}
}

// sleeps measures processes of this machine that do nothing.
func (b *bench) sleeps() (t taken, err error) {
	group := newGroup("bare")
	defer group.remove()
	cmd := exec.Command("/proc/self/exe", group.enter(sleepsCommand, b.program, strconv.Itoa(b.pods))...)
	cmd.Stderr = os.Stderr
	// Their end is that of this pipe.
	in, err := cmd.StdinPipe()
	if err != nil {
		return t, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return t, err
	}
	if err := cmd.Start(); err != nil {
		return t, err
	}
	defer func() { in.Close(); cmd.Wait() }()
	buf := make([]byte, 1)
	if _, err := out.Read(buf); err != nil {
		return t, err
	}
	before := group.kernel()
	if _, err := in.Write(buf); err != nil {
		return t, err
	}
	if _, err := out.Read(buf); err != nil {
		return t, err
	}
	time.Sleep(time.Second) // until the last has executed it
	t = taken{processes: ofDescendants([]int{cmd.Process.Pid}), kernel: group.kernel() - before}
	return t.over(b.pods), nil
}

// What this program does in a process of its own: it enters a control group and becomes another
// program; or it starts processes that do nothing, and ends them.
const (
	enterCommand  = "enter-group"
	sleepsCommand = "bare-sleeps"
)

func enterMain(args []string) int {
	err := os.WriteFile(filepath.Join(args[0], "cgroup.procs"), []byte("0"), 0)
	if err == nil {
		err = syscall.Exec(args[1], args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func sleepsMain(args []string) int {
	n, _ := strconv.Atoi(args[1])
	turn := make([]byte, 1)
	fmt.Print(".")
	if _, err := os.Stdin.Read(turn); err != nil {
		return 1
	}
	all := make([]*exec.Cmd, n)
	for i := range all {
		all[i] = exec.Command(args[0], "sleep", "100000")
		all[i].SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := all[i].Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Print(".")
	_, _ = os.Stdin.Read(turn)
	for _, cmd := range all {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return 0
}

// group is a control group of the benchmark's, by which the kernel says what it takes for the processes
// in it; nil where none can be had.
type group struct {
	dir    string
	former bool // version 1
}

func newGroup(name string) *group {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 || fields[1] != "" && fields[1] != "memory" {
			continue
		}
		g := &group{dir: filepath.Join("/sys/fs/cgroup", fields[1], fields[2], fmt.Sprintf("sampan-bench-%s-%d", name, os.Getpid())), former: fields[1] != ""}
		if os.Mkdir(g.dir, 0o755) != nil {
			continue
		}
		if _, err := g.read(); err == nil {
			return g
		}
		g.remove()
	}
	return nil
}

// enter returns the arguments for this program to become another one, or do something else, in the
// group.
func (g *group) enter(args ...string) []string {
	if g == nil {
		return args
	}
	program := args[0]
	if !filepath.IsAbs(program) {
		args = append([]string{"/proc/self/exe"}, args...)
	}
	return append([]string{enterCommand, g.dir}, args...)
}

func (g *group) read() (int64, error) {
	if g.former {
		text, err := os.ReadFile(filepath.Join(g.dir, "memory.kmem.usage_in_bytes"))
		if err != nil {
			return 0, err
		}
		return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	}
	text, err := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut("\n"+string(text), "\nkernel ")
	if !ok {
		return 0, errors.New("memory.stat does not tell the kernel's part")
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseInt(line, 10, 64)
}

// kernel returns what the kernel has taken for the group, in bytes, or 0.
func (g *group) kernel() int64 {
	if g == nil {
		return 0
	}
	n, _ := g.read()
	return n
}

// remove removes the group once its last process has gone.
func (g *group) remove() {
	if g == nil {
		return
	}
	for range 100 {
		if err := os.Remove(g.dir); err == nil || os.IsNotExist(err) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	fmt.Fprintln(os.Stderr, "bench: left behind:", g.dir)
}

// proportional returns the memory of a process, of what it shares with others its part.
func proportional(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(text), "\nPss:")
	if !ok {
		return 0, fmt.Errorf("process %d does not tell its memory", pid)
	}
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return n * 1024, err
}

// ofDescendants returns the memory of all processes below some, without these.
func ofDescendants(of []int) (sum int64) {
	children := map[int][]int{}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range all {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		children[parent] = append(children[parent], pid)
	}
	seen := map[int]bool{}
	for _, pid := range of {
		seen[pid] = true
	}
	for next := of; len(next) > 0; next = next[1:] {
		for _, child := range children[next[0]] {
			if seen[child] {
				continue
			}
			seen[child] = true
			next = append(next, child)
			if n, err := proportional(child); err == nil {
				sum += n
			}
		}
	}
	return sum
}

func kb(n int64) string { return fmt.Sprintf("%d kB", n/1000) }
