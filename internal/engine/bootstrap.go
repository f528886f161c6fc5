package engine

import (
	"context"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
	"github.com/sampan-batch/sampan/internal/sweep"
)

// systemNamespaces exist in every Kubernetes cluster.
var systemNamespaces = [...]string{
	metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease,
}

// storageClasses are the classes of claims that get a directory of this machine: the default one,
// as kind and minikube have it, and the one that k3s has.
func storageClasses() []*storagev1.StorageClass {
	var all []*storagev1.StorageClass
	for _, name := range []string{"standard", "local-path"} {
		all = append(all, &storagev1.StorageClass{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: kind.LocalPath,
			ReclaimPolicy:        ptr.To(corev1.PersistentVolumeReclaimDelete),
			VolumeBindingMode:    ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
			AllowVolumeExpansion: ptr.To(true),
		})
	}
	all[0].Annotations = map[string]string{kind.DefaultClassAnnotation: "true"}
	return all
}

// serviceCIDR are the ranges of addresses that Services have, as a cluster tells them.
func serviceCIDR(now metav1.Time, ranges []string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: ranges},
		Status: networkingv1.ServiceCIDRStatus{Conditions: []metav1.Condition{{
			Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: now,
			Message: "Kubernetes default Service CIDR is ready",
		}}},
	}
}

// bootstrap creates the namespaces that clients expect to find, as plan furnishes them, so
// that the first pod need not wait for that, and, unless the engine is private, the classes
// of pods and claims, the range of Services, the default roles and what trust is, by which servers of aggregated APIs
// know this one: nobody but its maker can reach that one.
func bootstrap(ctx context.Context, s *store.Store, kinds *kind.Kinds, plan sweep.Plan, trust *corev1.ConfigMap, services []string) error {
	view := s.View()
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	var set change.Set
	create := func(resource change.Resource, obj change.Object) {
		k := kinds.ByResource(resource)
		key := k.KeyOf(obj)
		if stored, ok := view.Get(key); ok {
			if next := completed(stored, obj); next != nil {
				set.Update(key, change.RevOf(stored), next)
			}
			return
		}
		obj.SetUID(types.UID(uuid.NewString()))
		obj.SetCreationTimestamp(now)
		if k.Create.Prepare != nil && !k.Rare { // what Kubernetes' code would do is done
			k.Create.Prepare(obj)
		}
		set.Create(key, obj)
	}
	for _, name := range systemNamespaces {
		create(kind.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{corev1.LabelMetadataName: name},
		}})
		create(kind.ServiceAccounts, plan.Account(name))
		create(kind.ConfigMaps, plan.CA(name))
	}
	if trust != nil {
		create(kind.ConfigMaps, trust)
		for _, class := range kind.SystemPriorityClasses() {
			create(kind.PriorityClasses, class)
		}
		for _, name := range kind.RuntimeClassNames() {
			create(kind.RuntimeClasses, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: name})
		}
		for _, class := range storageClasses() {
			create(kind.StorageClasses, class)
		}
		create(kind.ServiceCIDRs, serviceCIDR(now, services))
		for resource, objects := range defaultRoles() {
			for _, obj := range objects {
				create(resource, obj)
			}
		}
	}
	if len(set.Writes) == 0 {
		return nil
	}
	_, err := s.Apply(ctx, set)
	return err
}
