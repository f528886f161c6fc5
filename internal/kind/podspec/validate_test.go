package podspec

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// podOf decodes and defaults a pod, from its spec: the lines of a manifest
// below `spec:`, without their indentation.
func podOf(t *testing.T, spec string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &pod.Spec); err != nil {
		t.Fatalf("manifest: %v\n%s", err, spec)
	}
	DefaultPod(pod)
	return pod
}

// causes renders errors as the API's causes: type, field, message.
func causes(errs field.ErrorList) []string {
	var out []string
	for _, err := range errs {
		out = append(out, fmt.Sprintf("%s %s: %s", string(err.Type), err.Field, err.ErrorBody()))
	}
	return out
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// good is a container that nothing is wrong with.
const good = "containers: [{name: c, image: busybox}]\n"

// wrong is a manifest that people write, and what Kubernetes says to it.
type wrong struct {
	name string
	spec string
	want []string
}

func runWrong(t *testing.T, tests []wrong) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pod := podOf(t, test.spec)
			Prepare(pod)
			compare(t, causes(ValidatePod(pod)), test.want)
		})
	}
}

func TestValidateContainers(t *testing.T) {
	t.Parallel()
	runWrong(t, []wrong{
		{"nothing wrong", good, nil},
		{"no containers", `restartPolicy: Never`, []string{
			"FieldValueRequired spec.containers: Required value",
		}},
		{"neither name nor image", `containers: [{command: ["true"]}]`, []string{
			"FieldValueRequired spec.containers[0].name: Required value",
			"FieldValueRequired spec.containers[0].image: Required value",
		}},
		{"name with underscore and capitals", `containers: [{name: My_App, image: a}]`, []string{
			`FieldValueInvalid spec.containers[0].name: Invalid value: "My_App": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`,
		}},
		{"same name twice", `containers: [{name: c, image: a}, {name: c, image: b}]`, []string{
			`FieldValueDuplicate spec.containers[1].name: Duplicate value: "c"`,
		}},
		{"init container with the name of a container", `
initContainers: [{name: c, image: a}]
` + good, []string{
			`FieldValueDuplicate spec.initContainers[0].name: Duplicate value: "c"`,
		}},
		{"image with a trailing space", `containers: [{name: c, image: "busybox "}]`, []string{
			`FieldValueInvalid spec.containers[0].image: Invalid value: "busybox ": must not have leading or trailing whitespace`,
		}},
		{"unknown pull policy", `containers: [{name: c, image: a, imagePullPolicy: Sometimes}]`, []string{
			`FieldValueNotSupported spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"`,
		}},
		{"unknown termination message policy", `containers: [{name: c, image: a, terminationMessagePolicy: Logs}]`, []string{
			`FieldValueNotSupported spec.containers[0].terminationMessagePolicy: Unsupported value: "Logs": supported values: "File", "FallbackToLogsOnError"`,
		}},
		{"probe in an init container", `
initContainers: [{name: i, image: a, readinessProbe: {exec: {command: ["true"]}}, lifecycle: {preStop: {exec: {command: ["true"]}}}}]
` + good, []string{
			"FieldValueForbidden spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
			"FieldValueForbidden spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
		}},
		{"probe in a sidecar", `
initContainers: [{name: i, image: a, restartPolicy: Always, readinessProbe: {exec: {command: ["true"]}}}]
` + good, nil},
		{"restart rules without a policy", `
containers:
- name: c
  image: a
  restartPolicyRules: [{action: Retry}]
`, []string{
			"FieldValueRequired spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
			`FieldValueNotSupported spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Retry": supported values: "Restart", "RestartAllContainers"`,
			"FieldValueRequired spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
		}},
		{"restart rules of an init container without a policy", `
initContainers: [{name: i, image: a, restartPolicyRules: [{action: Retry}]}]
` + good, []string{
			"FieldValueRequired spec.initContainers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
		}},
		{"ephemeral container on create", good + `
ephemeralContainers: [{name: d, image: a, ports: [{containerPort: 80}]}]
`, []string{
			"FieldValueForbidden spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
			"FieldValueForbidden spec.ephemeralContainers: Forbidden: cannot be set on create",
		}},
	})
}

