package podspec

import (
	"strings"
	"testing"
)

func TestValidateVolumes(t *testing.T) {
	t.Parallel()
	runWrong(t, []wrong{
		{"mount of no volume", `containers: [{name: c, image: a, volumeMounts: [{name: data, mountPath: /data}]}]`, []string{
			`FieldValueNotFound spec.containers[0].volumeMounts[0].name: Not found: "data"`,
		}},
		{"a wrong volume cannot be mounted", `
volumes: [{name: Data, emptyDir: {}}]
containers: [{name: c, image: a, volumeMounts: [{name: Data, mountPath: /data}]}]`, []string{
			`FieldValueInvalid spec.volumes[0].name: Invalid value: "Data": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`,
			`FieldValueNotFound spec.containers[0].volumeMounts[0].name: Not found: "Data"`,
		}},
		{"two sources, twice the name", `
volumes: [{name: v, emptyDir: {}, hostPath: {path: /x}}, {name: w}, {name: w, emptyDir: {}}]
` + good, []string{
			"FieldValueForbidden spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
			`FieldValueDuplicate spec.volumes[2].name: Duplicate value: "w"`,
		}},
		{"host path", `
volumes: [{name: v, hostPath: {path: ""}}, {name: w, hostPath: {path: /a/../b, type: Dir}}]
` + good, []string{
			"FieldValueRequired spec.volumes[0].hostPath.path: Required value",
			`FieldValueInvalid spec.volumes[1].hostPath.path: Invalid value: "/a/../b": must not contain '..'`,
			`FieldValueNotSupported spec.volumes[1].hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"`,
		}},
		{"config map and secret", `
volumes:
- name: v
  configMap: {items: [{key: a, path: /etc/a, mode: 0777}, {path: ..x}], defaultMode: 01000}
- name: w
  secret: {items: [{key: k, path: ../x}]}
` + good, []string{
			"FieldValueRequired spec.volumes[0].configMap.name: Required value",
			"FieldValueInvalid spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
			`FieldValueInvalid spec.volumes[0].configMap.items[0].path: Invalid value: "/etc/a": must be a relative path`,
			"FieldValueRequired spec.volumes[0].configMap.items[1].key: Required value",
			`FieldValueInvalid spec.volumes[0].configMap.items[1].path: Invalid value: "..x": must not start with '..'`,
			"FieldValueRequired spec.volumes[1].secret.secretName: Required value",
			`FieldValueInvalid spec.volumes[1].secret.items[0].path: Invalid value: "../x": must not contain '..'`,
		}},
		{"downward API", `
volumes:
- name: v
  downwardAPI: {items: [{path: a}, {path: b, fieldRef: {fieldPath: status.podIP}}, {path: c, resourceFieldRef: {resource: limits.cpu}}]}
` + good, []string{
			"FieldValueRequired spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
			`FieldValueNotSupported spec.volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: "status.podIP": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"`,
			"FieldValueRequired spec.volumes[0].downwardAPI.resourceFieldRef.containerName: Required value",
		}},
		{"projected", `
serviceAccountName: me
volumes:
- name: v
  projected:
    sources:
    - {secret: {items: [{key: a, path: x}]}, configMap: {name: m, items: [{key: b, path: x}]}}
    - {serviceAccountToken: {path: token, expirationSeconds: 60}}
    - {clusterTrustBundle: {path: ca}}
    - {podCertificate: {signerName: foo, keyType: RSA1024}}
` + good, []string{
			"FieldValueRequired spec.volumes[0].projected.sources[0].secret.name: Required value",
			`FieldValueInvalid spec.volumes[0].projected: Invalid value: "m": conflicting duplicate paths`,
			"FieldValueForbidden spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
			"FieldValueInvalid spec.volumes[0].projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
			"FieldValueRequired spec.volumes[0].projected.sources[2].clusterTrustBundle: Required value: either name or signerName must be specified",
			`FieldValueInvalid spec.volumes[0].projected.sources[3].podCertificate.signerName: Invalid value: "foo": must be a fully qualified domain and path of the form 'example.com/signer-name'`,
			`FieldValueNotSupported spec.volumes[0].projected.sources[3].podCertificate.keyType: Unsupported value: "RSA1024": supported values: "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"`,
			"FieldValueRequired spec.volumes[0].projected.sources[3].podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
		}},
		{"annotations of a certificate's request", `
volumes:
- name: v
  projected:
    sources:
    - podCertificate: {signerName: a.b/c, keyType: ED25519, keyPath: k, userAnnotations: {"": a, alone: b, Example.com/C: c, x.y/-: d}}
` + good, []string{
			"FieldValueRequired spec.volumes[0].projected.sources[0].podCertificate.userAnnotations: Required value",
			`FieldValueInvalid spec.volumes[0].projected.sources[0].podCertificate.userAnnotations: Invalid value: "alone": must be a domain-prefixed key (such as "acme.io/foo")`,
			`FieldValueInvalid spec.volumes[0].projected.sources[0].podCertificate.userAnnotations: Invalid value: "x.y/-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
		}},
		{"too much for a certificate's request", `
volumes:
- name: v
  projected:
    sources:
    - podCertificate: {signerName: a.b/c, keyType: ED25519, keyPath: k, userAnnotations: {a.b/c: "` + strings.Repeat("x", 256<<10) + `"}}
` + good, []string{
			"FieldValueTooLong spec.volumes[0].projected.sources[0].podCertificate.userAnnotations: Too long: may not be more than 262144 bytes",
		}},
		{"token without an account", `
volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: token}}]}}]
` + good, []string{
			"FieldValueForbidden spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
		}},
		{"mounts", `
