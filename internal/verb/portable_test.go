package verb

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// What is exported is what a user would have written.
func TestPortable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, has, want string }{
		{"a Job is given its selector and labels", `
kind: Job
metadata: {name: j, uid: u, resourceVersion: "7", generation: 1, creationTimestamp: t, labels: {controller-uid: u, job-name: j}, finalizers: [orphan, example.com/f],
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}", sampan.dev/backoff: x, mine: y}}
spec: {selector: {matchLabels: {batch.kubernetes.io/controller-uid: u}}, template: {metadata: {creationTimestamp: null, labels: {a: b, batch.kubernetes.io/job-name: j}}}}
status: {active: 1}`, `
kind: Job
metadata: {name: j, finalizers: [example.com/f], annotations: {mine: y}}
spec: {template: {metadata: {labels: {a: b}}}}`},
		{"unless it has its own", `
kind: Job
metadata: {name: j, labels: {job-name: j}}
spec: {manualSelector: true, selector: {matchLabels: {a: b}}}`, `
kind: Job
metadata: {name: j, labels: {job-name: j}}
spec: {manualSelector: true, selector: {matchLabels: {a: b}}}`},
		{"a Service has addresses of this cluster", `
kind: Service
metadata: {name: s, managedFields: [{manager: m, fieldsV1: {"f:spec": {"f:ports": {}}}}]}
spec: {type: NodePort, clusterIP: 10.96.1.2, clusterIPs: [10.96.1.2], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, ports: [{port: 80, nodePort: 30001}]}`, `
kind: Service
metadata: {name: s}
spec: {type: NodePort, ports: [{port: 80}]}`},
		{"but for those that were asked for", `
kind: Service
metadata: {name: s, managedFields: [{manager: m, fieldsV1: {"f:spec": {"f:ports": {"k:{}": {"f:nodePort": {}}}}}}]}
spec: {clusterIP: None, clusterIPs: [None], ports: [{port: 80, nodePort: 30001}]}`, `
kind: Service
metadata: {name: s}
spec: {clusterIP: None, ports: [{port: 80, nodePort: 30001}]}`},
		{"a pod has a node, a priority and a token", `
kind: Pod
metadata: {name: p}
spec:
  nodeName: n
  serviceAccount: bot
  serviceAccountName: bot
  priority: 5
  priorityClassName: urgent
  preemptionPolicy: Never
  tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 300}, {key: mine}]
  volumes: [{name: kube-api-access-abcde, projected: {}}]
  containers: [{name: c, volumeMounts: [{name: kube-api-access-abcde, mountPath: /var}, {name: v, mountPath: /v}]}]`, `
kind: Pod
metadata: {name: p}
spec:
  serviceAccountName: bot
  priorityClassName: urgent
  tolerations: [{key: mine}]
  containers: [{name: c, volumeMounts: [{name: v, mountPath: /v}]}]`},
		{"a claim has a volume, and the default class", `
kind: PersistentVolumeClaim
metadata: {name: c, annotations: {pv.kubernetes.io/bind-completed: "yes"}, finalizers: [kubernetes.io/pvc-protection]}
spec: {storageClassName: quick, volumeName: pvc-1, accessModes: [ReadWriteOnce]}`, `
kind: PersistentVolumeClaim
metadata: {name: c}
spec: {accessModes: [ReadWriteOnce]}`},
		{"types that no API would write stay", `
kind: Pod
metadata: {name: p, labels: 3, annotations: [1]}
spec: {tolerations: x, volumes: [1], containers: {a: b}}`, `
kind: Pod
metadata: {name: p}
spec: {tolerations: x, volumes: [1], containers: {a: b}}`},
		{"even where all is of another type", "{kind: Service, metadata: {name: s}, spec: [1]}", "{kind: Service, metadata: {name: s}, spec: [1]}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := object(t, c.has)
			e := exporter{left: map[string]int{}, classes: map[string]bool{"quick": true}, sets: map[string]bool{}}
			if !e.takes(u) {
				t.Fatal("it is left out")
			}
			e.clean(u)
			got, _ := yaml.Marshal(u.Object)
			want, _ := yaml.Marshal(object(t, c.want).Object)
			if string(got) != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// What a cluster makes by itself is no user's.
func TestNotExported(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"{kind: Pod, metadata: {name: p, ownerReferences: [{kind: Job, name: j, uid: u, apiVersion: batch/v1}]}}",
		"{kind: Job, metadata: {name: j}, status: {conditions: [1, {type: Complete, status: 'True'}]}}",
		"{kind: Pod, metadata: {name: p}, status: {phase: Failed}}",
		"{kind: Pod, metadata: {name: p, namespace: kube-system}}",
		"{kind: Secret, metadata: {name: s}, type: kubernetes.io/service-account-token}",
		"{kind: ClusterRole, metadata: {name: view, labels: {kubernetes.io/bootstrapping: rbac-defaults}}}",
		"{kind: PersistentVolumeClaim, metadata: {name: data-db-0, namespace: n}}",
		"{kind: PersistentVolume, metadata: {name: v, annotations: {pv.kubernetes.io/provisioned-by: p}}}",
		"{kind: StorageClass, metadata: {name: standard}, provisioner: rancher.io/local-path}",
		"{kind: EndpointSlice, metadata: {name: kubernetes}}",
	} {
		e := exporter{left: map[string]int{}, classes: map[string]bool{}, sets: map[string]bool{}}
		e.look(object(t, "{kind: StatefulSet, metadata: {name: db, namespace: n}, spec: {volumeClaimTemplates: [{metadata: {name: data}}]}}"))
		if e.takes(object(t, text)) {
			t.Errorf("%s is exported", text)
		}
	}
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}