func TestValidatePodFields(t *testing.T) {
	t.Parallel()
	runWrong(t, []wrong{
		{"unknown restart policy", `restartPolicy: never
` + good, []string{
			`FieldValueNotSupported spec.restartPolicy: Unsupported value: "never": supported values: "Always", "OnFailure", "Never"`,
		}},
		{"negative grace is one second", `terminationGracePeriodSeconds: -5
` + good, nil},
		{"deadline of zero", `activeDeadlineSeconds: 0
` + good, []string{
			"FieldValueInvalid spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
		}},
		{"hostname with dots", `hostname: a.b
` + good, []string{
			`FieldValueInvalid spec.hostname: Invalid value: "a.b": must not contain dots`,
		}},
		{"node selector that is no label", `nodeSelector: {"disk type": "a b"}
` + good, []string{
			`FieldValueInvalid spec.nodeSelector: Invalid value: "disk type": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
			`FieldValueInvalid spec.nodeSelector: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
		}},
		{"unknown dns policy", `dnsPolicy: Cluster
` + good, []string{
			`FieldValueNotSupported spec.dnsPolicy: Unsupported value: "Cluster": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"`,
		}},
		{"dns policy None without servers", `dnsPolicy: None
` + good, []string{
			"FieldValueRequired spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
		}},
		{"too many name servers, one wrong", `
dnsConfig: {nameservers: [1.1.1.1, 8.8.8.8, 9.9.9.9, dns.google], searches: [a_b.c, "."], options: [{value: x}]}
` + good, []string{
			`FieldValueInvalid spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","8.8.8.8","9.9.9.9","dns.google"]: must not have more than 3 nameservers`,
			`FieldValueInvalid spec.dnsConfig.nameservers[3]: Invalid value: "dns.google": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			`FieldValueRequired spec.dnsConfig.options[0]: Required value: must not be empty`,
		}},
		{"address with leading zeros", `hostAliases: [{ip: 010.1.1.1, hostnames: [a]}]
` + good, []string{
			`FieldValueInvalid spec.hostAliases[0].ip: Invalid value: "010.1.1.1": must not have leading 0s`,
		}},
		{"scheduling gates", `schedulingGates: [{name: example.com/a}, {name: example.com/a}, {name: "a b"}]
nodeName: n1
` + good, []string{
			`FieldValueDuplicate spec.schedulingGates[1]: Duplicate value: "example.com/a"`,
			`FieldValueInvalid spec.schedulingGates[2]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
			`FieldValueForbidden spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared`,
		}},
		{"own users with the host's namespaces", `{hostUsers: false, hostPID: true, hostNetwork: true, shareProcessNamespace: true, containers: [{name: c, image: a}]}`, []string{
			"FieldValueInvalid spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
			"FieldValueForbidden spec.hostNetwork: Forbidden: when `hostUsers` is false",
			"FieldValueForbidden spec.HostPID: Forbidden: when `hostUsers` is false",
		}},
		{"names of other objects", `{priorityClassName: High_1, runtimeClassName: "", serviceAccountName: Me, preemptionPolicy: Sometimes, containers: [{name: c, image: a}]}`, []string{
			`FieldValueInvalid spec.serviceAccountName: Invalid value: "Me": ` + subdomain,
			`FieldValueInvalid spec.priorityClassName: Invalid value: "High_1": ` + subdomain,
			`FieldValueInvalid spec.runtimeClassName: Invalid value: "": ` + subdomain,
			`FieldValueNotSupported spec.preemptionPolicy: Unsupported value: "Sometimes": supported values: "PreemptLowerPriority", "Never"`,
		}},
		{"hostname override", `{hostnameOverride: "a b", setHostnameAsFQDN: true, containers: [{name: c, image: a}]}`, []string{
			"FieldValueForbidden spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
			`FieldValueInvalid spec.hostnameOverride: Invalid value: "a b": ` + subdomain,
		}},
		{"unknown operating system", `{os: {name: plan9}, containers: [{name: c, image: a}]}`, []string{
			`FieldValueNotSupported spec.os: Unsupported value: "plan9": supported values: "linux", "windows"`,
		}},
		{"linux fields on windows", `{os: {name: windows}, hostIPC: true, securityContext: {fsGroup: 1}, containers: [{name: c, image: a, securityContext: {privileged: true, seLinuxOptions: {level: x}}}]}`, []string{
			"FieldValueForbidden spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.hostIPC: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.containers[0].securityContext.seLinuxOptions: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
		}},
		{"values that Kubernetes quotes as JSON", `
securityContext: {appArmorProfile: {type: RuntimeDefault, localhostProfile: "<"}}
containers: [{name: c, image: a, securityContext: {windowsOptions: {runAsUserName: "\0", gmsaCredentialSpecName: "<"}}}]`, []string{
			`FieldValueInvalid spec.containers[0].securityContext.windowsOptions.gmsaCredentialSpecName: Invalid value: "\u003c": ` + subdomain,
			`FieldValueInvalid spec.containers[0].securityContext.windowsOptions.runAsUserName: Invalid value: "\u0000": runAsUserName cannot contain control characters`,
			`FieldValueInvalid spec.securityContext.appArmorProfile.localhostProfile: Invalid value: "\u003c": can only be set when AppArmor type is Localhost`,
		}},
		{"windows user", `containers: [{name: c, image: a, securityContext: {windowsOptions: {runAsUserName: 'A\B\C'}}}]`, []string{
			`FieldValueInvalid spec.containers[0].securityContext.windowsOptions.runAsUserName: Invalid value: "A\\B\\C": runAsUserName cannot contain more than one backslash`,
		}},
	})
}

