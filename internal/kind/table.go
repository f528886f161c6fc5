package kind

import "slices"

// Table returns every resource that Sampan serves, one row each. The rows are
// new at each call, and independent of each other.
func Table() []*Kind {
	return slices.Concat([]*Kind{
		Namespace(),
		Node(),
		ConfigMap(),
		Secret(),
		ServiceAccount(),
		Pod(),
		Event(),
		Lease(),
		Job(),
		CronJob(),
		Role(),
		RoleBinding(),
		ClusterRole(),
		ClusterRoleBinding(),
		Service(),
		Endpoints(),
		EndpointSlice(),
		PersistentVolume(),
		PersistentVolumeClaim(),
		ResourceQuota(),
		LimitRange(),
		ReplicationController(),
		Deployment(),
		ReplicaSet(),
		StatefulSet(),
		DaemonSet(),
		ControllerRevision(),
		PodTemplate(),
		Ingress(),
		IngressClass(),
		NetworkPolicy(),
		IPAddress(),
		ServiceCIDR(),
		StorageClass(),
		VolumeAttributesClass(),
		VolumeAttachment(),
		CSIDriver(),
		CSINode(),
		CSIStorageCapacity(),
		HorizontalPodAutoscaler(),
		PodDisruptionBudget(),
		PriorityClass(),
		RuntimeClass(),
	}, devices(), []*Kind{
		FlowSchema(),
		PriorityLevelConfiguration(),
	}, machinery())
}

// machinery are the rows of what the API itself goes by, and of who is known to it.
func machinery() []*Kind {
	return []*Kind{
		CertificateSigningRequest(),
		ClusterTrustBundle(),
		PodCertificateRequest(),
		StorageVersionMigration(),
		CustomResourceDefinition(),
		MutatingWebhookConfiguration(),
		ValidatingWebhookConfiguration(),
		MutatingAdmissionPolicy(),
		MutatingAdmissionPolicyBinding(),
		ValidatingAdmissionPolicy(),
		ValidatingAdmissionPolicyBinding(),
		APIService(),
	}
}
