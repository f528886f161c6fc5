package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/torture/program"
	"github.com/sampan-batch/sampan/torture/report"
)

// silentAfter is how long a follower of a log that is being written may get nothing.
const silentAfter = 20 * time.Second

// Log lets a pod write thousands of numbered lines of 100 bytes as fast as it can,
// and follows them: each is there, or the follower is told that some are not.
func (c *Crowd) Log(ctx context.Context, thousands int) error {
	lines := thousands * 1000
	script := fmt.Sprintf("/bin/busybox yes %s | /bin/busybox head -n %d | /bin/busybox cat -n", strings.Repeat("x", 92), lines)
	pod := corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{
		Name: "c", Image: program.Image, Command: []string{program.Shell, "sh", "-c", script},
	}}}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "flood"}, Spec: batchv1.JobSpec{
		BackoffLimit: ptr.To(int32(0)), Template: corev1.PodTemplateSpec{Spec: pod},
	}}
	if _, err := c.client.BatchV1().Jobs(Namespace).Create(ctx, job, metav1.CreateOptions{}); err != nil {
		return err
	}
	c.Report.Count(report.Writes, 1)
	ctx, cancel := context.WithTimeoutCause(ctx, crowdWithin, errors.New("the log has no end"))
	defer cancel()
	stream, err := c.openFlood(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	f := flood{began: time.Now()}
	quiet := time.AfterFunc(silentAfter, cancel)
	defer quiet.Stop()
	if err := f.read(stream, func() { quiet.Reset(silentAfter) }); err != nil {
		c.Report.Find("the follower of a log falls silent, or gets nonsense, after line %d of %d: %v", f.last, lines, err)
		return nil
	}
	if f.last != lines && !f.told {
		c.Report.Find("the follower of a log gets lines up to %d of %d, and a clean end", f.last, lines)
	}
	c.Report.Figure("log: %d MB read by its follower, %.0f MB/s; told %d times that it was too slow, for %d lines of %d",
		f.bytes>>20, float64(f.bytes)/1e6/time.Since(f.began).Seconds(), f.gaps, f.missing, lines)
	return nil
}

// openFlood follows the log from its beginning, as soon as there is one.
func (c *Crowd) openFlood(ctx context.Context) (io.ReadCloser, error) {
	for ; ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
		list, err := c.client.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=flood"})
		if err != nil {
			return nil, err
		}
		if len(list.Items) == 0 {
			continue
		}
		stream, err := c.client.CoreV1().Pods(Namespace).GetLogs(list.Items[0].Name, &corev1.PodLogOptions{Follow: true}).Stream(ctx)
		if err == nil || !apierrors.IsBadRequest(err) {
			return stream, err
		}
	}
	return nil, context.Cause(ctx)
}

// flood is what a follower got of a log.
type flood struct {
	began         time.Time
	bytes         int64
	last          int // the number of the last line
	gaps, missing int
	told          bool // since the last line: some are missing
}

// read reads numbered lines. alive is called now and then, when something has come.
func (f *flood) read(r io.Reader, alive func()) error {
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		f.bytes += int64(len(line))
		if err == io.EOF && line == "" {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		if n%1000 == 0 {
			alive()
		}
		if err := f.take(line); err != nil {
			return err
		}
	}
}

// take takes a line: the next one, or word that some are missing.
func (f *flood) take(line string) error {
	number, _, ok := strings.Cut(strings.TrimSpace(line), "\t")
	n, err := strconv.Atoi(number)
	switch {
	case lapped(line):
		f.told = true
		f.gaps++
		return nil
	case (!ok || err != nil) && f.told: // the rest of a line whose beginning is missing
		return nil
	case !ok || err != nil || n <= f.last || n != f.last+1 && !f.told:
		return fmt.Errorf("%.40q after line %d", line, f.last)
	}
	f.missing += n - f.last - 1
	f.last, f.told = n, false
	return nil
}
