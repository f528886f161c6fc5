package podspec

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// has reports how got lacks what want, a YAML text, says. Fields that want does
// not mention may be anything; those that it says are null must be absent.
func has(t *testing.T, got any, want string) {
	t.Helper()
	raw, err := yaml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var g, w any
	if err := yaml.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%v\n%s", err, want)
	}
	for _, line := range lacks("", g, w) {
		t.Error(line)
	}
}

func lacks(path string, got, want any) (lines []string) {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for _, key := range sortedKeys(w) {
			lines = append(lines, lacks(path+"."+key, g[key], w[key])...)
		}
		if len(w) > 0 || got != nil {
			return lines
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range w {
				lines = append(lines, lacks(fmt.Sprintf("%s[%d]", path, i), g[i], w[i])...)
			}
			return lines
		}
	}
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		return []string{fmt.Sprintf("%s is %s, want %s", path, g, w)}
	}
	return nil
}

func TestDefaultPullPolicy(t *testing.T) {
	t.Parallel()
	const id = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for image, want := range map[string]corev1.PullPolicy{
		"busybox":                          corev1.PullAlways,
		"busybox:latest":                   corev1.PullAlways,
		"busybox:1.37":                     corev1.PullIfNotPresent,
		"localhost:5000/busybox":           corev1.PullAlways,
		"localhost:5000/busybox:1":         corev1.PullIfNotPresent,
		"registry.k8s.io/e2e/agnhost:2.53": corev1.PullIfNotPresent,
		"busybox@sha256:" + id:             corev1.PullIfNotPresent,
		"busybox:latest@sha256:" + id:      corev1.PullAlways,
		"busybox:1.37@sha256:" + id:        corev1.PullIfNotPresent,
		"[fd00::1]:5000/busybox":           corev1.PullAlways,
		id:                                 corev1.PullIfNotPresent,
		"":                                 corev1.PullIfNotPresent,
		"Not A Reference":                  corev1.PullIfNotPresent,
		"UPPER/case":                       corev1.PullAlways,
		"busybox:":                         corev1.PullIfNotPresent,
		strings.Repeat("a", 247):           corev1.PullAlways,       // with library/ before it 255
		strings.Repeat("a", 248):           corev1.PullIfNotPresent, // too long to be a name
		"busybox:latest@sha256:" + id[:40]: corev1.PullIfNotPresent, // no digest of that kind
		"busybox:latest@md4:" + id:         corev1.PullIfNotPresent,
		"localhost/UPPER":                  corev1.PullIfNotPresent,
	} {
		if got := defaultPullPolicy(image); got != want {
			t.Errorf("%q: %s, want %s", image, got, want)
		}
	}
}

// defaulted is a spec as written, and some of it with its defaults.
type defaulted struct{ name, spec, want string }

func TestDefaultTemplate(t *testing.T) {
	t.Parallel()
	for _, test := range []defaulted{
		{"the least", `containers: [{name: c, image: "busybox:1"}]`, `
dnsPolicy: ClusterFirst
restartPolicy: Always
schedulerName: default-scheduler
securityContext: {}
terminationGracePeriodSeconds: 30
enableServiceLinks: null
preemptionPolicy: null
serviceAccountName: null
containers:
- imagePullPolicy: IfNotPresent
  terminationMessagePath: /dev/termination-log
  terminationMessagePolicy: File
  resources: {}
`},
		{"nothing that a pod gets for itself", `
hostNetwork: true
terminationGracePeriodSeconds: -3
containers: [{name: c, ports: [{containerPort: 80}], resources: {limits: {cpu: 1}}}]
`, `
terminationGracePeriodSeconds: -3
enableServiceLinks: null
containers: [{ports: [{containerPort: 80, hostPort: null, protocol: TCP}], resources: {requests: null}}]
`},
		{"the old name of the service account", `serviceAccount: robot`,
			`{serviceAccount: robot, serviceAccountName: robot}`},
		{"the new name wins", `{serviceAccount: robot, serviceAccountName: boss}`,
			`{serviceAccount: boss, serviceAccountName: boss}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tpl := &corev1.PodTemplateSpec{}
			if err := yaml.UnmarshalStrict([]byte(test.spec), &tpl.Spec); err != nil {
				t.Fatal(err)
			}
			tpl.Annotations = map[string]string{"pod.beta.kubernetes.io/init-containers": "[]"}
			DefaultTemplate(tpl)
			has(t, tpl.Spec, test.want)
			if len(tpl.Annotations) > 0 {
				t.Errorf("annotations %v", tpl.Annotations)
			}
		})
	}
}

func TestDefaultPod(t *testing.T) {
	t.Parallel()
	runDefaulted(t, []defaulted{
		{"requests from limits", `
containers: [{name: c, resources: {limits: {cpu: 2, memory: 1Gi}, requests: {cpu: 1}}}]
initContainers: [{name: i, resources: {limits: {cpu: 2}}}]
`, `
enableServiceLinks: true
containers: [{resources: {requests: {cpu: 1, memory: 1Gi}}}]
initContainers: [{resources: {requests: {cpu: 2}}}]
`},
		{"ports of the host's network", `
hostNetwork: true
containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 81, hostPort: 8081}]}]
`, `containers: [{ports: [{hostPort: 80}, {hostPort: 8081}]}]`},
		{"negative grace", `terminationGracePeriodSeconds: -1`, `terminationGracePeriodSeconds: 1`},
		{"no grace", `terminationGracePeriodSeconds: 0`, `terminationGracePeriodSeconds: 0`},
		{"probes", `
