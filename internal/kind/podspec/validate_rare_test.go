package podspec

import "testing"

func TestValidateRare(t *testing.T) {
	t.Parallel()
	runWrong(t, []wrong{
		{"linux fields on windows", `
os: {name: windows}
hostPID: true
hostIPC: true
hostUsers: false
shareProcessNamespace: true
securityContext: {runAsUser: 1, fsGroup: 1, seLinuxOptions: {level: a}, seccompProfile: {type: RuntimeDefault}, supplementalGroups: [1], sysctls: [{name: a, value: b}]}
containers: [{name: c, image: a, securityContext: {privileged: true, capabilities: {add: [A]}, procMount: Default, readOnlyRootFilesystem: true}}]
`, []string{
			"FieldValueInvalid spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
			"FieldValueForbidden spec.HostPID: Forbidden: when `hostUsers` is false",
			"FieldValueForbidden spec.HostIPC: Forbidden: when `hostUsers` is false",
			"FieldValueForbidden spec.securityContext.seLinuxOptions: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.securityContext.seccompProfile: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.securityContext.sysctls: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.securityContext.supplementalGroups: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.hostUsers: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.hostPID: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.hostIPC: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.shareProcessNamespace: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.containers[0].securityContext.capabilities: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.containers[0].securityContext.readOnlyRootFilesystem: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
			"FieldValueForbidden spec.containers[0].securityContext.procMount: Forbidden: cannot be set for a windows pod",
		}},
		{"windows fields on linux", `
os: {name: linux}
securityContext: {windowsOptions: {runAsUserName: a}}
containers: [{name: c, image: a, securityContext: {windowsOptions: {hostProcess: false}}}]
`, []string{
			"FieldValueForbidden spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
			"FieldValueForbidden spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
		}},
		{"node fields", `
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
      - matchFields: [{key: metadata.name, operator: In, values: [a, b]}, {key: spec.x, operator: Exists}, {key: metadata.name, operator: NotIn, values: ["a b"]}]
` + good, []string{
			"FieldValueRequired spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
			`FieldValueInvalid spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[1].operator: Invalid value: "Exists": not a valid selector operator`,
			`FieldValueInvalid spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[1].key: Invalid value: "spec.x": not a valid field selector key`,
			`FieldValueInvalid spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[2].values[0]: Invalid value: "a b": ` + subdomain,
		}},
		{"csi", `
volumes: [{name: a, csi: {driver: "a b"}}, {name: b, csi: {driver: "", nodePublishSecretRef: {}}}]
` + good, []string{
			`FieldValueInvalid spec.volumes[0].csi.driver: Invalid value: "a b": ` + subdomain,
			"FieldValueRequired spec.volumes[1].csi.driver: Required value",
			"FieldValueRequired spec.volumes[1].csi.nodePublishSecretRef.name: Required value",
		}},
		{"iscsi", `
volumes: [{name: a, iscsi: {targetPortal: p, iqn: "x", lun: 300}}, {name: b, iscsi: {targetPortal: "", iqn: "iqn.2001-04.com.example:a b", chapAuthSession: true, initiatorName: ""}}]
` + good, []string{
			`FieldValueInvalid spec.volumes[0].iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa`,
			"FieldValueInvalid spec.volumes[0].iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive",
			"FieldValueRequired spec.volumes[1].iscsi.targetPortal: Required value",
			`FieldValueInvalid spec.volumes[1].iscsi.iqn: Invalid value: "iqn.2001-04.com.example:a b": must be valid format`,
			"FieldValueRequired spec.volumes[1].iscsi.secretRef: Required value",
			`FieldValueInvalid spec.volumes[1].iscsi.initiatorname: Invalid value: "": must be valid format starting with iqn, eui, or naa`,
		}},
		{"trust bundles", `
volumes:
- name: a
  projected:
    sources:
    - clusterTrustBundle: {path: p}
    - clusterTrustBundle: {path: "../p", name: a, signerName: b}
    - clusterTrustBundle: {path: q, name: a, labelSelector: {}}
    - clusterTrustBundle: {path: r, signerName: "a b"}
` + good, []string{
			"FieldValueRequired spec.volumes[0].projected.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified",
			`FieldValueInvalid spec.volumes[0].projected.sources[1].clusterTrustBundle: Invalid value: {"Name":"a","SignerName":"b","LabelSelector":null,"Optional":null,"Path":"../p","User":null}: only one of name and signerName may be used`,
			`FieldValueInvalid spec.volumes[0].projected.sources[1].clusterTrustBundle.path: Invalid value: "../p": must not contain '..'`,
			"FieldValueInvalid spec.volumes[0].projected.sources[2].clusterTrustBundle.labelSelector: Invalid value: {}: labelSelector must be unset if name is specified",
			`FieldValueInvalid spec.volumes[0].projected.sources[3].clusterTrustBundle.signerName: Invalid value: "a b": must be a fully qualified domain and path of the form 'example.com/signer-name'`,
		}},
		{"claim templates", `
volumes:
- name: a
  ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce, ReadWriteOncePod, Any], resources: {requests: {storage: 0}}, dataSource: {kind: Pod, name: ""}, dataSourceRef: {apiGroup: "", kind: PersistentVolumeClaim, name: x}}}}
- name: b
  ephemeral: {volumeClaimTemplate: {metadata: {name: x}, spec: {}}}
` + good, []string{
			`FieldValueNotSupported spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Unsupported value: "Any": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`,
			"FieldValueForbidden spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
			`FieldValueInvalid spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Invalid value: "0": must be greater than zero`,
			"FieldValueRequired spec.volumes[0].ephemeral.volumeClaimTemplate.spec.dataSource.name: Required value",
			`FieldValueInvalid spec.volumes[0].ephemeral.volumeClaimTemplate.spec.dataSource: Invalid value: "Pod": must be 'PersistentVolumeClaim' when referencing the default apiGroup`,
			"FieldValueInvalid spec.volumes[0].ephemeral.volumeClaimTemplate.spec: Invalid value: {}: must match dataSourceRef",
			"FieldValueForbidden spec.volumes[1].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
			"FieldValueRequired spec.volumes[1].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
			"FieldValueRequired spec.volumes[1].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
		}},
		{"more products", `
volumes:
- {name: a, flocker: {}}
- {name: b, azureDisk: {diskName: a, diskURI: u, kind: Managed, cachingMode: Some}}
- {name: c, storageos: {volumeName: "A B", volumeNamespace: "A B"}}
- {name: d, nfs: {path: a}}
- {name: e, hostPath: {path: "/a/../b", type: Fifo}}
- {name: f, gitRepo: {repository: ""}}
` + good, []string{
			"FieldValueRequired spec.volumes[0].flocker: Required value: one of datasetName and datasetUUID is required",
			`FieldValueNotSupported spec.volumes[1].azureDisk.cachingMode: Unsupported value: "Some": supported values: "None", "ReadOnly", "ReadWrite"`,
			`FieldValueNotSupported spec.volumes[1].azureDisk.diskURI: Unsupported value: "u": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"`,
			`FieldValueInvalid spec.volumes[2].storageos.volumeName: Invalid value: "A B": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`,
			`FieldValueInvalid spec.volumes[2].storageos.volumeNamespace: Invalid value: "A B": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`,
			"FieldValueRequired spec.volumes[3].nfs.server: Required value",
			`FieldValueInvalid spec.volumes[3].nfs.path: Invalid value: "a": must be an absolute path`,
			`FieldValueInvalid spec.volumes[4].hostPath.path: Invalid value: "/a/../b": must not contain '..'`,
			`FieldValueNotSupported spec.volumes[4].hostPath.type: Unsupported value: "Fifo": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"`,
			"FieldValueRequired spec.volumes[5].gitRepo.repository: Required value",
		}},
		{"sysctls", `
securityContext: {sysctls: [{name: a b, value: c}, {name: kernel.shmmax, value: a}, {name: kernel.shmmax, value: b}, {name: "", value: b}], fsGroupChangePolicy: Never, supplementalGroupsPolicy: Some, runAsUser: -1}
` + good, []string{
			"FieldValueInvalid spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
			`FieldValueInvalid spec.securityContext.sysctls[0].name: Invalid value: "a b": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`,
			`FieldValueDuplicate spec.securityContext.sysctls[2].name: Duplicate value: "kernel.shmmax"`,
			"FieldValueRequired spec.securityContext.sysctls[3].name: Required value",
			`FieldValueNotSupported spec.securityContext.fsGroupChangePolicy: Unsupported value: "Never": supported values: "Always", "OnRootMismatch"`,
			`FieldValueNotSupported spec.securityContext.supplementalGroupsPolicy: Unsupported value: "Some": supported values: "Merge", "Strict"`,
		}},
		{"apparmor and seccomp", `
securityContext: {appArmorProfile: {type: Localhost}, seccompProfile: {type: Localhost}}
containers: [{name: c, image: a, securityContext: {appArmorProfile: {type: Localhost, localhostProfile: " a "}, seccompProfile: {type: Unconfined, localhostProfile: a}}}]
`, []string{
			`FieldValueInvalid spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: {"Type":"Unconfined","LocalhostProfile":"a"}: can only be set when seccomp type is Localhost`,
			`FieldValueInvalid spec.containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: " a ": must not be padded with whitespace`,
			"FieldValueRequired spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
			"FieldValueRequired spec.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost",
		}},
		{"token", `
volumes: [{name: a, projected: {sources: [{serviceAccountToken: {expirationSeconds: 10, path: "/a"}}, {serviceAccountToken: {expirationSeconds: 9000000000}}]}}]
` + good, []string{
			"FieldValueInvalid spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes",
			`FieldValueInvalid spec.volumes[0].projected.path: Invalid value: "/a": must be a relative path`,
			"FieldValueInvalid spec.volumes[0].projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 9000000000: may not specify a duration larger than 2^32 seconds",
			"FieldValueRequired spec.volumes[0].projected.path: Required value",
			"FieldValueForbidden spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
			"FieldValueForbidden spec.volumes[0].projected.sources[1].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
		}},
		{"two sources", "volumes: [{name: a, emptyDir: {}, secret: {secretName: s}}]\n" + good, []string{
			"FieldValueForbidden spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
		}},
	})
}
