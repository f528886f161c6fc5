package load

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/torture/program"
	"github.com/sampan-batch/sampan/torture/victim"
)

// ledger is a directory in which pods write down themselves that they run: a file a
// Job, a line when a container begins and one when it comes to its end. What no API
// shows stands there too: a container that was started twice.
type ledger struct {
	dir   string // on the machine
	class string
}

func openLedger(v *victim.Victim) (*ledger, error) {
	l := &ledger{dir: filepath.Join(v.Dir, "ledger"), class: v.Class}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	return l, v.User.Own(l.dir)
}

// script is what the container of a pod does: it writes down that it begins, writes
// lines to its log, sleeps, writes down that it ends.
const script = `echo "begin $POD" >> "$LEDGER/$JOB"
i=0; while [ $i -lt $LINES ]; do echo "line $i"; i=$((i+1)); done
/bin/busybox sleep $SLEEP
[ "$CODE" = 0 ] && echo "end $POD" >> "$LEDGER/$JOB"
exit $CODE`

// work is what a pod is to do.
type work struct {
	lines int
	sleep string // seconds
	code  int
}

// template makes a pod that does it, and writes into the ledger.
func (l *ledger) template(w work) corev1.PodTemplateSpec {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	c := corev1.Container{
		Name: "c", Image: program.Image, Command: []string{program.Shell, "sh", "-c", script},
		Env: []corev1.EnvVar{
			field("POD", "metadata.name"), field("JOB", "metadata.labels['batch.kubernetes.io/job-name']"),
			{Name: "LEDGER", Value: l.dir}, {Name: "LINES", Value: fmt.Sprint(w.lines)},
			{Name: "SLEEP", Value: w.sleep}, {Name: "CODE", Value: fmt.Sprint(w.code)},
		},
	}
	spec := corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: ptr.To(int64(1))}
	if l.class == "sandbox" {
		spec.Volumes = []corev1.Volume{{Name: "ledger", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: l.dir}}}}
		c.VolumeMounts = []corev1.VolumeMount{{Name: "ledger", MountPath: l.dir}}
	}
	spec.Containers = []corev1.Container{c}
	return corev1.PodTemplateSpec{Spec: spec}
}

// read returns how often the pods of a Job have begun, and come to their end.
func (l *ledger) read(job string) (started, ended map[string]int) {
	started, ended = map[string]int{}, map[string]int{}
	text, _ := os.ReadFile(filepath.Join(l.dir, job)) // none: no pod has begun
	for line := range strings.Lines(string(text)) {
		what, pod, _ := strings.Cut(strings.TrimSpace(line), " ")
		if what == "begin" {
			started[pod]++
		} else {
			ended[pod]++
		}
	}
	return started, ended
}

// forget removes what the pods of a Job have written.
func (l *ledger) forget(job string) { _ = os.Remove(filepath.Join(l.dir, job)) }
