package podspec

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// change is a pod before and after, and what Kubernetes says to it.
type change struct {
	name     string
	old, new string
	want     []string
}

const onlyMutable = "FieldValueForbidden spec: Forbidden: pod updates may not change fields other than " +
	"`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"

func runChanges(t *testing.T, tests []change) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			old, pod := podOf(t, test.old), podOf(t, test.new)
			PrepareUpdate(pod, old)
			compare(t, causes(ValidatePodUpdate(pod, old)), test.want)
		})
	}
}

func TestValidatePodUpdate(t *testing.T) {
	t.Parallel()
	runChanges(t, []change{
		{"nothing", good, good, nil},
		{"image", good, `
initContainers: []
containers: [{name: c, image: "busybox:1.36"}]
`, []string{onlyMutable + `@@ -27,7 +27,7 @@
    "Lifecycle": null,
    "TerminationMessagePath": "/dev/termination-log",
    "TerminationMessagePolicy": "File",
-   "ImagePullPolicy": "Always",
+   "ImagePullPolicy": "IfNotPresent",
    "SecurityContext": null,
    "Stdin": false,
    "StdinOnce": false,
`}},
		{"image with the policy it had", good, `containers: [{name: c, image: "busybox:1.36", imagePullPolicy: Always}]`, nil},
		{"no image", good, `containers: [{name: c, imagePullPolicy: Always}]`, []string{
			"FieldValueRequired spec.containers[0].image: Required value",
			"FieldValueRequired spec.containers[0].image: Required value",
		}},
		{"one container more", good, `containers: [{name: c, image: busybox}, {name: d, image: busybox}]`, []string{
			"FieldValueForbidden spec.containers: Forbidden: pod updates may not add or remove containers",
		}},
		{"one init container more", good, "initContainers: [{name: i, image: busybox}]\n" + good, []string{
			"FieldValueForbidden spec.initContainers: Forbidden: pod updates may not add or remove containers",
		}},
		{"a deadline", good, "activeDeadlineSeconds: 5\n" + good, nil},
		{"a shorter deadline", "activeDeadlineSeconds: 5\n" + good, "activeDeadlineSeconds: 4\n" + good, nil},
		{"a longer deadline", "activeDeadlineSeconds: 5\n" + good, "activeDeadlineSeconds: 6\n" + good, []string{
			"FieldValueInvalid spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value",
		}},
		{"no deadline any more", "activeDeadlineSeconds: 5\n" + good, good, []string{
			"FieldValueInvalid spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
		}},
		{"one toleration more", "tolerations: [{key: a, operator: Exists}]\n" + good,
			"tolerations: [{key: a, operator: Exists}, {key: b, operator: Exists}]\n" + good, nil},
		{"a toleration for longer", "tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 5}]\n" + good,
			"tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 6}]\n" + good, nil},
		{"one toleration less", "tolerations: [{key: a, operator: Exists}]\n" + good, good, []string{
			"FieldValueForbidden spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
		}},
	})
}

