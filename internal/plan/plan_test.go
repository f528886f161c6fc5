package plan

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/manifest"
)

func world() World {
	return World{
		Now: time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC), Zones: time.LoadLocation, ImageName: imageName, Namespace: "default", Runtime: "sandbox", Volumes: "/v",
		Node: &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{"kubernetes.io/hostname": "here", "kubernetes.io/os": "linux"}},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
				"cpu": resource.MustParse("2"), "memory": resource.MustParse("4Gi"), "pods": resource.MustParse("100"),
			}},
		},
	}
}

// imageName knows the images of the tests.
func imageName(text string) error {
	if strings.Contains(text, " ") {
		return errors.New("has a blank")
	}
	return nil
}

// made returns what becomes of an input: the objects in order, marked "*" as work and "+"
// as companions, or what is wrong, an error a line.
func made(t *testing.T, w World, text string) (*Plan, string) {
	t.Helper()
	input, err := manifest.Decode("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Make(w, input)
	if err != nil {
		return nil, err.Error()
	}
	var all []string
	for _, o := range plan.Objects {
		all = append(all, []string{"", "+", "*"}[o.Role]+o.Name())
	}
	return plan, strings.Join(all, " ")
}

// job is a Job whose spec and pod's spec have these fields more.
func job(name, spec, pod string) string {
	return fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: %s}
spec:
  %s
  template:
    spec:
      restartPolicy: Never
      %s
      containers:
      - {name: c, image: i, command: ["true"]}
---
`, name, spec, pod)
}

// container is a Job whose container has these fields.
func container(fields string) string {
	return strings.Replace(job("j", "", ""), `command: ["true"]`, fields, 1)
}

// hook is a Job that a tool runs at a time of its own.
func hook(name, annotation string) string {
	return strings.Replace(job(name, "", ""), "{name: "+name+"}", "{name: "+name+", annotations: {"+annotation+"}}", 1)
}

func object(version, kind, name, rest string) string {
	return fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: %s}\n%s\n---\n", version, kind, name, rest)
}

func cronJob(fields string) string {
	return fmt.Sprintf(`
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "30 2 * * *"
  jobTemplate:
    metadata: {labels: {a: b}}
    spec:
      %s
      template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}
---
`, fields)
}

// workload is one of apps/v1, whose spec and pod's spec have these fields more.
func workload(kind, name, spec, pod string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: %s
metadata: {name: %s}
spec:
  %s
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      %s
      containers:
      - {name: c, image: i, command: ["true"]}
---
`, kind, name, spec, pod)
}

func pod(name, policy string) string {
	return object("v1", "Pod", name, "spec: {restartPolicy: "+policy+", containers: [{name: c, image: i}]}")
}

