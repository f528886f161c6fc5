package upstream

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	admissionregistrationv1 "k8s.io/kubernetes/pkg/apis/admissionregistration/v1"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsv1 "k8s.io/kubernetes/pkg/apis/apps/v1"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	autoscalingv1 "k8s.io/kubernetes/pkg/apis/autoscaling/v1"
	autoscalingv2 "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/apis/certificates"
	certificatesv1 "k8s.io/kubernetes/pkg/apis/certificates/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryv1 "k8s.io/kubernetes/pkg/apis/discovery/v1"
	"k8s.io/kubernetes/pkg/apis/flowcontrol"
	flowcontrolv1 "k8s.io/kubernetes/pkg/apis/flowcontrol/v1"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingv1 "k8s.io/kubernetes/pkg/apis/networking/v1"
	"k8s.io/kubernetes/pkg/apis/node"
	nodev1 "k8s.io/kubernetes/pkg/apis/node/v1"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyv1 "k8s.io/kubernetes/pkg/apis/policy/v1"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacv1 "k8s.io/kubernetes/pkg/apis/rbac/v1"
	"k8s.io/kubernetes/pkg/apis/resource"
	resourcev1 "k8s.io/kubernetes/pkg/apis/resource/v1"
	"k8s.io/kubernetes/pkg/apis/scheduling"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	"k8s.io/kubernetes/pkg/apis/storage"
	storagev1 "k8s.io/kubernetes/pkg/apis/storage/v1"
	"k8s.io/kubernetes/pkg/apis/storagemigration"
	storagemigrationv1 "k8s.io/kubernetes/pkg/apis/storagemigration/v1"
	"k8s.io/kubernetes/pkg/capabilities"
)

// groups add the types of an API group to a scheme: the internal ones, and those of
// the versions that are served. A group that gets its first row here gets its line.
var groups = []func(*runtime.Scheme) error{
	core.AddToScheme, corev1.AddToScheme,
	admissionregistration.AddToScheme, admissionregistrationv1.AddToScheme,
	apiregistration.AddToScheme, apiregistrationv1.AddToScheme,
	apps.AddToScheme, appsv1.AddToScheme,
	autoscaling.AddToScheme, autoscalingv1.AddToScheme, autoscalingv2.AddToScheme,
	certificates.AddToScheme, certificatesv1.AddToScheme,
	discovery.AddToScheme, discoveryv1.AddToScheme,
	flowcontrol.AddToScheme, flowcontrolv1.AddToScheme,
	networking.AddToScheme, networkingv1.AddToScheme,
	node.AddToScheme, nodev1.AddToScheme,
	policy.AddToScheme, policyv1.AddToScheme,
	rbac.AddToScheme, rbacv1.AddToScheme,
	resource.AddToScheme, resourcev1.AddToScheme,
	scheduling.AddToScheme, schedulingv1.AddToScheme,
	storage.AddToScheme, storagev1.AddToScheme,
	storagemigration.AddToScheme, storagemigrationv1.AddToScheme,
}

// scheme returns the scheme that the strategies validate by, which is one for the whole
// program: nobody else adds to it, unless a test does before.
var scheme = sync.OnceValue(func() *runtime.Scheme {
	capabilities.Setup(true, 0) // privileged pods are allowed, as by kubeadm
	for _, add := range groups {
		if err := add(legacyscheme.Scheme); err != nil {
			panic("upstream: " + err.Error()) // an error in this table
		}
	}
	return legacyscheme.Scheme
})

// Recognizes reports whether Kubernetes' code is here for objects of gvk.
func Recognizes(gvk schema.GroupVersionKind) bool { return scheme().Recognizes(gvk) }