volumes: [{name: v, emptyDir: {}}, {name: p, persistentVolumeClaim: {}}]
containers:
- name: c
  image: a
  volumeMounts:
  - {name: v, mountPath: /x, subPath: /abs}
  - {name: v, mountPath: /x, mountPropagation: Bidirectional}
  - {name: v, mountPath: "", subPath: a, subPathExpr: b}
  - {name: v, mountPath: /y, recursiveReadOnly: Enabled}
  volumeDevices: [{name: v, devicePath: /dev/../x}]
`, []string{
			"FieldValueRequired spec.volumes[1].persistentVolumeClaim.claimName: Required value",
			`FieldValueInvalid spec.containers[0].volumeMounts[0].name: Invalid value: "v": must not already exist in volumeDevices`,
			`FieldValueInvalid spec.containers[0].volumeMounts.subPath: Invalid value: "/abs": must be a relative path`,
			`FieldValueInvalid spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/x": must be unique`,
			`FieldValueInvalid spec.containers[0].volumeMounts[1].name: Invalid value: "v": must not already exist in volumeDevices`,
			"FieldValueForbidden spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
			"FieldValueRequired spec.containers[0].volumeMounts[2].mountPath: Required value",
			`FieldValueInvalid spec.containers[0].volumeMounts[2].name: Invalid value: "v": must not already exist in volumeDevices`,
			`FieldValueInvalid spec.containers[0].volumeMounts[2].subPathExpr: Invalid value: "b": subPathExpr and subPath are mutually exclusive`,
			`FieldValueInvalid spec.containers[0].volumeMounts[3].name: Invalid value: "v": must not already exist in volumeDevices`,
			"FieldValueForbidden spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
			`FieldValueInvalid spec.containers[0].volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode`,
			`FieldValueInvalid spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/dev/../x": can not contain backsteps ('..')`,
			`FieldValueInvalid spec.containers[0].volumeDevices[0].name: Invalid value: "v": must not already exist in volumeMounts`,
		}},
		{"ephemeral claim", `
volumes:
- name: v
  ephemeral: {volumeClaimTemplate: {metadata: {name: x}, spec: {accessModes: [RWO], resources: {requests: {storage: 0}}}}}
- name: w
  persistentVolumeClaim: {claimName: web-v}
` + good, []string{
			"FieldValueForbidden spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
			`FieldValueNotSupported spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Unsupported value: "RWO": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`,
			`FieldValueInvalid spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Invalid value: "0": must be greater than zero`,
			`FieldValueInvalid spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "web-v": must not reference a PVC that gets created for an ephemeral volume`,
		}},
		{"image", `volumes: [{name: v, image: {pullPolicy: Now}}]
` + good, []string{
			"FieldValueRequired spec.volumes[0].image.reference: Required value",
			`FieldValueNotSupported spec.volumes[0].image.pullPolicy: Unsupported value: "Now": supported values: "Always", "IfNotPresent", "Never"`,
		}},
		{"products", `
volumes:
- {name: a, nfs: {path: data}}
- {name: b, iscsi: {iqn: foo, lun: 300, targetPortal: p}}
- {name: c, rbd: {}}
- {name: d, csi: {driver: ""}}
- {name: e, flexVolume: {driver: x/y, options: {kubernetes.io/x: "1"}}}
- {name: f, azureDisk: {diskName: d, diskURI: x}}
` + good, []string{
			"FieldValueRequired spec.volumes[0].nfs.server: Required value",
			`FieldValueInvalid spec.volumes[0].nfs.path: Invalid value: "data": must be an absolute path`,
			`FieldValueInvalid spec.volumes[1].iscsi.iqn: Invalid value: "foo": must be valid format starting with iqn, eui, or naa`,
			"FieldValueInvalid spec.volumes[1].iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive",
			"FieldValueRequired spec.volumes[2].rbd.monitors: Required value",
			"FieldValueRequired spec.volumes[2].rbd.image: Required value",
			"FieldValueRequired spec.volumes[3].csi.driver: Required value",
			`FieldValueInvalid spec.volumes[4].flexVolume.options[kubernetes.io/x]: Invalid value: "kubernetes.io/x": kubernetes.io and k8s.io namespaces are reserved`,
			`FieldValueNotSupported spec.volumes[5].azureDisk.diskURI: Unsupported value: "x": supported values: "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"`,
		}},
	})
}

