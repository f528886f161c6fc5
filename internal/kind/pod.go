package kind

import (
	"fmt"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sampan-batch/sampan/internal/kind/podspec"
)

// Pod is the row of v1 pods.
func Pod() *Kind { return podOf(nil) }

// podOf is the row of v1 pods of a cluster whose namespaces get such a default account; nil is one whose
// token is not mounted.
func podOf(fresh *corev1.ServiceAccount) *Kind {
	return &Kind{
		Names: Names{
			Resource:   Pods,
			Singular:   "pod",
			ShortNames: []string{"po"},
			Categories: []string{"all"},
			Namespaced: true,
			GVK:        corev1.SchemeGroupVersion.WithKind("Pod"),
		},
		Types: Types{
			New:         func() Object { return &corev1.Pod{} },
			NewList:     func() runtime.Object { return &corev1.PodList{} },
			Default:     changes(podspec.DefaultPod),
			AddToScheme: addPodSubresources,
		},
		Create: Create{
			Admit:    func(obj Object, others Getter) error { return admitPod(obj.(*corev1.Pod), others, fresh) },
			Prepare:  changes(podspec.Prepare),
			Validate: checks(validatePod),
			Limit: func(obj Object, others Getter) error {
				if err := withinLimits(obj, others); err != nil {
					return err
				}
				return withinSecurity(obj, others)
			},
			FromTemplate: true,
		},
		Update: Update{
			Admit:    updates(admitPodUpdate),
			Prepare:  updates(podspec.PrepareUpdate),
			Validate: checksUpdate(validatePodUpdate),
			Limit:    staysWithinSecurity,
		},
		Status:       &Update{Prepare: updates(podspec.PrepareStatus), Validate: checksUpdate(validatePodStatus)},
		Parts:        podParts(),
		Subresources: []Subresource{Log, Exec, Attach, PortForward, Proxy, Binding, Eviction},
		Warn:         warns(warnPod),
		Select: Select{
			Fields:  selects(podFields),
			Aliases: map[string]string{"spec.host": "spec.nodeName"}, // what the field was called before v1
			Index:   func(obj Object) []string { return podTerms(obj.(*corev1.Pod)) },
		},
		Table: Printer{Columns: podColumns(), Cells: prints(podCells)},
		Deletion: Deletion{
			Grace:         func(obj Object, asked *int64) int64 { return podGrace(obj.(*corev1.Pod), asked) },
			ReturnsObject: true,
		},
		Dependents: Dependents{
			None:    true,
			Tracked: &Tracked{Finalizer: batchv1.JobTrackingFinalizer, By: batchv1.SchemeGroupVersion.WithKind("Job")},
		},
	}
}

func validatePod(pod *corev1.Pod) field.ErrorList {
	errs := validateMeta(&pod.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)
	return append(errs, podspec.ValidatePod(pod)...)
}

func validatePodUpdate(pod, old *corev1.Pod) field.ErrorList {
	errs := validateMetaUpdate(&pod.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateMeta(&pod.ObjectMeta, true, apivalidation.NameIsDNSSubdomain)...)
	return append(errs, podspec.ValidatePodUpdate(pod, old)...)
}

func validatePodStatus(pod, old *corev1.Pod) field.ErrorList {
	errs := validateMetaUpdate(&pod.ObjectMeta, &old.ObjectMeta)
	return append(errs, podspec.ValidatePodStatus(pod, old)...)
}

// warnPod has nothing to say of updates: people seldom write them.
func warnPod(pod, old *corev1.Pod) []string {
	if old != nil {
		return nil
	}
	var warnings []string
	if msgs := validation.IsDNS1123Label(pod.Name); len(msgs) > 0 {
		warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result "+
			"in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(warnings, podspec.Warnings(pod)...)
}

// podFields: status.podIPs can be asked for, but Kubernetes never fills it in.
func podFields(pod *corev1.Pod) fields.Set {
	ip := ""
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            pod.Spec.NodeName,
		"spec.restartPolicy":       string(pod.Spec.RestartPolicy),
		"spec.schedulerName":       pod.Spec.SchedulerName,
		"spec.serviceAccountName":  pod.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(pod.Spec.HostNetwork),
		"status.phase":             string(pod.Status.Phase),
		"status.podIP":             ip,
		"status.podIPs":            "",
		"status.nominatedNodeName": pod.Status.NominatedNodeName,
	}
}

// PodCondition returns the pod's condition of this type, whatever its status; nil
// if there is none.
func PodCondition(pod *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// Sidecar reports whether the init container of this name restarts and lives
// beside the others.
func Sidecar(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == name {
			return podspec.IsSidecar(c)
		}
	}
	return false
}

// CompletionIndex is the index that a pod of an Indexed Job works on.
func CompletionIndex(pod *corev1.Pod) (index int, indexed bool) {
	i, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	return i, err == nil && i >= 0
}

// PodEnded reports whether all containers of the pod are over, for good.
func PodEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// podGrace gives a running pod the time that was asked for, else its own. A
// pod that no node has, or that has ended, needs none.
func podGrace(pod *corev1.Pod, asked *int64) int64 {
	grace := asked
	if grace == nil {
		grace = pod.Spec.TerminationGracePeriodSeconds
	}
	switch {
	case pod.Spec.NodeName == "" || PodEnded(pod) || grace == nil:
		return 0
	case *grace < 0:
		return 1
	}
	return *grace
}

// podColumns are the columns of `kubectl get pods`.
func podColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("Ready", "string", "The aggregate readiness state of this pod for accepting traffic."),
		column("Status", "string", "The aggregate status of the containers in this pod."),
		column("Restarts", "string", "The number of times the containers in this pod have been restarted "+
			"and when the last container in this pod has restarted."),
		ageColumn(),
		wideColumn("IP", "string", corev1.PodStatus{}.SwaggerDoc()["podIP"]),
		wideColumn("Node", "string", corev1.PodSpec{}.SwaggerDoc()["nodeName"]),
		wideColumn("Nominated Node", "string", corev1.PodStatus{}.SwaggerDoc()["nominatedNodeName"]),
		wideColumn("Readiness Gates", "string", corev1.PodSpec{}.SwaggerDoc()["readinessGates"]),
	}
}