func TestValidateUpdateOfGatedPod(t *testing.T) {
	t.Parallel()
	const gate = "schedulingGates: [{name: a}]\n" + good
	terms := func(keys ...string) string {
		spec := "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: ["
		for _, key := range keys {
			spec += "{matchExpressions: [" + key + "]},"
		}
		return spec + "]}}}\n" + gate
	}
	const a, b = "{key: a, operator: Exists}", "{key: b, operator: Exists}"
	runChanges(t, []change{
		{"gate removed", gate, good, nil},
		{"gate added", good, gate, []string{
			"FieldValueForbidden spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a'",
		}},
		{"gate added twice", good, good + "schedulingGates: [{name: a}, {name: a}]\n", []string{
			`FieldValueDuplicate spec.schedulingGates[1]: Duplicate value: "a"`,
			"FieldValueForbidden spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a'",
		}},
		{"selector added", gate, "nodeSelector: {a: b}\n" + gate, nil},
		{"selector changed", "nodeSelector: {a: b}\n" + gate, "nodeSelector: {a: c}\n" + gate, []string{
			`FieldValueInvalid spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)`,
		}},
		{"node affinity added", gate, terms(a), nil},
		{"requirement added", terms(a), terms(a + "," + b), nil},
		{"requirement changed", terms(a), terms(b), []string{
			`FieldValueInvalid spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value: {"MatchExpressions":[{"Key":"b","Operator":"Exists","Values":null}],"MatchFields":null}: only additions are allowed (no mutations or deletions)`,
		}},
		{"term added", terms(a), terms(a, b), []string{
			`FieldValueInvalid spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Invalid value: [{"MatchExpressions":[{"Key":"a","Operator":"Exists","Values":null}],"MatchFields":null},{"MatchExpressions":[{"Key":"b","Operator":"Exists","Values":null}],"MatchFields":null}]: no additions/deletions to non-empty NodeSelectorTerms list are allowed`,
		}},
		{"selector added without a gate", good, "nodeSelector: {a: b}\n" + good, []string{
			onlyMutable + `@@ -39,7 +39,9 @@
  "TerminationGracePeriodSeconds": 30,
  "ActiveDeadlineSeconds": null,
  "DNSPolicy": "ClusterFirst",
- "NodeSelector": null,
+ "NodeSelector": {
+  "a": "b"
+ },
  "ServiceAccountName": "",
  "DeprecatedServiceAccount": "",
  "AutomountServiceAccountToken": null,
`}},
	})
}

// A pod from before a rule may keep what the rule forbids.
func TestRatcheting(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]string{
		"CAP_SYS_ADMIN": `containers: [{name: c, image: a, securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}, allowPrivilegeEscalation: false}}]`,
		"huge pages":    `containers: [{name: c, image: a, resources: {limits: {hugepages-2Mi: 1Mi, cpu: 1}}}]`,
		"node affinity value": `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: ["-"]}]}]}}}
` + good,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := podOf(t, spec)
			if errs := ValidatePod(old); len(errs) == 0 {
				t.Error("a new pod is accepted")
			}
			pod := old.DeepCopy()
			pod.Labels = map[string]string{"a": "b"}
			compare(t, causes(ValidatePodUpdate(pod, old)), nil)
			if errs := ValidatePodUpdate(pod, podOf(t, good)); len(errs) == 0 {
				t.Error("a pod that did not break the rule may now")
			}
		})
	}
}