func TestValidateResources(t *testing.T) {
	t.Parallel()
	const c = "containers:\n- name: c\n  image: a\n  resources: "
	runWrong(t, []wrong{
		{"request above limit", c + "{requests: {cpu: 2, memory: 1Gi}, limits: {cpu: 1, memory: 1Gi}}", []string{
			`FieldValueInvalid spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`,
		}},
		{"negative", c + "{limits: {memory: -1}}", []string{
			`FieldValueInvalid spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0`,
			`FieldValueInvalid spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0`,
		}},
		{"unknown resource", c + "{requests: {gpu: 1, storage: 1}}", []string{
			`FieldValueInvalid spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified`,
			`FieldValueInvalid spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard resource for containers`,
			`FieldValueInvalid spec.containers[0].resources.requests[storage]: Invalid value: "storage": must be a standard resource for containers`,
		}},
		{"extended resource", c + "{requests: {nvidia.com/gpu: 1}}", []string{
			"FieldValueRequired spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
		}},
		{"half a device, and fewer than the limit", c + "{requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 1500m}}", []string{
			`FieldValueInvalid spec.containers[0].resources.limits[nvidia.com/gpu]: Invalid value: "1500m": must be an integer`,
			`FieldValueInvalid spec.containers[0].resources.requests: Invalid value: "1": must be equal to nvidia.com/gpu limit of 1500m`,
		}},
		{"huge pages", c + "{limits: {hugepages-2Mi: 3Mi}}", []string{
			`FieldValueInvalid spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi`,
			`FieldValueInvalid spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi`,
			"FieldValueForbidden spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
		}},
		{"claim that the pod has not", c + "{claims: [{name: gpu}]}", []string{
			`FieldValueNotFound spec.containers[0].resources.claims[0]: Not found: "gpu": must be one of the names in pod.spec.resourceClaims which is empty`,
		}},
		{"claims", `
resourceClaims: [{name: gpu}, {name: gpu, resourceClaimName: a, resourceClaimTemplateName: b}]
` + c + "{claims: [{name: gpu}, {name: gpu}]}", []string{
			"FieldValueInvalid spec.resourceClaims[0]: Invalid value: {\"Name\":\"gpu\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
			`FieldValueDuplicate spec.resourceClaims[1].name: Duplicate value: "gpu"`,
			"FieldValueInvalid spec.resourceClaims[1]: Invalid value: {\"Name\":\"gpu\",\"ResourceClaimName\":\"a\",\"ResourceClaimTemplateName\":\"b\"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
			`FieldValueDuplicate spec.containers[0].resources.claims[1]: Duplicate value: "gpu"`,
		}},
		{"pod smaller than its containers", "resources: {requests: {cpu: 100m}, limits: {cpu: 500m, ephemeral-storage: 1}}\n" + c + "{requests: {cpu: 200m}, limits: {cpu: 1}}", []string{
			`FieldValueNotSupported spec.resources.limits[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"`,
			`FieldValueInvalid spec.resources.requests[cpu]: Invalid value: "100m": must be greater than or equal to aggregate container requests of 200m`,
			`FieldValueInvalid spec.resources.containers[0][cpu].limits: Invalid value: "1": must be less than or equal to pod limits of 500m`,
		}},
		{"resize policy", "restartPolicy: Never\ncontainers: [{name: c, image: a, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}, {resourceName: cpu, restartPolicy: NotRequired}]}]", []string{
			"FieldValueInvalid spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod `restartPolicy` is 'Never'",
			`FieldValueDuplicate spec.containers[0].resizePolicy[1]: Duplicate value: "cpu"`,
		}},
	})
}