const subdomain = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`

func TestValidateEnv(t *testing.T) {
	t.Parallel()
	const env = "containers:\n- name: c\n  image: a\n  env:\n"
	runWrong(t, []wrong{
		{"names that shells would not take", env + "  - {name: my.var-1, value: x}\n  - {name: 1abc, value: x}\n", nil},
		{"no name, and an equals sign", env + "  - {value: x}\n  - {name: A=B, value: x}\n", []string{
			"FieldValueRequired spec.containers[0].env[0].name: Required value",
			`FieldValueInvalid spec.containers[0].env[1].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '='`,
		}},
		{"value and valueFrom", env + "  - {name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n", []string{
			"FieldValueInvalid spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
		}},
		{"empty valueFrom", env + "  - {name: A, valueFrom: {}}\n", []string{
			"FieldValueInvalid spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
		}},
		{"two sources", env + "  - {name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}, secretKeyRef: {name: s, key: k}}}\n", []string{
			"FieldValueInvalid spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not have more than one field specified at a time",
		}},
		{"field that does not exist", env + "  - {name: A, valueFrom: {fieldRef: {fieldPath: spec.hostname}}}\n", []string{
			`FieldValueInvalid spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.hostname": error converting fieldPath: field label not supported: spec.hostname`,
		}},
		{"field that variables do not show", env + "  - {name: A, valueFrom: {fieldRef: {fieldPath: status.phase}}}\n", []string{
			`FieldValueNotSupported spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"`,
		}},
		{"job index by annotation", env + "  - {name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['batch.kubernetes.io/job-completion-index']\"}}}\n", nil},
		{"label with a wrong key", env + "  - {name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a b']\"}}}\n", []string{
			`FieldValueInvalid spec.containers[0].env[0].valueFrom.fieldRef: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
		}},
		{"resource and divisor", env + "  - {name: A, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}\n  - {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2}}}\n  - {name: C, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1m}}}\n", []string{
			`FieldValueNotSupported spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"`,
			`FieldValueInvalid spec.containers[0].env[1].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource`,
			`FieldValueInvalid spec.containers[0].env[2].valueFrom.resourceFieldRef.divisor: Invalid value: "requests.memory": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource`,
		}},
		{"key of a secret", env + "  - {name: A, valueFrom: {secretKeyRef: {name: My_Secret}}}\n", []string{
			`FieldValueInvalid spec.containers[0].env[0].valueFrom.secretKeyRef.name: Invalid value: "My_Secret": ` + subdomain,
			"FieldValueRequired spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value",
		}},
		{"file in the second volume of a name", env + "  - {name: A, valueFrom: {fileKeyRef: {volumeName: v, path: x, key: A}}}\n" + "volumes: [{name: v, configMap: {name: m}}, {name: v, emptyDir: {}}]\n", []string{
			`FieldValueDuplicate spec.volumes[1].name: Duplicate value: "v"`,
		}},
		{"file in a volume that is no emptyDir", env + "  - {name: A, valueFrom: {fileKeyRef: {volumeName: v, path: ../x, key: A}}}\n" + "volumes: [{name: v, configMap: {name: m}}]\n", []string{
			`FieldValueInvalid spec.containers[0].env[0].valueFrom.fileKeyRef.path: Invalid value: "../x": must not contain '..'`,
			`FieldValueInvalid spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Invalid value: "v": referenced volume must be of type emptyDir`,
		}},
		{"envFrom", "containers: [{name: c, image: a, envFrom: [{}, {configMapRef: {name: a}, secretRef: {}}, {prefix: A=}]}]", []string{
			"FieldValueInvalid spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
			"FieldValueRequired spec.containers[0].envFrom[1].secretRef.name: Required value",
			"FieldValueInvalid spec.containers[0].envFrom: Invalid value: \"\": may not have more than one field specified at a time",
			`FieldValueInvalid spec.containers[0].envFrom[2].prefix: Invalid value: "A=": a valid environment variable name must consist only of printable ASCII characters other than '='`,
			"FieldValueInvalid spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
		}},
	})
}

