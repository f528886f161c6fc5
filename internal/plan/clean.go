package plan

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
)

// clean takes off an object what an API has put on it, so that what `kubectl get -o json`
// printed can be run again. Owners stay where they are.
func clean(obj kind.Object) {
	served := obj.GetResourceVersion() != "" || obj.GetUID() != ""
	if served {
		obj.SetFinalizers(nil)
	}
	obj.SetUID("")
	obj.SetResourceVersion("")
	obj.SetGeneration(0)
	obj.SetSelfLink("")
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetManagedFields(nil)
	obj.SetOwnerReferences(nil)
	if notes := obj.GetAnnotations(); notes != nil {
		delete(notes, corev1.LastAppliedConfigAnnotation)
		delete(notes, "batch.kubernetes.io/job-tracking")
		delete(notes, kind.DeploymentRevision)
		obj.SetAnnotations(notes)
	}
	switch obj := obj.(type) {
	case *batchv1.Job:
		cleanJob(obj)
	case *batchv1.CronJob:
		obj.Status = batchv1.CronJobStatus{}
	case *corev1.Pod:
		cleanPod(obj)
	case *corev1.Namespace:
		obj.Spec, obj.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	case *corev1.ServiceAccount:
		obj.Secrets = nil
	case *corev1.Service:
		obj.Status = corev1.ServiceStatus{}
		if served {
			cleanService(obj)
		}
	case *appsv1.Deployment:
		obj.Status = appsv1.DeploymentStatus{}
	case *appsv1.StatefulSet:
		obj.Status = appsv1.StatefulSetStatus{}
	case *appsv1.DaemonSet:
		obj.Status = appsv1.DaemonSetStatus{}
	case *appsv1.ReplicaSet:
		obj.Status = appsv1.ReplicaSetStatus{}
	case *corev1.ReplicationController:
		obj.Status = corev1.ReplicationControllerStatus{}
	}
}

// cleanService takes off the addresses and ports that another cluster has given a Service.
func cleanService(s *corev1.Service) {
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
	}
	s.Spec.IPFamilies, s.Spec.IPFamilyPolicy, s.Spec.HealthCheckNodePort = nil, nil, 0
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].NodePort = 0
	}
}

// cleanJob takes off the labels and the selector that tell the pods of one Job from
// another's; the API makes new ones.
func cleanJob(j *batchv1.Job) {
	j.Status = batchv1.JobStatus{}
	if ptr.Deref(j.Spec.ManualSelector, false) || j.Spec.Selector == nil {
		return
	}
	generated := false
	for key := range j.Spec.Selector.MatchLabels {
		generated = generated || key == batchv1.ControllerUidLabel || key == "controller-uid"
	}
	if !generated {
		return // somebody's own, which the API refuses
	}
	j.Spec.Selector, j.Spec.ManualSelector = nil, nil
	for _, key := range []string{batchv1.ControllerUidLabel, batchv1.JobNameLabel, "controller-uid", "job-name"} {
		delete(j.Labels, key)
		delete(j.Spec.Template.Labels, key)
	}
}

// cleanPod takes a pod off the node where it ran, and off the identity that it had there.
func cleanPod(pod *corev1.Pod) {
	ran := pod.Status.Phase != "" || pod.Status.StartTime != nil
	pod.Status = corev1.PodStatus{}
	if !ran {
		return
	}
	spec := &pod.Spec
	spec.NodeName, spec.Priority, spec.PreemptionPolicy = "", nil, nil
	const token = "kube-api-access-"
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool { return strings.HasPrefix(v.Name, token) })
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			list[i].VolumeMounts = slices.DeleteFunc(list[i].VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, token) })
		}
	}
}
