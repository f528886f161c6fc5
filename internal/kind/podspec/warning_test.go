package podspec

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	for _, test := range []wrong{
		{"nothing", good, nil},
		{"old labels of nodes", `
nodeSelector: {beta.kubernetes.io/arch: amd64, kubernetes.io/os: linux}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: failure-domain.beta.kubernetes.io/zone, operator: Exists}]}]
    preferredDuringSchedulingIgnoredDuringExecution:
    - {weight: 1, preference: {matchExpressions: [{key: a, operator: In, values: ["-"]}]}}
topologySpreadConstraints: [{topologyKey: failure-domain.beta.kubernetes.io/region, labelSelector: {}}]
` + good, []string{
			`spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use "kubernetes.io/arch" instead`,
			`spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
			`spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[0]: - is invalid, a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
			`spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/region is deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
		}},
		{"old volumes", `
volumes:
- {name: a, gitRepo: {repository: r}}
- {name: b, glusterfs: {endpoints: e}}
- {name: c, cephfs: {monitors: [m]}}
- {name: d, rbd: {image: i}}
` + good, []string{
			"spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
			"spec.volumes[1].glusterfs: deprecated in v1.25, non-functional in v1.26+",
			"spec.volumes[2].cephfs: deprecated in v1.28, non-functional in v1.31+",
			"spec.volumes[3].rbd: deprecated in v1.28, non-functional in v1.31+",
		}},
		{"paths", `
volumes:
- {name: a, configMap: {name: m, items: [{key: k, path: a}, {key: l, path: ab}, {key: m, path: a/b}]}}
- {name: b, projected: {sources: [{}, {secret: {name: s, items: [{key: k, path: p}]}}, {serviceAccountToken: {path: p}}]}}
` + good, []string{
			`volume "a" (ConfigMap "m"): overlapping paths: "a/b" with "a"`,
			`volume "b" (Projected) has no sources provided`,
			`volume "b" (Projected): overlapping paths: "p" (ServiceAccountToken) with "p" (Secret "s")`,
		}},
		{"paths that are in the way of several", `
volumes:
- {name: a, secret: {secretName: s, items: [{key: k, path: a/}, {key: l, path: a/b}, {key: m, path: a/b/c}]}}
- name: b
  projected:
    sources:
    - {configMap: {name: m, items: [{key: k, path: a}]}}
    - {configMap: {name: all}}
    - {downwardAPI: {items: [{path: a/b, fieldRef: {fieldPath: metadata.name}}]}}
    - {clusterTrustBundle: {signerName: a.b/c, path: a/b/c}}
    - {podCertificate: {credentialBundlePath: a/d, certificateChainPath: c, keyPath: c/d}}
` + good, []string{
			`volume "a" (Secret "s"): overlapping paths: "a/b" with "a"`,
			`volume "a" (Secret "s"): overlapping paths: "a/b/c" with "a"`,
			`volume "a" (Secret "s"): overlapping paths: "a/b/c" with "a/b"`,
			`volume "b" (Projected): overlapping paths: "a/b" (DownwardAPI) with "a" (ConfigMap "m")`,
			`volume "b" (Projected): overlapping paths: "a/b/c" (ClusterTrustBundle "a.b/c") with "a" (ConfigMap "m")`,
			`volume "b" (Projected): overlapping paths: "a/b/c" (ClusterTrustBundle "a.b/c") with "a/b" (DownwardAPI)`,
			`volume "b" (Projected): overlapping paths: "c/d" (PodCertificate key) with "c" (PodCertificate chain)`,
			`volume "b" (Projected): overlapping paths: "a/d" (PodCertificate credential bundle) with "a" (ConfigMap "m")`,
		}},
		{"doubles", `
hostAliases: [{ip: 10.0.0.1}, {ip: 10.0.0.1}]
imagePullSecrets: [{name: a}, {name: a}, {name: ""}]
containers:
- name: c
  image: a
  env: [{name: A, value: a}, {name: A, value: "$(A):b"}, {name: A, value: c}]
  ports: [{containerPort: 80}, {containerPort: 80}, {containerPort: 80, hostPort: 8080}, {containerPort: 53, protocol: UDP}, {containerPort: 53}]
`, []string{
			`spec.hostAliases[1].ip: duplicate ip "10.0.0.1"`,
			`spec.imagePullSecrets[1].name: duplicate name "a"`,
			`spec.imagePullSecrets[2].name: invalid empty name ""`,
			`spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply`,
			`spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]`,
			`spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]`,
			`spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]`,
		}},
		{"names of ports", `
initContainers: [{name: i, image: a, ports: [{name: web, containerPort: 80}]}]
containers: [{name: c, image: a, ports: [{containerPort: 81}, {containerPort: 82}, {name: web, containerPort: 83}]}]
`, []string{
			`spec.containers[0].ports[2]: duplicate port name "web" with spec.initContainers[0].ports[0], ` +
				`services and probes that select ports by name will use spec.initContainers[0].ports[0]`,
		}},
		{"fractions of bytes", `
overhead: {memory: 100m}
containers: [{name: c, image: a, resources: {limits: {memory: 1500m, cpu: 1500m}}}]
`, []string{
			`spec.overhead[memory]: fractional byte value "100m" is invalid, must be an integer`,
			`spec.containers[0].resources.limits[memory]: fractional byte value "1500m" is invalid, must be an integer`,
			`spec.containers[0].resources.requests[memory]: fractional byte value "1500m" is invalid, must be an integer`,
		}},
		{"no selector", `
topologySpreadConstraints: [{topologyKey: a}]
affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a}]}, podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: a}}]}}
` + good, []string{
			"spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
			"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
			"spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
		}},
		{"addresses", `
dnsConfig: {nameservers: ["fd00:0:0::1"]}
hostAliases: [{ip: "::ffff:1.2.3.4"}]
` + good, []string{
			`spec.dnsConfig.nameservers[0]: IPv6 address "fd00:0:0::1" should be in RFC 5952 canonical format ("fd00::1")`,
			`spec.hostAliases[0].ip: non-standard IP address "::ffff:1.2.3.4" is invalid: use "1.2.3.4"`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			compare(t, Warnings(podOf(t, test.spec)), test.want)
		})
	}
}

func TestTemplateWarnings(t *testing.T) {
	t.Parallel()
	pod := podOf(t, "nodeSelector: {node-role.kubernetes.io/master: \"\"}\n"+good)
	grace := int64(-1)
	pod.Spec.TerminationGracePeriodSeconds = &grace
	tpl := &corev1.PodTemplateSpec{Spec: pod.Spec, ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		"scheduler.alpha.kubernetes.io/critical-pod":           "",
		"seccomp.security.alpha.kubernetes.io/pod":             "runtime/default",
		"container.apparmor.security.beta.kubernetes.io/c":     "runtime/default",
		"container.seccomp.security.alpha.kubernetes.io/other": "unconfined",
	}}}
	compare(t, TemplateWarnings(tpl, field.NewPath("spec", "template")), []string{
		`spec.template.spec.nodeSelector[node-role.kubernetes.io/master]: use "node-role.kubernetes.io/control-plane" instead`,
		`spec.template.metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead`,
		`spec.template.metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "seccompProfile" field instead`,
		`spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead`,
		`spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1`,
	})
}
