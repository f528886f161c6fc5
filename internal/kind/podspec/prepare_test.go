package podspec

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func TestPrepare(t *testing.T) {
	t.Parallel()
	for _, test := range []defaulted{
		{"what a client says of the status", good, `
metadata: {generation: 1}
status: {phase: Pending, qosClass: BestEffort, podIP: null, conditions: null}
`},
		{"gates", "schedulingGates: [{name: a}]\n" + good, `
status:
  phase: Pending
  conditions: [{type: PodScheduled, status: "False", reason: SchedulingGated,
    message: Scheduling is blocked due to non-empty scheduling gates}]
`},
		{"label keys", `
topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, labelSelector: {}, matchLabelKeys: [app, none]}]
affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: z, labelSelector: {}, mismatchLabelKeys: [app]}]}}
` + good, `
spec:
  topologySpreadConstraints: [{labelSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}}]
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [
    {labelSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}]}}
`},
		{"resources of the whole pod", `
resources: {limits: {cpu: 4}}
containers: [{name: c, image: a, resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}}}]
`, `
spec: {resources: {limits: {cpu: 4, memory: 2Gi}, requests: {cpu: 1, memory: 1Gi}}}
status: {qosClass: Burstable}
`},
		{"requests of the whole pod, without limits", `
resources: {requests: {cpu: 2}}
containers: [{name: c, image: a, resources: {requests: {memory: 1Gi}}}]
`, `
spec: {resources: {requests: {cpu: 2, memory: 1Gi}, limits: null}}
status: {qosClass: Burstable}
`},
		{"limits of what the whole pod requests", `
resources: {requests: {cpu: 1, hugepages-2Mi: 2Mi}}
containers:
- {name: c, image: a, resources: {limits: {cpu: 500m, hugepages-2Mi: 4Mi}}}
- {name: d, image: a, resources: {limits: {cpu: 100m, hugepages-2Mi: 4Mi, memory: 1Gi}}}
`, `
spec: {resources: {requests: {cpu: 1, memory: 1Gi, hugepages-2Mi: 2Mi}, limits: {cpu: 1, hugepages-2Mi: 8Mi, memory: null}}}
status: {qosClass: Burstable}
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := podOf(t, test.spec)
			pod.Labels = map[string]string{"app": "web"}
			pod.Generation = 7
			pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", QOSClass: corev1.PodQOSGuaranteed}
			Prepare(pod)
			has(t, pod, test.want)
		})
	}
}

func TestPrepareUpdate(t *testing.T) {
	t.Parallel()
	old := podOf(t, "resources: {limits: {cpu: 1}}\n"+good)
	old.Generation = 3
	old.Status.Phase = corev1.PodRunning
	pod := podOf(t, good)
	pod.Labels = map[string]string{"a": "b"}
	PrepareUpdate(pod, old)
	has(t, pod, `{metadata: {generation: 3}, spec: {resources: {limits: {cpu: 1}}}, status: {phase: Running}}`)
	pod.Spec.Containers[0].Image = "other"
	PrepareUpdate(pod, old)
	has(t, pod, `{metadata: {generation: 4}}`)
}

func TestPrepareStatus(t *testing.T) {
	t.Parallel()
	old := statusOf(t, `
qosClass: Burstable
observedGeneration: 2
conditions: [{type: Ready, status: "True", observedGeneration: 2}]
resourceClaimStatuses: [{name: a}]
`)
	old.OwnerReferences = []metav1.OwnerReference{{Name: "job"}}
	pod := statusOf(t, `
phase: Running
conditions: [{type: Ready, status: "False"}, {type: Ready, status: "False"}]
volumeHealth: [{name: v}]
`)
	pod.Spec = corev1.PodSpec{}
	now := metav1.Now()
	pod.DeletionTimestamp = &now
	PrepareStatus(pod, old)
	has(t, pod, `
metadata: {deletionTimestamp: null, ownerReferences: [{name: job}]}
spec: {restartPolicy: OnFailure}
status:
  phase: Running
  qosClass: Burstable
  observedGeneration: 2
  conditions: [{observedGeneration: 2, status: "False"}, {observedGeneration: null}]
  resourceClaimStatuses: [{name: a}]
  volumeHealth: null
`)
}

// gatedSpec has every field of a spec that default feature gates switch off.
const gatedSpec = `
schedulingGroup: {podGroupName: g}
evictionResponders: [{name: example.com/a}]
containers:
- name: c
  image: a
  lifecycle: {stopSignal: SIGUSR1}
  readinessProbe: {grpc: {port: 1, mode: TLS}}
  livenessProbe: {httpGet: {port: 1, protocol: H2C}}
  volumeMounts: [{name: a, mountPath: /a, bindMountOptions: [noexec]}]
- {name: hooks, lifecycle: {postStart: {httpGet: {port: 1, protocol: H2C}}, preStop: {httpGet: {port: 1, protocol: H2C}}}}
volumes:
- {name: a, emptyDir: {mode: 448}}
- {name: b, secret: {secretName: s, defaultUser: 5, items: [{key: k, path: p, user: 5}]}}
- {name: c, downwardAPI: {defaultUser: 5, items: [{path: p, user: 5}]}}
- name: d
  projected:
    defaultUser: 5
    sources:
    - {secret: {items: [{key: k, path: p, user: 5}]}}
    - {configMap: {items: [{key: k, path: p, user: 5}]}}
    - {downwardAPI: {items: [{path: p, user: 5}]}}
    - {serviceAccountToken: {path: p, user: 5}}
    - {clusterTrustBundle: {path: p, user: 5}}
    - {podCertificate: {keyType: a, signerName: b, user: 5}}
- {name: e, configMap: {name: c, defaultUser: 5, items: [{key: k, path: p, user: 5}]}}
`

func TestDropDisabled(t *testing.T) {
	t.Parallel()
	spec := &corev1.PodSpec{}
	if err := yaml.UnmarshalStrict([]byte(gatedSpec), spec); err != nil {
		t.Fatal(err)
	}
	kept := spec.DeepCopy()
	DropDisabled(kept, spec)
	raw, _ := yaml.Marshal(spec)
	has(t, kept, string(raw))

	DropDisabled(spec, nil)
	has(t, spec, `
schedulingGroup: null
evictionResponders: null
containers:
- lifecycle: null
  readinessProbe: {grpc: {port: 1, mode: null}}
  livenessProbe: {httpGet: {protocol: null}}
  volumeMounts: [{bindMountOptions: null}]
- {lifecycle: {postStart: {httpGet: {protocol: null}}, preStop: {httpGet: {protocol: null}}}}
volumes:
- {emptyDir: {mode: null}}
- {secret: {defaultUser: null, items: [{user: null}]}}
- {downwardAPI: {defaultUser: null, items: [{user: null}]}}
- projected:
    defaultUser: null
    sources:
    - {secret: {items: [{user: null}]}}
    - {configMap: {items: [{user: null}]}}
    - {downwardAPI: {items: [{user: null}]}}
    - {serviceAccountToken: {user: null}}
    - {clusterTrustBundle: {user: null}}
    - {podCertificate: {user: null}}
- {configMap: {defaultUser: null, items: [{user: null}]}}
`)
	for _, f := range gatedFields() {
		if f.used(spec) || !f.used(kept) {
			t.Errorf("%s: dropped %v, kept %v", f.gate, !f.used(spec), f.used(kept))
		}
	}
}

// Kubernetes looks at one source of a volume, and of what is projected.
func TestDropUsersOfOneSource(t *testing.T) {
	t.Parallel()
	spec := &corev1.PodSpec{}
	const two = `
volumes:
- {name: a, secret: {defaultUser: 5, items: [{key: k, path: p, user: 5}]}, configMap: {defaultUser: 5, items: [{key: k, path: p, user: 5}]}}
- {name: b, projected: {sources: [{configMap: {items: [{key: k, path: p, user: 5}]}, downwardAPI: {items: [{path: p, user: 5}]}}]}}
`
	if err := yaml.UnmarshalStrict([]byte(two), spec); err != nil {
		t.Fatal(err)
	}
	DropDisabled(spec, nil)
	has(t, spec, `
volumes:
- {secret: {defaultUser: null, items: [{user: null}]}, configMap: {defaultUser: 5, items: [{user: 5}]}}
- {projected: {sources: [{configMap: {items: [{user: 5}]}, downwardAPI: {items: [{user: null}]}}]}}
`)
	again := spec.DeepCopy()
	again.Volumes[0].Secret.DefaultUser = new(int64)
	DropDisabled(again, spec) // what the second source has does not count as in use
	has(t, again, `volumes: [{secret: {defaultUser: null}}, {}]`)
}

func TestQOSClass(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, spec string
		want       corev1.PodQOSClass
	}{
		{"nothing", good, corev1.PodQOSBestEffort},
		{"a gpu", `containers: [{name: c, resources: {limits: {example.com/gpu: 1}}}]`, corev1.PodQOSBestEffort},
		{"limits", `containers: [{name: c, resources: {limits: {cpu: 1, memory: 1Gi}}}]`, corev1.PodQOSGuaranteed},
		{"lower requests", `containers: [{name: c, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}}]`, corev1.PodQOSBurstable},
		{"only cpu", `containers: [{name: c, resources: {limits: {cpu: 1}}}]`, corev1.PodQOSBurstable},
		{"only requests", `containers: [{name: c, resources: {requests: {cpu: 1, memory: 1Gi}}}]`, corev1.PodQOSBurstable},
		{"zero", `containers: [{name: c, resources: {requests: {cpu: 0}}}]`, corev1.PodQOSBestEffort},
		{"one of two", `containers: [{name: c, resources: {limits: {cpu: 1, memory: 1Gi}}}, {name: d}]`, corev1.PodQOSBurstable},
		{"init container too", `{initContainers: [{name: i}], containers: [{name: c, resources: {limits: {cpu: 1, memory: 1Gi}}}]}`, corev1.PodQOSBurstable},
		{"of the pod", `{resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1, memory: 1Gi}}, containers: [{name: c}]}`, corev1.PodQOSGuaranteed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := podOf(t, test.spec)
			if got := QOSClass(pod); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			pod.Status.QOSClass = "Known"
			if got := QOSClass(pod); got != "Known" {
				t.Errorf("status: %s", got)
			}
		})
	}
}

func TestShouldRestart(t *testing.T) {
	t.Parallel()
	const rules = `, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}, {action: Restart, exitCodes: {operator: NotIn, values: [0, 1, 42]}}]`
	for _, test := range []struct {
		pod  corev1.RestartPolicy
		ctr  string
		code int32
		want bool
	}{
		{"Always", "", 0, true},
		{"OnFailure", "", 0, false},
		{"OnFailure", "", 1, true},
		{"Never", "", 1, false},
		{"Never", ", restartPolicy: Always", 0, true},
		{"Always", ", restartPolicy: Never", 1, false},
		{"Always", ", restartPolicy: OnFailure", 0, false},
		{"Never", ", restartPolicy: Never" + rules, 42, true},
		{"Never", ", restartPolicy: Never" + rules, 1, false},
		{"Never", ", restartPolicy: Never" + rules, 7, true},
		{"Never", ", restartPolicy: Never, restartPolicyRules: [{action: Restart}]", 7, false},
	} {
		var ctr corev1.Container
		if err := yaml.UnmarshalStrict([]byte("{name: c"+test.ctr+"}"), &ctr); err != nil {
			t.Fatal(err)
		}
		if got := shouldRestart(&ctr, test.pod, test.code); got != test.want {
			t.Errorf("%s%s, code %d: %v", test.pod, test.ctr, test.code, got)
		}
	}
}

func TestInternal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		value any
		want  string
	}{
		{"nothing", nil, `null`},
		{"plain", "a", `"a"`},
		{"names", corev1.ContainerPort{Name: "p", ContainerPort: 80}, `{"Name":"p","HostPort":0,"ContainerPort":80,"Protocol":"","HostIP":""}`},
		{"embedded structs", corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
			`{"Prefix":"","ConfigMapRef":null,"SecretRef":{"Name":"s","Optional":null}}`},
		{"lists and quantities", corev1.ResourceRequirements{Limits: cpus("1500m")},
			`{"Limits":{"cpu":"1500m"},"Requests":null,"Claims":null}`},
		{"selectors", corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}},
			`{"LabelSelector":{"matchLabels":{"a":"b"}},"Namespaces":null,"TopologyKey":"","NamespaceSelector":null,"MatchLabelKeys":null,"MismatchLabelKeys":null}`},
		{"list of structs", []corev1.PodIP{{IP: "10.0.0.1"}}, `[{"IP":"10.0.0.1"}]`},
		{"empty list", []corev1.PodIP{}, `[]`},
		{"no list", []corev1.PodIP(nil), `null`},
	} {
		got, err := json.Marshal(Internal(test.value))
		if err != nil || string(got) != test.want {
			t.Errorf("%s: %s, %v, want %s", test.name, got, err, test.want)
		}
	}
}

// The form of a job's template in "spec.template: Invalid value: …: field is
// immutable".
func TestInternalTemplate(t *testing.T) {
	t.Parallel()
	tpl := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}}
	tpl.Spec.HostNetwork = true
	got, err := json.Marshal(Internal(tpl))
	const want = `{"labels":{"a":"b"},"Spec":{"Volumes":null,"InitContainers":null,"Containers":null,"EphemeralContainers":null,` +
		`"RestartPolicy":"","TerminationGracePeriodSeconds":null,"ActiveDeadlineSeconds":null,"DNSPolicy":"","NodeSelector":null,` +
		`"ServiceAccountName":"","DeprecatedServiceAccount":"","AutomountServiceAccountToken":null,"NodeName":"","HostNetwork":true,` +
		`"HostPID":false,"HostIPC":false,"ShareProcessNamespace":null,"SecurityContext":null,"ImagePullSecrets":null,"Hostname":"",` +
		`"Subdomain":"","Affinity":null,"SchedulerName":"","Tolerations":null,"HostAliases":null,"PriorityClassName":"","Priority":null,` +
		`"DNSConfig":null,"ReadinessGates":null,"RuntimeClassName":null,"EnableServiceLinks":null,"PreemptionPolicy":null,"Overhead":null,` +
		`"TopologySpreadConstraints":null,"SetHostnameAsFQDN":null,"OS":null,"HostUsers":null,"SchedulingGates":null,"ResourceClaims":null,` +
		`"Resources":null,"HostnameOverride":null,"SchedulingGroup":null,"EvictionResponders":null}}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

func cpus(cpu string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
}
