package kind

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

// The tables of rows whose rules are Kubernetes' own are written out: its printers bring
// the types of all groups. kubediff holds them to these printers.

// tabled gives the row its table: the name, columns and the cells for them.
func tabled[T Object](k *Kind, columns []metav1.TableColumnDefinition, cells func(obj T, now time.Time) []any) *Kind {
	k.Table = Printer{
		Columns: append([]metav1.TableColumnDefinition{nameColumn()}, columns...),
		Cells: func(obj Object, now time.Time) []any {
			return append([]any{obj.GetName()}, cells(obj.(T), now)...)
		},
	}
	return k
}

// containerColumns are shown of what has a pod template by -o wide only.
func containerColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		wideColumn("Containers", "string", "Names of each container in the template."),
		wideColumn("Images", "string", "Images referenced by each container in the template."),
	}
}

func deploymentTable(k *Kind) *Kind {
	status, spec := appsv1.DeploymentStatus{}.SwaggerDoc(), appsv1.DeploymentSpec{}.SwaggerDoc()
	columns := append([]metav1.TableColumnDefinition{
		column("Ready", "string", "Number of the pod with ready state"), column("Up-to-date", "string", status["updatedReplicas"]),
		column("Available", "string", status["availableReplicas"]), ageColumn(),
	}, append(containerColumns(), wideColumn("Selector", "string", spec["selector"]))...)
	return tabled(k, columns, func(d *appsv1.Deployment, now time.Time) []any {
		selector := "<invalid>"
		if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil {
			selector = s.String()
		}
		names, images := containerCells(d.Spec.Template.Spec.Containers)
		return []any{fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, ptr.Deref(d.Spec.Replicas, 0)), int64(d.Status.UpdatedReplicas),
			int64(d.Status.AvailableReplicas), age(d.CreationTimestamp, now), names, images, selector}
	})
}

// replicaColumns are those of what keeps a number of pods.
func replicaColumns(spec, status map[string]string) []metav1.TableColumnDefinition {
	return append([]metav1.TableColumnDefinition{
		column("Desired", "integer", spec["replicas"]), column("Current", "integer", status["replicas"]),
		column("Ready", "integer", status["readyReplicas"]), ageColumn(),
	}, append(containerColumns(), wideColumn("Selector", "string", spec["selector"]))...)
}

func replicaSetTable(k *Kind) *Kind {
	columns := replicaColumns(appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc())
	return tabled(k, columns, func(s *appsv1.ReplicaSet, now time.Time) []any {
		names, images := containerCells(s.Spec.Template.Spec.Containers)
		return []any{int64(ptr.Deref(s.Spec.Replicas, 0)), int64(s.Status.Replicas), int64(s.Status.ReadyReplicas),
			age(s.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(s.Spec.Selector)}
	})
}

func replicationControllerTable(k *Kind) *Kind {
	columns := replicaColumns(corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc())
	return tabled(k, columns, func(c *corev1.ReplicationController, now time.Time) []any {
		var containers []corev1.Container
		if c.Spec.Template != nil {
			containers = c.Spec.Template.Spec.Containers
		}
		names, images := containerCells(containers)
		return []any{int64(ptr.Deref(c.Spec.Replicas, 0)), int64(c.Status.Replicas), int64(c.Status.ReadyReplicas),
			age(c.CreationTimestamp, now), names, images, labels.FormatLabels(c.Spec.Selector)}
	})
}

func statefulSetTable(k *Kind) *Kind {
	columns := append([]metav1.TableColumnDefinition{column("Ready", "string", "Number of the pod with ready state"), ageColumn()}, containerColumns()...)
	return tabled(k, columns, func(s *appsv1.StatefulSet, now time.Time) []any {
		names, images := containerCells(s.Spec.Template.Spec.Containers)
		return []any{fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, ptr.Deref(s.Spec.Replicas, 0)), age(s.CreationTimestamp, now), names, images}
	})
}

func daemonSetTable(k *Kind) *Kind {
	status := appsv1.DaemonSetStatus{}.SwaggerDoc()
	columns := append([]metav1.TableColumnDefinition{
		column("Desired", "integer", status["desiredNumberScheduled"]), column("Current", "integer", status["currentNumberScheduled"]),
		column("Ready", "integer", status["numberReady"]), column("Up-to-date", "integer", status["updatedNumberScheduled"]),
		column("Available", "integer", status["numberAvailable"]), column("Node Selector", "string", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]), ageColumn(),
	}, append(containerColumns(), wideColumn("Selector", "string", appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"]))...)
	return tabled(k, columns, func(s *appsv1.DaemonSet, now time.Time) []any {
		names, images := containerCells(s.Spec.Template.Spec.Containers)
		st := &s.Status
		return []any{int64(st.DesiredNumberScheduled), int64(st.CurrentNumberScheduled), int64(st.NumberReady), int64(st.UpdatedNumberScheduled),
			int64(st.NumberAvailable), labels.FormatLabels(s.Spec.Template.Spec.NodeSelector), age(s.CreationTimestamp, now),
			names, images, metav1.FormatLabelSelector(s.Spec.Selector)}
	})
}

func controllerRevisionTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{
		column("Controller", "string", "Controller of the object"),
		column("Revision", "string", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]), ageColumn(),
	}
	return tabled(k, columns, func(r *appsv1.ControllerRevision, now time.Time) []any {
		controller := "<none>"
		if ref := metav1.GetControllerOfNoCopy(r); ref != nil {
			controller = ref.Name
			if gk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind(); !gk.Empty() {
				controller = strings.ToLower(gk.String()) + "/" + ref.Name
			}
		}
		return []any{controller, r.Revision, age(r.CreationTimestamp, now)}
	})
}

func podTemplateTable(k *Kind) *Kind {
	columns := []metav1.TableColumnDefinition{
		column("Containers", "string", "Names of each container in the template."),
		column("Images", "string", "Images referenced by each container in the template."),
		column("Pod Labels", "string", "The labels for the pod template."),
	}
	return tabled(k, columns, func(t *corev1.PodTemplate, _ time.Time) []any {
		names, images := containerCells(t.Template.Spec.Containers)
		return []any{names, images, labels.FormatLabels(t.Template.Labels)}
	})
}
