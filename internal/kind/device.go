package kind

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/kubernetes/pkg/registry/resource/deviceclass"
	"k8s.io/kubernetes/pkg/registry/resource/devicetaintrule"
	"k8s.io/kubernetes/pkg/registry/resource/resourceslice"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind/upstream"
)

const noDevices = "no devices are given to pods"

// devices returns the rows of resource.k8s.io.
func devices() []*Kind {
	return []*Kind{DeviceClass(), DeviceTaintRule(), ResourceClaim(), ResourceClaimTemplate(), ResourceSlice()}
}

// DeviceClass is the row of resource.k8s.io/v1 deviceclasses.
func DeviceClass() *Kind {
	return agedTable(kubernetes[resourcev1.DeviceClass, resourcev1.DeviceClassList](Names{
		Resource: DeviceClasses, Singular: "deviceclass",
		GVK: resourcev1.SchemeGroupVersion.WithKind("DeviceClass"),
	}, deviceclass.Strategy, nil).answersObject().withoutEffect(noDevices))
}

// DeviceTaintRule is the row of resource.k8s.io/v1 devicetaintrules.
func DeviceTaintRule() *Kind {
	return deviceTaintRuleTable(kubernetes[resourcev1.DeviceTaintRule, resourcev1.DeviceTaintRuleList](Names{
		Resource: DeviceTaintRules, Singular: "devicetaintrule",
		GVK: resourcev1.SchemeGroupVersion.WithKind("DeviceTaintRule"),
	}, devicetaintrule.Strategy, devicetaintrule.StatusStrategy).withoutEffect(noDevices))
}

// ResourceClaim is the row of resource.k8s.io/v1 resourceclaims.
func ResourceClaim() *Kind {
	write, status := upstream.ResourceClaim()
	return resourceClaimTable(kubernetes[resourcev1.ResourceClaim, resourcev1.ResourceClaimList](Names{
		Resource: ResourceClaims, Singular: "resourceclaim",
		GVK: resourcev1.SchemeGroupVersion.WithKind("ResourceClaim"),
	}, write, status).answersObject().withoutEffect(noDevices))
}

// ResourceClaimTemplate is the row of resource.k8s.io/v1 resourceclaimtemplates.
func ResourceClaimTemplate() *Kind {
	return agedTable(kubernetes[resourcev1.ResourceClaimTemplate, resourcev1.ResourceClaimTemplateList](Names{
		Resource: ResourceClaimTemplates, Singular: "resourceclaimtemplate",
		GVK: resourcev1.SchemeGroupVersion.WithKind("ResourceClaimTemplate"),
	}, upstream.ResourceClaimTemplate(), nil).answersObject().withoutEffect(noDevices))
}

// ResourceSlice is the row of resource.k8s.io/v1 resourceslices.
func ResourceSlice() *Kind {
	k := kubernetes[resourcev1.ResourceSlice, resourcev1.ResourceSliceList](Names{
		Resource: ResourceSlices, Singular: "resourceslice",
		GVK: resourcev1.SchemeGroupVersion.WithKind("ResourceSlice"),
	}, resourceslice.Strategy, nil).answersObject().withoutEffect(noDevices)
	k.Select.Fields = selects(func(s *resourcev1.ResourceSlice) fields.Set {
		return fields.Set{
			resourcev1.ResourceSliceSelectorNodeName: ptr.Deref(s.Spec.NodeName, ""),
			resourcev1.ResourceSliceSelectorDriver:   s.Spec.Driver,
			resourcev1.ResourceSliceSelectorPoolName: s.Spec.Pool.Name,
		}
	})
	return resourceSliceTable(k)
}
