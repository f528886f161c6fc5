package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// checkLog reads the log of a pod that Succeeded: it has every line, once, in order.
func (r *runner) checkLog(ctx context.Context, job *batchv1.Job, all []corev1.Pod) {
	for _, p := range all {
		if p.Status.Phase != corev1.PodSucceeded {
			continue
		}
		n, err := again(ctx, r.load, func(ctx context.Context) (int, error) { return r.readLog(ctx, p.Name, false) })
		r.compareLog(ctx, job, p.Name, n, err)
		r.load.Report.Count("logs", 1)
		return // one of them is enough
	}
}

func (r *runner) compareLog(ctx context.Context, job *batchv1.Job, pod string, n int, err error) {
	if want, _ := strconv.Atoi(job.Annotations[linesKey]); err == nil && n != want {
		err = fmt.Errorf("%d of %d lines", n, want)
	}
	if err != nil {
		r.load.findUnless(ctx, fmt.Errorf("log of pod %s: %w", pod, err))
	}
}

// outOfOrder: a line of a log is not the one that comes next.
type outOfOrder struct {
	line string
	want int
}

func (e *outOfOrder) Error() string {
	return fmt.Sprintf("%q where line %d must be", e.line, e.want)
}

// readLog reads a log to its end, and returns how many lines it had.
func (r *runner) readLog(ctx context.Context, pod string, follow bool) (n int, err error) {
	stream, err := r.client.CoreV1().Pods(Namespace).GetLogs(pod, &corev1.PodLogOptions{Follow: follow}).Stream(ctx)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	lines := bufio.NewReader(stream)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF && line == "" {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if line != fmt.Sprintf("line %d\n", n) {
			return n, &outOfOrder{line, n}
		}
		n++
	}
}

// followOne follows the log of one pod of a Job from its beginning to its end, as
// often as it takes: each time the connection is lost it begins anew.
func (r *runner) followOne(ctx context.Context, job *batchv1.Job) {
	pod := r.firstPod(ctx, job.Name)
	if pod == "" {
		return
	}
	for end := time.Now().Add(jobWithin); ctx.Err() == nil && time.Now().Before(end); pause(ctx, look) {
		n, err := r.followToItsEnd(ctx, pod)
		var wrong *outOfOrder
		switch {
		case errors.Is(err, errEndless):
			r.load.findUnless(ctx, fmt.Errorf("follow of pod %s: %w, after %d lines", pod, err, n))
			return
		case apierrors.IsBadRequest(err): // it has not begun
			continue
		case apierrors.IsNotFound(err):
			return // its supervisor was killed before it began, or the Job is over
		case err != nil && asOutOfOrder(err, &wrong):
			r.load.findUnless(ctx, fmt.Errorf("follow of pod %s: %w", pod, err))
			return
		case err != nil:
			continue
		}
		if r.succeeded(ctx, pod) {
			r.compareLog(ctx, job, pod+", followed", n, nil)
			r.load.Report.Count("logs followed", 1)
		}
		return
	}
}

// followWithin is how long a log may be followed: pods of the load write for a second
// or two.
const followWithin = 90 * time.Second

var errEndless = fmt.Errorf("no end within %s", followWithin)

func (r *runner) followToItsEnd(ctx context.Context, pod string) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, followWithin, errEndless)
	defer cancel()
	n, err := r.readLog(ctx, pod, true)
	if err != nil && errors.Is(context.Cause(ctx), errEndless) {
		return n, errEndless
	}
	return n, err
}

func asOutOfOrder(err error, to **outOfOrder) bool {
	wrong, ok := err.(*outOfOrder)
	*to = wrong
	return ok
}

// firstPod waits for a pod of a Job that has a node. As in Kubernetes, the log of one that has none
// is empty, and followed to its end at once.
func (r *runner) firstPod(ctx context.Context, job string) string {
	for range 100 {
		if all, err := r.podsOf(ctx, job); err != nil {
			return ""
		} else if i := slices.IndexFunc(all, func(p corev1.Pod) bool { return p.Spec.NodeName != "" }); i >= 0 {
			return all[i].Name
		}
		pause(ctx, look)
	}
	return ""
}

// succeeded waits until a pod's end is known.
func (r *runner) succeeded(ctx context.Context, name string) bool {
	for end := time.Now().Add(jobWithin); ctx.Err() == nil && time.Now().Before(end); pause(ctx, look) {
		pod, err := again(ctx, r.load, func(ctx context.Context) (*corev1.Pod, error) {
			return r.client.CoreV1().Pods(Namespace).Get(ctx, name, getNow)
		})
		if err != nil {
			return false
		}
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			return pod.Status.Phase == corev1.PodSucceeded
		}
	}
	return false
}