func TestValidatePorts(t *testing.T) {
	t.Parallel()
	runWrong(t, []wrong{
		{"wrong in every way", `
containers:
- name: c
  image: a
  ports:
  - {name: this-name-is-too-long, containerPort: 80}
  - {name: http}
  - {name: http, containerPort: 70000, protocol: tcp, hostPort: 80}
  - {containerPort: 81, hostPort: 80}
  - {containerPort: 82, hostPort: 80}
`, []string{
			`FieldValueInvalid spec.containers[0].ports[0].name: Invalid value: "this-name-is-too-long": must be no more than 15 characters`,
			"FieldValueRequired spec.containers[0].ports[1].containerPort: Required value",
			`FieldValueDuplicate spec.containers[0].ports[2].name: Duplicate value: "http"`,
			"FieldValueInvalid spec.containers[0].ports[2].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
			`FieldValueNotSupported spec.containers[0].ports[2].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"`,
			`FieldValueDuplicate spec.containers[0].ports[4].hostPort: Duplicate value: "TCP//80"`,
		}},
		{"another port of the host's network", `{hostNetwork: true, containers: [{name: c, image: a, ports: [{containerPort: 80, hostPort: 8080}]}]}`, []string{
			"FieldValueInvalid spec.containers[0].ports[0].hostPort: Invalid value: 8080: must match `containerPort` when `hostNetwork` is true",
		}},
	})
}

func TestValidateProbes(t *testing.T) {
	t.Parallel()
	const c = "containers:\n- name: c\n  image: a\n"
	runWrong(t, []wrong{
		{"no handler", c + "  livenessProbe: {periodSeconds: 5}\n", []string{
			"FieldValueRequired spec.containers[0].livenessProbe: Required value: must specify a handler type",
		}},
		{"two handlers", c + "  readinessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}\n", []string{
			"FieldValueForbidden spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
		}},
		{"numbers", c + "  livenessProbe: {exec: {command: [a]}, successThreshold: 2, timeoutSeconds: -1}\n", []string{
			"FieldValueInvalid spec.containers[0].livenessProbe.timeoutSeconds: Invalid value: -1: must be greater than or equal to 0",
			"FieldValueInvalid spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
		}},
		{"http", c + "  startupProbe: {httpGet: {port: 0, scheme: http, httpHeaders: [{name: a b}]}, terminationGracePeriodSeconds: 0}\n", []string{
			"FieldValueInvalid spec.containers[0].startupProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
			`FieldValueNotSupported spec.containers[0].startupProbe.httpGet.scheme: Unsupported value: "http": supported values: "HTTP", "HTTPS"`,
			`FieldValueInvalid spec.containers[0].startupProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')`,
			"FieldValueInvalid spec.containers[0].startupProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
		}},
		{"grace of a readiness probe", c + "  readinessProbe: {exec: {command: []}, terminationGracePeriodSeconds: 1}\n", []string{
			"FieldValueRequired spec.containers[0].readinessProbe.exec.command: Required value",
			"FieldValueInvalid spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
		}},
		{"sleep longer than grace", c + "  lifecycle: {preStop: {sleep: {seconds: 60}}, postStart: {}}\n", []string{
			"FieldValueRequired spec.containers[0].lifecycle.postStart: Required value: must specify a handler type",
			"FieldValueInvalid spec.containers[0].lifecycle.preStop.sleep: Invalid value: 60: must be non-negative and less than terminationGracePeriodSeconds (30)",
		}},
	})
}