containers:
- name: c
  livenessProbe: {httpGet: {port: 80}}
  readinessProbe: {grpc: {port: 80}, periodSeconds: 3}
  startupProbe: {exec: {command: [a]}}
  lifecycle: {preStop: {httpGet: {port: 80, scheme: HTTPS}}}
`, `
containers:
- livenessProbe: {httpGet: {path: /, scheme: HTTP}, timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3}
  readinessProbe: {grpc: {service: ""}, periodSeconds: 3}
  startupProbe: {failureThreshold: 3}
  lifecycle: {preStop: {httpGet: {path: /, scheme: HTTPS}}}
`},
		{"environment", `
containers:
- name: c
  env:
  - {name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: B, valueFrom: {fileKeyRef: {key: k, path: p, volumeName: v}}}
  - {name: C, valueFrom: {secretKeyRef: {name: s, key: k}}}
`, `
containers:
- env:
  - {valueFrom: {fieldRef: {apiVersion: v1}}}
  - {valueFrom: {fileKeyRef: {optional: false}}}
  - {valueFrom: {secretKeyRef: {optional: null}}}
`},
		{"ephemeral containers", `ephemeralContainers: [{name: e, image: a}]`,
			`ephemeralContainers: [{imagePullPolicy: Always, terminationMessagePolicy: File}]`},
		{"fractions of a thousandth", `
overhead: {cpu: 100u}
containers: [{name: c, resources: {limits: {cpu: 1100u}}}]
`, `
overhead: {cpu: 1m}
containers: [{resources: {limits: {cpu: 2m}, requests: {cpu: 2m}}}]
`},
	})
}

func TestDefaultVolumes(t *testing.T) {
	t.Parallel()
	runDefaulted(t, []defaulted{
		{"no source", `volumes: [{name: v}]`, `volumes: [{emptyDir: {}}]`},
		{"files", `
volumes:
- {name: a, secret: {secretName: s}}
- {name: b, configMap: {name: c, defaultMode: 0600}}
- {name: c, downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.name}}]}}
- name: d
  projected:
    sources:
    - serviceAccountToken: {path: token}
    - downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.name}}]}
- {name: e, hostPath: {path: /a}}
- {name: f, image: {reference: "a:1"}}
- {name: g, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}}
`, `
volumes:
- secret: {defaultMode: 420}
- configMap: {defaultMode: 384}
- downwardAPI: {defaultMode: 420, items: [{fieldRef: {apiVersion: v1}}]}
- projected:
    defaultMode: 420
    sources:
    - serviceAccountToken: {expirationSeconds: 3600}
    - downwardAPI: {items: [{fieldRef: {apiVersion: v1}}]}
- hostPath: {type: ""}
- image: {pullPolicy: IfNotPresent}
- ephemeral: {volumeClaimTemplate: {spec: {volumeMode: Filesystem}}}
`},
		{"products", `
volumes:
- {name: a, iscsi: {targetPortal: a}}
- {name: b, rbd: {image: a}}
- {name: c, azureDisk: {diskName: a}}
- {name: d, scaleIO: {gateway: a}}
`, `
volumes:
- iscsi: {iscsiInterface: default}
- rbd: {pool: rbd, user: admin, keyring: /etc/ceph/keyring}
- azureDisk: {cachingMode: ReadWrite, kind: Shared, fsType: ext4, readOnly: false}
- scaleIO: {storageMode: ThinProvisioned, fsType: xfs}
`},
	})
}

func runDefaulted(t *testing.T, tests []defaulted) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := podOf(t, test.spec)
			has(t, pod.Spec, test.want)
			again := pod.DeepCopy()
			DefaultPod(again)
			raw, _ := yaml.Marshal(pod.Spec)
			has(t, again.Spec, string(raw))
		})
	}
}

func TestDefaultStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []defaulted{
		{"one address", `podIP: 10.0.0.1`, `{podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}`},
		{"many", `podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]`, `{podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}`},
		{"both", `{podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.1}]}`, `{podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}]}`},
		{"none", `{}`, `{podIP: null, podIPs: null}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{}
			if err := yaml.UnmarshalStrict([]byte(test.spec), &pod.Status); err != nil {
				t.Fatal(err)
			}
			DefaultPod(pod)
			has(t, pod.Status, test.want)
		})
	}
}