func TestMake(t *testing.T) {
	t.Parallel()
	strict, host, kept, onlyJobs := world(), world(), world(), world()
	strict.Strict, host.Runtime, kept.Kept, onlyJobs.OnlyJobs = true, "host", true, true
	configMap := object("v1", "ConfigMap", "cm", "data: {k: v}")
	for _, c := range []struct {
		name, in string
		world    *World
		want     string // the objects, or what is wrong after "!"
	}{
		{"a Job", job("j", "", ""), nil, "*job/j"},
		{"what others need comes first", job("j", "", "serviceAccountName: sa") + object("v1", "ServiceAccount", "sa", "") + object("v1", "Namespace", "ns", ""),
			nil, "namespace/ns serviceaccount/sa *job/j"},
		{"nothing to run", configMap + object("v1", "ResourceQuota", "s", ""), nil, "!there is nothing to run: no Job, CronJob or Pod is among the 2 objects; a run does not need resourcequota/s"},
		{"a group that is misspelt", object("bacth/v1", "Job", "j", ""), nil, `!x:2: job/j: there is no kind "Job" in bacth/v1: did you mean batch/v1?`},
		{"a kind of somebody else's", object("batch.volcano.sh/v1alpha1", "Job", "j", ""), nil, "!there is nothing to run: no Job, CronJob or Pod is among the 1 object; a run does not need job/j"},
		{"no name of an image", strings.Replace(job("j", "", ""), "image: i", `image: "My Image"`, 1), nil, `!x:12: job/j: spec.template.spec.containers[0].image: "My Image": is no name of an image, as registry.example.com/team/app:1.2 is: it has capitals (My Image)`},
		{"an image that a reader is to fill in", strings.Replace(job("j", "", ""), "image: i", "image: r.io/<your project>/app", 1), nil, `!x:12: job/j: spec.template.spec.containers[0].image: "r.io/<your project>/app": a place that was not filled in`},
		{"a label that is to be filled in, twice", strings.Replace(job("j", "", ""), "  template:\n", "  template:\n    metadata: {labels: {a: <node>, b: <node>}}\n", 1), nil,
			`!x:4: job/j: metadata.labels: "<node>": a place that was not filled in` + "\n" + `x:7: job/j: spec.template.labels: "<node>": a place that was not filled in`},

		{"two of one name", job("j", "", "") + configMap + job("j", "completions: 2", ""), nil, "!x:22: job/j: the name is taken: job/j has it at x:4"},
		{"the same twice", job("j", "", "") + job("j", "", ""), nil, "*job/j"},
		{"one name in two namespaces", job("j", "", "") + strings.Replace(job("j", "", ""), "{name: j}", "{name: j, namespace: ns}", 1), nil, "*job/j *job/j"},

		{"a CronJob", cronJob(""), nil, "*job/nightly"},
		{"one that is suspended", strings.Replace(cronJob(""), "schedule:", "suspend: true\n  schedule:", 1), nil, "*job/nightly"},
		{"one whose Job's name is taken", cronJob("") + job("nightly", "", ""), nil, "!x:16: job/nightly: the name is taken: cronjob/nightly has it at x:4"},
		{"one whose schedule is none", strings.Replace(cronJob(""), "30 2", "99 2", 1), nil,
			`!x:6: cronjob/nightly: spec.schedule: Invalid value: "99 2 * * *": end of range (99) above maximum (59): 99`},
		{"one whose Job is wrong", cronJob("parallelism: -1"), nil, "!x:10: cronjob/nightly: spec.jobTemplate.spec.parallelism: Invalid value: -1: must be greater than or equal to 0"},
		{"a Pod", pod("p", "Never"), nil, "*pod/p"},
		{"a Pod that never ends", pod("p", "Always"), nil, "!x:4: pod/p: spec.restartPolicy: is Always, which is the default, so that the pod never ends; OnFailure or Never let it"},
		{"one beside a Job", job("j", "", "") + pod("p", "Always"), nil, "+pod/p *job/j"},

		{"kinds that a run does not need", job("j", "", "") + object("v1", "ResourceQuota", "s", "") + object("example.com/v1", "Widget", "w", ""), nil, "*job/j"},
		{"what each cluster has", job("j", "", "") + object("v1", "ConfigMap", "kube-root-ca.crt", "") +
			strings.Replace(object("v1", "Service", "kubernetes", "spec: {ports: [{port: 443}]}"), "{name: kubernetes}", "{name: kubernetes, labels: {provider: kubernetes}}", 1) +
			strings.Replace(object("v1", "Endpoints", "web", ""), "{name: web}", "{name: web, labels: {endpoints.kubernetes.io/managed-by: endpoint-controller}}", 1), nil, "*job/j"},
		{"how pods find each other", job("j", "", "") + object("v1", "Service", "s", "spec: {ports: [{port: 1}]}"), nil, "service/s *job/j"},
		{"a Service that is wrong", job("j", "", "") + object("v1", "Service", "s", "spec: {ports: [{port: 0}]}"), nil,
			"!x:17: service/s: spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive\nx:17: service/s: spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive"},
		{"a class of the input", job("j", "", "priorityClassName: low") + object("scheduling.k8s.io/v1", "PriorityClass", "low", "value: 1"), nil, "priorityclass/low *job/j"},
		{"a class that there is not", job("j", "", "priorityClassName: low"), nil, "!x:10: job/j: spec.template.spec.priorityClassName: no PriorityClass with name low was found in the input"},
		{"the same, strictly", job("j", "", "") + object("v1", "ResourceQuota", "s", ""), &strict, "!--strict: skipped 1 object that a run does not need: resourcequota/s"},

		{"what never ends, beside a Job", job("j", "", "") + workload("Deployment", "d", "", "") + workload("StatefulSet", "s", "serviceName: s", "") + workload("DaemonSet", "e", "", "") +
			workload("ReplicaSet", "r", "", "") + object("v1", "ReplicationController", "c", "spec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}"),
			&strict, "+deployment/d +statefulset/s +daemonset/e +replicaset/r +replicationcontroller/c *job/j"},
		{"only Jobs", job("j", "", "") + workload("Deployment", "d", "replicas: -1", "") + pod("p", "Always") + pod("q", "Never"), &onlyJobs, "*job/j *pod/q"},
		{"what never ends, alone", workload("Deployment", "d", "", "") + pod("p", "Always"), nil,
			`!x:3: deployment/d: kind: a Deployment never ends, and there is no Job, CronJob or Pod here that does; "sampan serve" and "sampan apply" run it` + "\n" +
				"x:18: pod/p: spec.restartPolicy: is Always, which is the default, so that the pod never ends; OnFailure or Never let it"},
		{"one that is wrong", job("j", "", "") + workload("Deployment", "d", "replicas: -1", ""), nil, "!x:19: deployment/d: spec.replicas: Invalid value: -1: must be greater than or equal to 0\nall of this is about what never ends, and --only-jobs leaves that out"},
		{"one that could not start", job("j", "", "") + workload("Deployment", "d", "", "serviceAccountName: sa"), nil,
			`!x:24: deployment/d: spec.template.spec.serviceAccountName: the ServiceAccount "sa" is not in the input, so that no pod could be made` + "\nall of this is about what never ends, and --only-jobs leaves that out"},
		{"one of an old group", job("j", "", "") + strings.Replace(workload("Deployment", "d", "", ""), "apps/v1", "extensions/v1beta1", 1), nil,
			`!x:16: deployment/d: there is no kind "Deployment" in extensions/v1beta1: did you mean kind Deployment in apps/v1?`},
		{"a Deployment for other nodes", job("j", "", "") + workload("Deployment", "d", "", "nodeSelector: {kubernetes.io/os: windows}"), nil,
			"!x:24: deployment/d: spec.template.spec.nodeSelector: this machine does not match; its labels are kubernetes.io/hostname=here, kubernetes.io/os=linux\nall of this is about what never ends, and --only-jobs leaves that out"},
		{"a DaemonSet for other nodes", job("j", "", "") + workload("DaemonSet", "d", "", "nodeSelector: {kubernetes.io/os: windows}\n      serviceAccountName: none"), nil, "+daemonset/d *job/j"},
		{"claims of a StatefulSet", job("j", "", "") + workload("StatefulSet", "s", "serviceName: s\n  replicas: 2\n  ordinals: {start: 3}\n  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], storageClassName: ssd, resources: {requests: {storage: 1Gi}}}}]", ""), nil,
			"persistentvolume/run-03f6ec8d507c697ed695 persistentvolume/run-073839b8cd1cb317c6b2 +statefulset/s *job/j"},
		{"a block device", job("j", "", "") + workload("StatefulSet", "s", "serviceName: s\n  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], volumeMode: Block, resources: {requests: {storage: 1Gi}}}}]", ""), nil,
			"!x:20: statefulset/s: spec.volumeClaimTemplates[0].spec.volumeMode: there are no block devices here that could be claimed; Filesystem gets a directory\nall of this is about what never ends, and --only-jobs leaves that out"},
		{"tests of a chart", job("j", "", "") + strings.Replace(pod("t", "Never"), "{name: t}", `{name: t, annotations: {helm.sh/hook: test}}`, 1), nil, "*job/j"},
		{"tests of a chart, which has nothing else that ends", workload("Deployment", "d", "", "") + strings.Replace(pod("t", "Never"), "{name: t}", `{name: t, annotations: {helm.sh/hook: "test-success"}}`, 1), nil, "+deployment/d *pod/t"},
		{"what an upgrade runs", job("j", "", "") + hook("k", "helm.sh/hook: 'pre-upgrade, post-upgrade'") + hook("l", "helm.sh/hook: 'pre-upgrade,post-install'") + hook("m", "argocd.argoproj.io/hook: SyncFail") +
			hook("o", "argocd.argoproj.io/hook: PreSync"), nil, "*job/j *job/l *job/o"},
		{"nothing but that", hook("k", "helm.sh/hook: pre-upgrade"), nil, "!there is nothing to run: no Job, CronJob or Pod is among the 1 object; job/k (pre-upgrade) is left out: no installation runs it"},
		{"nothing but that, and what never ends", workload("Deployment", "d", "", "") + hook("k", "helm.sh/hook: pre-upgrade") + hook("l", "helm.sh/hook: post-upgrade"), nil,
			`!x:3: deployment/d: kind: a Deployment never ends, and there is no Job, CronJob or Pod here that does; job/k (pre-upgrade), job/l (post-upgrade) are left out: no installation runs them; "sampan serve" and "sampan apply" run it`},
		{"hooks of another time, strictly", job("j", "", "") + hook("k", "helm.sh/hook: pre-upgrade"), &strict, "!--strict: job/k (pre-upgrade) is left out: no installation runs it"},
		{"several that never end", workload("Deployment", "d", "", "") + workload("StatefulSet", "s", "serviceName: s", ""), nil,
			`!x:3: deployment/d: kind: a Deployment never ends, nor do statefulset/s, and there is no Job, CronJob or Pod here that does; "sampan serve" and "sampan apply" run them`},
		{"an old group", object("extensions/v1beta1", "Job", "j", ""), nil, `!x:2: job/j: there is no kind "Job" in extensions/v1beta1: did you mean kind Job in batch/v1?`},
		{"a version that there is not", object("batch/v7", "Job", "j", ""), nil, `!x:2: job/j: there is no kind "Job" in batch/v7: did you mean kind Job in batch/v1?`},
		{"a slip", object("batch/v1", "Jub", "j", ""), nil, `!x:2: jub/j: there is no kind "Jub" in batch/v1: did you mean Job?`},
		{"a slip of case", object("v1", "Configmap", "j", ""), nil, `!x:2: configmap/j: there is no kind "Configmap" in v1: did you mean kind ConfigMap in v1?`},
		{"nothing like it", object("v1", "Nonsense", "j", ""), nil, `!x:2: nonsense/j: there is no kind "Nonsense" in v1`},

		{"all that is wrong", job("a", "parallelism: -1", "") + job("b", "completions: -1", "dnsPolicy: Nope"), nil,
			"!x:6: job/a: spec.parallelism: Invalid value: -1: must be greater than or equal to 0\n" +
				"x:19: job/b: spec.completions: Invalid value: -1: must be greater than or equal to 0\n" +
				`x:23: job/b: spec.template.spec.dnsPolicy: Unsupported value: "Nope": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"`},
		{"an unknown field", job("j", "backofflimit: 3", ""), nil, "!x:6: job/j: spec.backofflimit: there is no such field; did you mean backoffLimit?"},
		{"two of them", job("j", "xyz: 3", "restartpolicy: x"), nil,
			"!x:10: job/j: spec.template.spec.restartpolicy: there is no such field; did you mean restartPolicy?\nx:6: job/j: spec.xyz: there is no such field"},
		{"a text for a number", job("j", "parallelism: many", ""), nil, "!x:6: job/j: spec.parallelism: is a text, and has to be a number"},
		{"a number for a text", container("env: [{name: A, value: 5}]"), nil, "!x:11: job/j: spec.template.spec.containers.env.value: is a number, and has to be a text: put it in quotes"},

		{"no ConfigMap", container("envFrom: [{configMapRef: {name: cm}}]"), nil,
			`!x:12: job/j: spec.template.spec.containers[0].envFrom[0].configMapRef.name: the ConfigMap "cm" is not in the input, so that nothing could start`},
		{"an optional one", container("envFrom: [{configMapRef: {name: cm, optional: true}}]"), nil, "*job/j"},
		{"one that comes later", container("envFrom: [{configMapRef: {name: cm}}]") + configMap, nil, "configmap/cm *job/j"},
		{"one of another namespace", container("envFrom: [{configMapRef: {name: cm}}]") + strings.Replace(configMap, "{name: cm}", "{name: cm, namespace: ns}", 1), nil,
			`!x:12: job/j: spec.template.spec.containers[0].envFrom[0].configMapRef.name: the ConfigMap "cm" is not in the input, so that nothing could start`},
		{"no key", container("env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: z}}}]") + configMap, nil,
			`!x:12: job/j: spec.template.spec.containers[0].env[0].valueFrom.configMapKeyRef.name: the ConfigMap "cm" has no key "z", so that nothing could start; it has k`},
		{"no Secret", job("j", "", "volumes: [{name: v, secret: {secretName: s}}]"), nil,
			`!x:10: job/j: spec.template.spec.volumes[0].secret.secretName: the Secret "s" is not in the input, so that nothing could start`},
		{"no projected one", job("j", "", "volumes: [{name: v, projected: {sources: [{secret: {name: s}}]}}]"), nil,
			`!x:10: job/j: spec.template.spec.volumes[0].projected: the Secret "s" is not in the input, so that nothing could start`},
		{"no ServiceAccount", job("j", "", "serviceAccountName: sa"), nil,
			`!x:10: job/j: spec.template.spec.serviceAccountName: the ServiceAccount "sa" is not in the input, so that no pod could be made`},
		{"no RuntimeClass", job("j", "", "runtimeClassName: kata"), nil,
			`!x:10: job/j: spec.template.spec.runtimeClassName: pod rejected: RuntimeClass "kata" not found; here there are the classes sandbox and host`},

		{"a claim", object("v1", "PersistentVolumeClaim", "data", "") + job("j", "", "volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]"), nil, "*job/j"},
		{"no claim", job("j", "", "volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]"), nil,
			`!x:10: job/j: spec.template.spec.volumes[0].persistentVolumeClaim.claimName: the PersistentVolumeClaim "data" is not in the input; --volumes DIR makes directories of claims that are kept`},
		{"no claim, where they are kept", job("j", "", "volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]"), &kept, "*job/j"},
		{"another volume", job("j", "", "volumes: [{name: v, nfs: {server: s, path: /p}}]"), nil,
			"!x:10: job/j: spec.template.spec.volumes[0]: volumes of this type are not here; emptyDir, hostPath, configMap, secret, downwardAPI, projected, image and persistentVolumeClaim are"},

		{"a selector", job("j", "", "nodeSelector: {disk: ssd}"), nil,
			"!x:10: job/j: spec.template.spec.nodeSelector: this machine does not match; its labels are kubernetes.io/hostname=here, kubernetes.io/os=linux"},
		{"a selector that fits", job("j", "", "nodeSelector: {kubernetes.io/os: linux}"), nil, "*job/j"},
		{"too much", container("resources: {limits: {memory: 64Gi}}"), nil, "!x:11: job/j: spec.template.spec.containers: a pod asks for 64Gi of memory, and this machine has 4Gi"},
		{"a device", container("resources: {limits: {nvidia.com/gpu: 1}}"), nil, "!x:11: job/j: spec.template.spec.containers: a pod asks for 1 of nvidia.com/gpu, and this machine has none"},
		{"another node", job("j", "", "nodeName: there"), nil, `!x:10: job/j: spec.template.spec.nodeName: this machine is "here", and there is no other`},
		{"another system", job("j", "", "os: {name: windows}"), nil, "!x:10: job/j: spec.template.spec.os.name: is windows, and this machine runs linux"},
		{"another scheduler", job("j", "", "schedulerName: volcano"), nil, `!x:10: job/j: spec.template.spec.schedulerName: there is no scheduler "volcano" here that could place the pods`},
		{"a gate", job("j", "", "schedulingGates: [{name: g}]"), nil, `!x:10: job/j: spec.template.spec.schedulingGates: nobody removes the gate "g" here, so that the pod would wait for ever`},
		{"no command", container("args: [x]"), &host, "!x:12: job/j: spec.template.spec.containers[0].command: has to be set: the runtime class host runs commands of this machine, and uses no image"},
		{"a template", strings.Replace(job("j", "", ""), "image: i", `image: "{{ .Values.image }}"`, 1), nil,
			`!x:12: job/j: spec.template.spec.containers[0].image: "{{ .Values.image }}": this looks like a template of Helm: helm template CHART | sampan run -`},
		{"a variable", strings.Replace(job("j", "", ""), "image: i", `image: "r/i:${TAG}"`, 1), nil,
			`!x:12: job/j: spec.template.spec.containers[0].image: "r/i:${TAG}": a variable that was not filled in: sampan expand FILE --set NAME=VALUE | sampan run -`},
		{"suspended", job("j", "suspend: true", ""), nil, "!x:6: job/j: spec.suspend: the Job is suspended, and nobody resumes it here; remove the field to run it"},
		{"no pods", job("j", "parallelism: 0", ""), nil, "!x:6: job/j: spec.parallelism: is 0, so that no pod would ever start"},
		{"somebody else's", job("j", "managedBy: kueue.x-k8s.io/multikueue", ""), nil,
			`!x:6: job/j: spec.managedBy: the Job is left to "kueue.x-k8s.io/multikueue", which is not here; remove the field to run it`},
		{"a CronJob's Job", cronJob("suspend: true"), nil, "!x:10: cronjob/nightly: spec.jobTemplate.spec.suspend: the Job is suspended, and nobody resumes it here; remove the field to run it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := world()
			if c.world != nil {
				w = *c.world
			}
			if _, got := made(t, w, c.in); got != strings.TrimPrefix(c.want, "!") {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// What is said about an input that runs.
func TestNotes(t *testing.T) {
	t.Parallel()
	plan, got := made(t, world(), cronJob("ttlSecondsAfterFinished: 5")+
		strings.Replace(job("j", "ttlSecondsAfterFinished: 5", "topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]"), "{name: j}", "{name: j, namespace: ns}", 1)+
		job("k", "ttlSecondsAfterFinished: 5", "")+pod("p", "Always")+object("v1", "ResourceQuota", "s", "")+workload("StatefulSet", "db", "serviceName: db", "")+workload("Deployment", "q", "", "")+workload("DaemonSet", "d", "", "nodeSelector: {a: b}"))
	if plan == nil {
		t.Fatal(got)
	}
	want := []string{
		`cronjob/nightly: its Job runs once, now; its schedule "30 2 * * *" would be due next on Sun, 08 Mar 2026 02:30:00 UTC`,
		"pod/p runs as long as the others do (restartPolicy Always)",
		"statefulset/db, deployment/q, daemonset/d run as long as the others do",
		"daemonset/d has no pod here: it is for other nodes than this one",
		"skipped 1 object that a run does not need: resourcequota/s",
	}
	if !slices.Equal(plan.Notes, want) {
		t.Errorf("got %q", plan.Notes)
	}
	want = []string{
		"x:22: job/j: spec.template.spec.topologySpreadConstraints: all pods run on this machine",
		"x:18: job/j: spec.ttlSecondsAfterFinished: whatever is left is removed when the run ends (and 1 other object)",
	}
	if !slices.Equal(plan.NoEffect, want) {
		t.Errorf("got %q", plan.NoEffect)
	}
	if !slices.Equal(plan.Namespaces, []string{"ns"}) {
		t.Errorf("got %q", plan.Namespaces)
	}
}

// Whose account has rights by the input will probably use them, and cannot.
func TestPowerless(t *testing.T) {
	t.Parallel()
	binding := func(kind, subject string) string {
		return object("rbac.authorization.k8s.io/v1", kind, "b", "roleRef: {kind: Role, name: r}\nsubjects: [{kind: "+subject+"}]")
	}
	for _, c := range []struct{ in, want string }{
		{binding("RoleBinding", "ServiceAccount, name: sa, namespace: default"), "job/j has rights on the Kubernetes API"},
		{binding("ClusterRoleBinding", "ServiceAccount, name: default, namespace: default"), "job/k has rights on the Kubernetes API"},
		{binding("RoleBinding", "ServiceAccount, name: sa, namespace: other"), ""},
		{binding("RoleBinding", "User, name: sa"), ""},
		{object("rbac.authorization.k8s.io/v1", "RoleBinding", "b", "subjects: [3, {kind: 4}]"), ""},
	} {
		plan, got := made(t, world(), job("j", "", "serviceAccountName: sa")+job("k", "", "")+object("v1", "ServiceAccount", "sa", "")+c.in)
		if plan == nil {
			t.Fatal(got)
		}
		text := strings.Join(plan.Notes, "\n")
		if !strings.Contains(text, c.want) || c.want == "" && strings.Contains(text, "rights") {
			t.Errorf("got %q, want %q", text, c.want)
		}
	}
}

// A CronJob's Job is as `kubectl create job --from` makes it.
func TestJobOfCronJob(t *testing.T) {
	t.Parallel()
	plan, _ := made(t, world(), cronJob("completions: 3"))
	j := plan.Objects[0].Object.(*batchv1.Job)
	if *j.Spec.Completions != 3 || j.Labels["a"] != "b" || j.Annotations[kind.JobInstantiate] != "manual" || j.OwnerReferences != nil {
		t.Errorf("got %+v", j)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	in := object("v1", "PersistentVolumeClaim", "data", "") +
		strings.Replace(job("j", "", "volumes: [{name: v, persistentVolumeClaim: {claimName: data, readOnly: true}}, {name: w, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}]"),
			`command: ["true"]`, "volumeMounts: [{name: v, mountPath: /d}, {name: w, mountPath: /w}]", 1)
	plan, got := made(t, world(), in)
	if plan == nil {
		t.Fatal(got)
	}
	spec := plan.Objects[0].Object.(*batchv1.Job).Spec.Template.Spec
	if spec.Volumes[0].HostPath.Path != "/v/default/data" || spec.Volumes[1].EmptyDir == nil || !spec.Containers[0].VolumeMounts[0].ReadOnly || spec.Containers[0].VolumeMounts[1].ReadOnly {
		t.Errorf("got %+v", spec)
	}
	if !slices.Equal(plan.Claims, []string{"/v/default/data"}) {
		t.Errorf("got %q", plan.Claims)
	}
}

// No name of a claim leads out of the directory of claims.
func TestClaimsStayInTheirDirectory(t *testing.T) {
	t.Parallel()
	w := world()
	w.Kept = true
	for _, name := range []string{"../../etc", "a/b", "..", "/etc", "."} {
		for _, text := range []string{
			job("j", "", "volumes: [{name: v, persistentVolumeClaim: {claimName: '"+name+"'}}]"),
			object("v1", "PersistentVolumeClaim", "'"+name+"'", "") + job("j", "", ""),
			object("v1", "PersistentVolumeClaim", "x", "") + strings.Replace(job("j", "", "volumes: [{name: v, persistentVolumeClaim: {claimName: x}}]"), "{name: j}", "{name: j, namespace: '"+name+"'}", 1),
		} {
			if plan, got := made(t, w, text); plan != nil {
				t.Errorf("%q: claims %q, %s", name, plan.Claims, got)
			}
		}
	}
}

// What kubectl printed runs again.
func TestClean(t *testing.T) {
	t.Parallel()
	in := `
apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: Job
  metadata:
    name: j
    uid: u-j
    resourceVersion: "5"
    generation: 1
    creationTimestamp: "2026-01-01T00:00:00Z"
    finalizers: [x/y]
    managedFields: [{manager: kubectl}]
    labels: {batch.kubernetes.io/controller-uid: u-j, controller-uid: u-j, batch.kubernetes.io/job-name: j, job-name: j, mine: x}
    annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}", keep: this}
    ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: c, uid: u-c, controller: true}]
  spec:
    selector: {matchLabels: {batch.kubernetes.io/controller-uid: u-j}}
    template:
      metadata: {labels: {batch.kubernetes.io/controller-uid: u-j, controller-uid: u-j, batch.kubernetes.io/job-name: j, job-name: j}}
      spec: {restartPolicy: Never, containers: [{name: c, image: i}]}
  status: {succeeded: 1, conditions: [{type: Complete, status: "True"}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: j-x, uid: u-p, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: u-j, controller: true}]}
  spec: {restartPolicy: Never, containers: [{name: c, image: i}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: p, uid: u-q}
  spec:
    nodeName: there
    restartPolicy: Never
    priority: 0
    serviceAccountName: default
    containers: [{name: c, image: i, volumeMounts: [{name: kube-api-access-x, mountPath: /t}]}]
    volumes: [{name: kube-api-access-x, projected: {sources: [{configMap: {name: kube-root-ca.crt}}]}}]
  status: {phase: Succeeded}
`
	plan, got := made(t, world(), in)
	if got != "*job/j *pod/p" {
		t.Fatal(got)
	}
	j := plan.Objects[0].Object.(*batchv1.Job)
	meta := metav1.ObjectMeta{Namespace: "default", Name: "j", Labels: map[string]string{"mine": "x"}, Annotations: map[string]string{"keep": "this"}}
	if fmt.Sprint(j.ObjectMeta) != fmt.Sprint(meta) || j.Spec.Selector != nil || len(j.Spec.Template.Labels) > 0 || len(j.Status.Conditions) > 0 {
		t.Errorf("got %+v", j)
	}
	if p := plan.Objects[1].Object.(*corev1.Pod); p.Spec.NodeName != "" || len(p.Spec.Volumes) > 0 || len(p.Spec.Containers[0].VolumeMounts) > 0 || p.Status.Phase != "" {
		t.Errorf("got %+v", p)
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]int{"job job": 0, "job jub": 1, "job jobs": 1, "kitten sitting": 3, " abc": 3} {
		a, b, _ := strings.Cut(words, " ")
		if got := Distance(a, b); got != want || Distance(b, a) != want {
			t.Errorf("%s: %d", words, got)
		}
	}
}

var placed = regexp.MustCompile(`^x:\d+: |^there is nothing to run|^--strict`)

// FuzzMake: no input crashes the planner, and what it refuses has a place.
func FuzzMake(f *testing.F) {
	for _, s := range []string{job("j", "", ""), cronJob(""), pod("p", "Never"), object("v1", "PersistentVolumeClaim", "x", ""), container("resources: {limits: {memory: 64Gi}}")} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		input, _ := manifest.Decode("x", []byte(text))
		_, err := Make(world(), input)
		if err == nil {
			return
		}
		for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
			if !placed.MatchString(err.Error()) {
				t.Errorf("no place: %v", err)
			}
		}
	})
}