func TestValidateScheduling(t *testing.T) {
	t.Parallel()
	runWrong(t, []wrong{
		{"node affinity", `
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}
    preferredDuringSchedulingIgnoredDuringExecution:
    - {weight: 0, preference: {matchExpressions: [{key: a, operator: In}, {key: b, operator: Exists, values: [x]}, {key: "", operator: is}], matchFields: [{key: spec.x, operator: In, values: [a]}]}}
` + good, []string{
			"FieldValueRequired spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
			"FieldValueInvalid spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
			"FieldValueRequired spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
			"FieldValueForbidden spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
			`FieldValueInvalid spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[2].operator: Invalid value: "is": not a valid selector operator`,
			`FieldValueInvalid spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[2].key: Invalid value: "": name part must be non-empty`,
			`FieldValueInvalid spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[2].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
			`FieldValueInvalid spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key: Invalid value: "spec.x": not a valid field selector key`,
		}},
		{"pod affinity", `
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - {namespaces: [A], matchLabelKeys: [app], labelSelector: {matchLabels: {a: b}}}
` + good, []string{
			`FieldValueInvalid spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespace: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`,
			"FieldValueRequired spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
			`FieldValueInvalid spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty`,
			`FieldValueInvalid spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
		}},
		{"spread", `
topologySpreadConstraints:
- {maxSkew: 0, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, minDomains: 2, labelSelector: {matchLabels: {a: b}}}
- {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, matchLabelKeys: [x], nodeTaintsPolicy: Maybe}
- {maxSkew: 1, topologyKey: "", whenUnsatisfiable: Never, labelSelector: {}}
` + good, []string{
			"FieldValueInvalid spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
			`FieldValueDuplicate spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, ScheduleAnyway}"`,
			"FieldValueInvalid spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
			`FieldValueNotSupported spec.topologySpreadConstraints[1].nodeTaintsPolicy: Unsupported value: "Maybe": supported values: "Honor", "Ignore"`,
			"FieldValueForbidden spec.topologySpreadConstraints[1].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
			"FieldValueRequired spec.topologySpreadConstraints[2].topologyKey: Required value: can not be empty",
			`FieldValueNotSupported spec.topologySpreadConstraints[2].whenUnsatisfiable: Unsupported value: "Never": supported values: "DoNotSchedule", "ScheduleAnyway"`,
		}},
		{"tolerations", `
tolerations:
- {operator: Equal, value: x}
- {key: a, operator: Exists, value: x}
- {key: b, operator: Equals, effect: NoRun}
- {key: c, tolerationSeconds: 5, effect: NoSchedule}
- {key: d, operator: Gt, value: "5"}
` + good, []string{
			"FieldValueInvalid spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
			"FieldValueInvalid spec.tolerations[1].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
			`FieldValueNotSupported spec.tolerations[2].operator: Unsupported value: "Equals": supported values: "Equal", "Exists"`,
			`FieldValueNotSupported spec.tolerations[2].effect: Unsupported value: "NoRun": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
			`FieldValueInvalid spec.tolerations[3].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when ` + "`tolerationSeconds` is set",
			`FieldValueNotSupported spec.tolerations[4].operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt"`,
		}},
	})
}

