package kind

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// readPod decodes a pod named web, created an hour before podTestNow.
func readPod(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), pod); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	pod.Name, pod.Namespace = "web", "default"
	pod.CreationTimestamp = metav1.NewTime(podTestNow().Add(-time.Hour))
	return pod
}

func podTestNow() time.Time { return time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC) }

func TestPodStatusColumns(t *testing.T) {
	t.Parallel()
	const (
		two      = "spec: {containers: [{name: a}, {name: b}]}\n"
		withInit = "spec: {initContainers: [{name: i}, {name: j}], containers: [{name: a}]}\n"
		sidecar  = "spec: {initContainers: [{name: i}, {name: s, restartPolicy: Always}], containers: [{name: a}]}\n"
		ended    = "state: {terminated: {exitCode: 0, reason: Completed}}"
		running  = "ready: true, state: {running: {}}"
	)
	for _, test := range []struct{ name, pod, want string }{
		{"pending", two + "status: {phase: Pending}", "0/2 Pending 0"},
		{"gated", two + `status: {phase: Pending, conditions: [{type: PodScheduled, status: "False", reason: SchedulingGated}]}`, "0/2 SchedulingGated 0"},
		{"creating", two + `
status: {phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}, {name: b, state: {waiting: {reason: ContainerCreating}}}]}
`, "0/2 ContainerCreating 0"},
		{"running", two + "status: {phase: Running, containerStatuses: [{name: a, " + running + "}, {name: b, " + running + "}]}", "2/2 Running 0"},
		{"one not ready", two + "status: {phase: Running, containerStatuses: [{name: a, " + running + "}, {name: b, state: {running: {}}}]}", "1/2 Running 0"},
		{"restarts", two + `
status:
  phase: Running
  containerStatuses:
  - {name: a, ready: true, restartCount: 1, state: {running: {}}, lastState: {terminated: {exitCode: 1, finishedAt: "2026-01-02T02:00:00Z"}}}
  - {name: b, ready: true, restartCount: 2, state: {running: {}}, lastState: {terminated: {exitCode: 1, finishedAt: "2026-01-02T02:55:00Z"}}}
`, "2/2 Running 3 (5m ago)"},
		{"backoff", two + `
status:
  phase: Running
  containerStatuses:
  - {name: a, restartCount: 4, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, finishedAt: "2026-01-02T02:59:30Z"}}}
  - {name: b, ` + running + `}
`, "1/2 CrashLoopBackOff 4 (30s ago)"},
		{"completed", two + "status: {phase: Succeeded, containerStatuses: [{name: a, " + ended + "}, {name: b, " + ended + "}]}", "0/2 Completed 0"},
		{"one completed, one runs", two + "status: {phase: Running, containerStatuses: [{name: a, " + ended + "}, {name: b, " + running + "}]}", "1/2 NotReady 0"},
		{"one completed, one runs, ready", two + `status: {phase: Running, conditions: [{type: Ready, status: "True"}], containerStatuses: [{name: a, ` + ended + "}, {name: b, " + running + "}]}", "1/2 Running 0"},
		{"error", two + "status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 1, reason: Error}}}]}", "0/2 Error 0"},
		{"exit code", two + "status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 3}}}]}", "0/2 ExitCode:3 0"},
		{"signal", two + "status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 137, signal: 9}}}]}", "0/2 Signal:9 0"},
		{"first container has the last word", two + `
status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 1, reason: OOMKilled}}}, {name: b, state: {terminated: {exitCode: 1, reason: Error}}}]}
`, "0/2 OOMKilled 0"},
		{"reason of the pod", two + "status: {phase: Failed, reason: Evicted}", "0/2 Evicted 0"},
		{"terminating", "metadata: {deletionTimestamp: 2026-01-02T02:59:00Z}\n" + two + "status: {phase: Running, containerStatuses: [{name: a, " + running + "}]}", "1/2 Terminating 0"},
		{"deleted after its end", "metadata: {deletionTimestamp: 2026-01-02T02:59:00Z}\n" + two + "status: {phase: Succeeded}", "0/2 Succeeded 0"},
		{"lost node", "metadata: {deletionTimestamp: 2026-01-02T02:59:00Z}\n" + two + "status: {phase: Running, reason: NodeLost}", "0/2 Unknown 0"},

		{"first init container", withInit + "status: {phase: Pending, initContainerStatuses: [{name: i, state: {running: {}}}, {name: j, state: {waiting: {reason: PodInitializing}}}]}", "0/1 Init:0/2 0"},
		{"second init container", withInit + "status: {phase: Pending, initContainerStatuses: [{name: i, " + ended + "}, {name: j, restartCount: 2, state: {running: {}}}]}", "0/1 Init:1/2 2"},
		{"init container waits", withInit + "status: {phase: Pending, initContainerStatuses: [{name: i, state: {waiting: {reason: ErrImagePull}}}]}", "0/1 Init:ErrImagePull 0"},
		{"init container fails", withInit + "status: {phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 1, reason: Error}}}]}", "0/1 Init:Error 0"},
		{"init container fails with a code", withInit + "status: {phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 3}}}]}", "0/1 Init:ExitCode:3 0"},
		{"init container fails by a signal", withInit + "status: {phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 137, signal: 9}}}]}", "0/1 Init:Signal:9 0"},
		{"initialized", withInit + `
status:
  phase: Pending
  initContainerStatuses: [{name: i, restartCount: 3, ` + ended + `}, {name: j, ` + ended + `}]
  containerStatuses: [{name: a, state: {waiting: {reason: PodInitializing}}}]
`, "0/1 PodInitializing 0"},
		{"sidecar starts", sidecar + "status: {phase: Pending, initContainerStatuses: [{name: i, " + ended + "}, {name: s, started: false, state: {running: {}}}]}", "0/2 Init:1/2 0"},
		{"sidecar runs", sidecar + `
status:
  phase: Running
  initContainerStatuses: [{name: i, restartCount: 3, ` + ended + `}, {name: s, started: true, restartCount: 1, ` + running + `}]
  containerStatuses: [{name: a, ` + running + `}]
`, "2/2 Running 1"},
		{"sidecar fails after initialization", sidecar + `
status:
  phase: Running
  conditions: [{type: Initialized, status: "True"}]
  initContainerStatuses: [{name: i, ` + ended + `}, {name: s, started: false, restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}}]
  containerStatuses: [{name: a, ` + running + `}]
`, "1/2 Init:CrashLoopBackOff 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cells := Pod().Table.Cells(readPod(t, test.pod), podTestNow())
			if got := fmt.Sprint(cells[1], " ", cells[2], " ", cells[3]); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestPodWideColumns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, pod, want string }{
		{"nothing", "{}", "web|0/0||0|60m|<none>|<none>|<none>|<none>"},
		{"all", `
spec: {nodeName: n1, readinessGates: [{conditionType: a}, {conditionType: b}]}
status: {phase: Running, nominatedNodeName: n2, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}], conditions: [{type: a, status: "True"}, {type: b, status: "False"}]}
`, "web|0/0|Running|0|60m|10.0.0.1|n1|n2|1/2"},
	} {
		cells := Pod().Table.Cells(readPod(t, test.pod), podTestNow())
		var got []string
		for _, c := range cells {
			got = append(got, fmt.Sprint(c))
		}
		if strings.Join(got, "|") != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	columns := Pod().Table.Columns
	var names []string
	for _, c := range columns {
		names = append(names, fmt.Sprint(c.Name, c.Priority))
	}
	want := []string{"Name0", "Ready0", "Status0", "Restarts0", "Age0", "IP1", "Node1", "Nominated Node1", "Readiness Gates1"}
	if !slices.Equal(names, want) {
		t.Errorf("columns %q", names)
	}
}

func TestPodGrace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		pod   string
		asked *int64
		want  int64
	}{
		{"its own", "{spec: {nodeName: n1, terminationGracePeriodSeconds: 30}}", nil, 30},
		{"asked for", "{spec: {nodeName: n1, terminationGracePeriodSeconds: 30}}", ptr.To[int64](5), 5},
		{"at once", "{spec: {nodeName: n1, terminationGracePeriodSeconds: 30}}", ptr.To[int64](0), 0},
		{"negative", "{spec: {nodeName: n1, terminationGracePeriodSeconds: -5}}", nil, 1},
		{"not scheduled", "{spec: {terminationGracePeriodSeconds: 30}}", ptr.To[int64](5), 0},
		{"succeeded", "{spec: {nodeName: n1, terminationGracePeriodSeconds: 30}, status: {phase: Succeeded}}", nil, 0},
		{"failed", "{spec: {nodeName: n1, terminationGracePeriodSeconds: 30}, status: {phase: Failed}}", nil, 0},
		{"none", "{spec: {nodeName: n1}}", nil, 0},
	} {
		if got := Pod().Deletion.Grace(readPod(t, test.pod), test.asked); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestPodFields(t *testing.T) {
	t.Parallel()
	set := Pod().Select.Fields(readPod(t, `
spec: {nodeName: n1, restartPolicy: Never, schedulerName: s, serviceAccountName: a, hostNetwork: true}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}], nominatedNodeName: n2}
`))
	for key, want := range map[string]string{
		"spec.nodeName": "n1", "spec.restartPolicy": "Never", "spec.schedulerName": "s", "spec.serviceAccountName": "a",
		"spec.hostNetwork": "true", "status.phase": "Running", "status.podIP": "10.0.0.1", "status.podIPs": "",
		"status.nominatedNodeName": "n2",
	} {
		if got, ok := set[key]; got != want || !ok {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

func TestPodIndex(t *testing.T) {
	t.Parallel()
	for pod, want := range map[string]string{
		"{}":                        "unbound",
		"{status: {phase: Failed}}": "",
		"{spec: {nodeName: n1}}":    "node/n1 active/n1",
		"{spec: {nodeName: n1}, status: {phase: Running}}":                                    "node/n1 active/n1",
		"{spec: {nodeName: n1}, status: {phase: Succeeded}}":                                  "node/n1",
		"{spec: {nodeName: n1, affinity: {nodeAffinity: {}}}}":                                "node/n1 active/n1",
		"{spec: {nodeName: n1, affinity: {podAffinity: {}}}}":                                 "node/n1 active/n1 affine/n1",
		"{spec: {nodeName: n1, affinity: {podAntiAffinity: {}}}}":                             "node/n1 active/n1 affine/n1",
		"{spec: {nodeName: n1, affinity: {podAntiAffinity: {}}}, status: {phase: Succeeded}}": "node/n1",
	} {
		got := Pod().Select.Index(readPod(t, pod))
		wanted := strings.Fields(want)
		for _, term := range wanted {
			if !slices.Contains(got, term) {
				t.Errorf("%s: %q lacks %s", pod, got, term)
			}
		}
		for _, term := range []string{"unbound", "node/n1", "active/n1", "affine/n1"} {
			if slices.Contains(got, term) && !slices.Contains(wanted, term) {
				t.Errorf("%s: %q has %s", pod, got, term)
			}
		}
	}
}

// The whole way of a pod through its row.
func TestPodRow(t *testing.T) {
	t.Parallel()
	row := Pod()
	pod := readPod(t, "spec: {containers: [{name: c, image: busybox}]}")
	row.Default(pod)
	row.Create.Prepare(pod)
	if errs := row.Create.Validate(pod); len(errs) > 0 || pod.Generation != 1 || pod.Status.Phase != corev1.PodPending {
		t.Fatalf("%v, %+v", errs, pod)
	}
	if w := row.Warn(pod, nil); len(w) > 0 {
		t.Errorf("warnings %q", w)
	}

	bad := pod.DeepCopy()
	bad.Name, bad.Spec.Containers[0].Image = "Web", ""
	var got []string
	for _, err := range row.Create.Validate(bad) {
		got = append(got, err.Field)
	}
	if !slices.Equal(got, []string{"metadata.name", "spec.containers[0].image"}) {
		t.Errorf("errors in %q", got)
	}
	bad.Name = "web.example"
	const warning = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"
	if w := row.Warn(bad, nil); !slices.Equal(w, []string{warning}) {
		t.Errorf("warnings %q", w)
	}
	if w := row.Warn(bad, pod); len(w) > 0 {
		t.Errorf("warnings of an update %q", w)
	}

	update := pod.DeepCopy()
	update.ResourceVersion, pod.ResourceVersion = "1", "1"
	update.Spec.Containers[0].Image = "busybox:2"
	row.Update.Prepare(update, pod)
	if errs := row.Update.Validate(update, pod); len(errs) > 0 || update.Generation != 2 {
		t.Errorf("%v, generation %d", errs, update.Generation)
	}
	update.Status.QOSClass = corev1.PodQOSGuaranteed
	row.Status.Prepare(update, pod)
	if errs := row.Status.Validate(update, pod); len(errs) != 1 || errs[0].Field != "status.qosClass" {
		t.Errorf("%v", errs)
	}
}