func TestAnnotationUpdate(t *testing.T) {
	t.Parallel()
	const mirror, armor = corev1.MirrorPodAnnotationKey, appArmorAnnotation + "c"
	for _, test := range []struct {
		name     string
		old, new map[string]string
		want     string
	}{
		{"any", map[string]string{"a": "b"}, map[string]string{"a": "c"}, ""},
		{"mirror added", nil, map[string]string{mirror: "x"}, "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation"},
		{"mirror removed", map[string]string{mirror: "x"}, nil, "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation"},
		{"AppArmor changed", map[string]string{armor: "runtime/default"}, map[string]string{armor: "unconfined"},
			"metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Forbidden: may not remove or update AppArmor annotations"},
		{"deletion cost", nil, map[string]string{corev1.PodDeletionCost: "+1"},
			`metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			old := podOf(t, "nodeName: n\n"+good)
			pod := old.DeepCopy()
			old.Annotations, pod.Annotations = test.old, test.new
			var got []string
			for _, err := range ValidatePodUpdate(pod, old) {
				got = append(got, err.Error())
			}
			if !strings.Contains(strings.Join(got, "\n"), test.want) || (test.want == "") != (len(got) == 0) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func statusOf(t *testing.T, status string) *corev1.Pod {
	t.Helper()
	pod := podOf(t, `
restartPolicy: OnFailure
initContainers: [{name: i, image: a}, {name: s, image: a, restartPolicy: Always}]
containers: [{name: c, image: a, resources: {limits: {example.com/gpu: 1}}}]
ephemeralContainers: [{name: e, image: a}]
`)
	if err := yaml.UnmarshalStrict([]byte(status), &pod.Status); err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestValidatePodStatus(t *testing.T) {
	t.Parallel()
	ended := func(list, name, code string) string {
		return list + ": [{name: " + name + ", state: {terminated: {exitCode: " + code + "}}}]"
	}
	running := func(list, name string) string { return list + ": [{name: " + name + ", state: {running: {}}}]" }
	for _, test := range []change{
		{"nothing", "{}", "{}", nil},
		{"quality of service", "qosClass: Burstable", "qosClass: BestEffort", []string{
			`FieldValueInvalid status.qosClass: Invalid value: "BestEffort": field is immutable`}},
		{"quality of service left out", "qosClass: Burstable", "{}", nil},
		{"failed container starts again", ended("containerStatuses", "c", "1"), running("containerStatuses", "c"), nil},
		{"ended container starts again", ended("containerStatuses", "c", "0"), running("containerStatuses", "c"), []string{
			"FieldValueForbidden status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"}},
		{"ended init container starts again", ended("initContainerStatuses", "i", "0"), running("initContainerStatuses", "i"), []string{
			"FieldValueForbidden status.initContainerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"}},
		{"ended sidecar starts again", ended("initContainerStatuses", "s", "0"), running("initContainerStatuses", "s"), nil},
		{"ephemeral container starts again", ended("ephemeralContainerStatuses", "e", "1"), running("ephemeralContainerStatuses", "e"), []string{
			"FieldValueForbidden status.ephemeralContainerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"}},
		{"addresses", "{}", `{podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], hostIP: 10.0.0.3, hostIPs: [{ip: 10.0.0.4}]}`, []string{
			`FieldValueInvalid status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"10.0.0.2"}]: may specify no more than one IP for each IP family`,
			`FieldValueInvalid status.hostIPs[0].ip: Invalid value: "10.0.0.4": must be equal to ` + "`hostIP`"}},
		{"nominated node", "{}", "nominatedNodeName: a_b", []string{
			`FieldValueInvalid status.nominatedNodeName: Invalid value: "a_b": ` + subdomain}},
		{"observed generation", "observedGeneration: 3", "observedGeneration: -1", []string{
			"FieldValueInvalid status.observedGeneration: Invalid value: -1: must be a non-negative integer"}},
		{"device of nobody", "{}", "containerStatuses: [{name: c, allocatedResourcesStatus: [{name: example.com/tpu, resources: [{resourceID: a, health: Fine}]}]}]", []string{
			`FieldValueInvalid status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: "example.com/tpu": must match one of the container's resource requests`,
			`FieldValueNotSupported status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health: Unsupported value: "Fine": supported values: "Healthy", "Unhealthy", "Unknown"`}},
		{"claims", "{}", "resourceClaimStatuses: [{name: a, resourceClaimName: <}]", []string{
			"FieldValueInvalid status.resourceClaimStatuses[0].name: Invalid value: \"a\": must match the name of an entry in `spec.resourceClaims`",
			`FieldValueInvalid status.resourceClaimStatuses[0].resourceClaimName: Invalid value: "\u003c": ` + subdomain}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			old, pod := statusOf(t, test.old), statusOf(t, test.new)
			PrepareStatus(pod, old)
			compare(t, causes(ValidatePodStatus(pod, old)), test.want)
		})
	}
}

func TestValidateStatusNodeName(t *testing.T) {
	t.Parallel()
	old, pod := statusOf(t, "{}"), statusOf(t, "{}")
	pod.Spec.NodeName = "n1"
	compare(t, causes(ValidatePodStatus(pod, old)), []string{
		"FieldValueForbidden status.nodeName: Forbidden: may not be changed directly"})
}

func TestValidateBinding(t *testing.T) {
	t.Parallel()
	bind := func(kind, name string) []string {
		return causes(ValidateBinding(&corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
			Target:     corev1.ObjectReference{Kind: kind, Name: name},
		}))
	}
	compare(t, bind("", "n1"), nil)
	compare(t, bind("Node", "n1"), nil)
	compare(t, bind("Pod", ""), []string{
		`FieldValueNotSupported target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"`,
		"FieldValueRequired target.name: Required value",
	})
}