func TestValidateSecurity(t *testing.T) {
	t.Parallel()
	const c = "containers:\n- name: c\n  image: a\n  securityContext: "
	runWrong(t, []wrong{
		{"ids", "securityContext: {runAsUser: -1, fsGroup: 4294967296, supplementalGroups: [-5], fsGroupChangePolicy: Never, supplementalGroupsPolicy: Maybe}\n" + good, []string{
			"FieldValueInvalid spec.securityContext.fsGroup: Invalid value: 4294967296: must be between 0 and 2147483647, inclusive",
			"FieldValueInvalid spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
			"FieldValueInvalid spec.securityContext.supplementalGroups[0]: Invalid value: -5: must be between 0 and 2147483647, inclusive",
			`FieldValueNotSupported spec.securityContext.fsGroupChangePolicy: Unsupported value: "Never": supported values: "Always", "OnRootMismatch"`,
			`FieldValueNotSupported spec.securityContext.supplementalGroupsPolicy: Unsupported value: "Maybe": supported values: "Merge", "Strict"`,
		}},
		{"sysctls", "hostNetwork: true\nsecurityContext: {sysctls: [{name: net.core.somaxconn, value: '1'}, {name: Kernel.x, value: '1'}]}\n" + good, []string{
			`FieldValueInvalid spec.securityContext.sysctls[0].name: Invalid value: "net.core.somaxconn": may not be specified when 'hostNetwork' is true`,
			`FieldValueInvalid spec.securityContext.sysctls[1].name: Invalid value: "Kernel.x": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`,
		}},
		{"privileged without privileges", c + "{privileged: true, allowPrivilegeEscalation: false}", []string{
			"FieldValueInvalid spec.containers[0].securityContext: Invalid value: {\"Capabilities\":null,\"Privileged\":true,\"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
		}},
		{"profiles", c + "{seccompProfile: {type: Localhost}, appArmorProfile: {type: runtime}, procMount: Unmasked}", []string{
			"FieldValueInvalid spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
			"FieldValueRequired spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
			`FieldValueNotSupported spec.containers[0].securityContext.appArmorProfile.type: Unsupported value: "runtime": supported values: "Localhost", "RuntimeDefault", "Unconfined"`,
		}},
		{"profile of another type", c + "{seccompProfile: {type: RuntimeDefault, localhostProfile: x}}", []string{
			`FieldValueInvalid spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: {"Type":"RuntimeDefault","LocalhostProfile":"x"}: can only be set when seccomp type is Localhost`,
		}},
	})
}

// Owners of files are dropped before they are checked, but for those of a second source.
func TestValidateOwners(t *testing.T) {
	t.Parallel()
	pod := podOf(t, `
serviceAccountName: me
volumes:
- {name: s, secret: {secretName: s, defaultUser: -1, items: [{key: k, path: p, user: -1}]}}
- {name: c, configMap: {name: c, defaultUser: -1, items: [{key: k, path: p, user: -1}]}}
- {name: d, downwardAPI: {defaultUser: -1, items: [{path: p, user: -1, fieldRef: {fieldPath: metadata.name}}]}}
- name: p
  projected:
    defaultUser: -1
    sources:
    - {serviceAccountToken: {path: a, user: -1, expirationSeconds: 3600}}
    - {clusterTrustBundle: {path: b, user: -1, name: one}}
    - {podCertificate: {signerName: a.b/c, keyType: ED25519, keyPath: c, user: -1}}
`+good)
	var want []string
	for _, at := range []string{
		"[0].secret.defaultUser", "[0].secret.items[0].user", "[1].configMap.defaultUser", "[1].configMap.items[0].user",
		"[2].downwardAPI.defaultUser", "[2].downwardAPI.user", "[3].projected.defaultUser", "[3].projected.sources[0].serviceAccountToken.user",
		"[3].projected.sources[1].clusterTrustBundle.user", "[3].projected.sources[2].podCertificate.user",
	} {
		want = append(want, "FieldValueInvalid spec.volumes"+at+": Invalid value: -1: must be between 0 and 2147483647, inclusive")
	}
	compare(t, causes(ValidatePod(pod)), want)
}
