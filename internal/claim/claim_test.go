package claim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

func size(q string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Spec.Capacity[corev1.ResourceStorage] = resource.MustParse(q) }
}

func modes(m ...corev1.PersistentVolumeAccessMode) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Spec.AccessModes = m }
}

func reserved(name string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: name}
	}
}

func policy(p corev1.PersistentVolumeReclaimPolicy) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Spec.PersistentVolumeReclaimPolicy = p }
}

func on(node string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: reach(newClaim("", ""), newNode(node))}
	}
}

func wants(edit func(*corev1.PersistentVolumeClaimSpec)) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { edit(&c.Spec) }
}

// Claims that wait for no pod are bound to what fits, or say why not.
func TestBinding(t *testing.T) {
	t.Parallel()
	block := func(v *corev1.PersistentVolume) { v.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }
	named := wants(func(s *corev1.PersistentVolumeClaimSpec) { s.VolumeName = "v" })
	labelled := func(v *corev1.PersistentVolume) { v.Labels = map[string]string{"disk": "fast"} }
	fast := wants(func(s *corev1.PersistentVolumeClaimSpec) {
		s.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "fast"}}
	})
	for name, test := range map[string]struct {
		objects []change.Object
		want    string
		event   string
	}{
		"nothing there":        {[]change.Object{newClaim("c", "")}, "c Pending=", "c: FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"no such class":        {[]change.Object{newClaim("c", "x")}, "c Pending=", `c: ProvisioningFailed: storageclass.storage.k8s.io "x" not found`},
		"what fits":            {[]change.Object{newClaim("c", ""), newVolume("v", "")}, "c Bound=v; v Bound<c", ""},
		"the smallest":         {[]change.Object{newClaim("c", ""), newVolume("big", "", size("5Gi")), newVolume("v", "", size("2Gi"))}, "c Bound=v; big Available<; v Bound<c", ""},
		"too small":            {[]change.Object{newClaim("c", ""), newVolume("v", "", size("512Mi"))}, "c Pending=; v Available<", "c: FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"another class":        {[]change.Object{newClaim("c", ""), newVolume("v", "now")}, "c Pending=; v Available<", "c: FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"other modes":          {[]change.Object{newClaim("c", ""), newVolume("v", "", modes(corev1.ReadOnlyMany))}, "c Pending=; v Available<", "c: FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"more modes last":      {[]change.Object{newClaim("c", ""), newVolume("a", "", modes(corev1.ReadWriteMany, corev1.ReadWriteOnce)), newVolume("v", "", size("9Gi"))}, "c Bound=v; a Available<; v Bound<c", ""},
		"a device":             {[]change.Object{newClaim("c", ""), newVolume("v", "", block)}, "c Pending=; v Available<", "c: FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"by selector":          {[]change.Object{newClaim("c", "", fast), newVolume("a", ""), newVolume("v", "", labelled)}, "c Bound=v; a Available<; v Bound<c", ""},
		"one is for it":        {[]change.Object{newClaim("c", ""), newVolume("a", "", size("1Gi")), newVolume("v", "", reserved("c"))}, "c Bound=v; a Available<; v Bound<c", ""},
		"one is for another":   {[]change.Object{newClaim("c", ""), newVolume("v", "", reserved("d"))}, "c Pending=; v Available<d?", "c: FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"two claims":           {[]change.Object{newClaim("c", ""), newClaim("d", ""), newVolume("v", "")}, "c Bound=v; d Pending=; v Bound<c", "d: FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"by name":              {[]change.Object{newClaim("c", "", named), newVolume("a", ""), newVolume("v", "")}, "c Bound=v; a Available<; v Bound<c", ""},
		"by a name not there":  {[]change.Object{newClaim("c", "", named)}, "c Pending=v", ""},
		"by name, too small":   {[]change.Object{newClaim("c", "", named), newVolume("v", "", size("1Mi"))}, "c Pending=v; v Available<", `c: VolumeMismatch: Cannot bind to requested volume "v": requested PV is too small`},
		"by name, other class": {[]change.Object{newClaim("c", "", named), newVolume("v", "now")}, "c Pending=v; v Available<", `c: VolumeMismatch: Cannot bind to requested volume "v": storageClassName does not match`},
		"by name, a device":    {[]change.Object{newClaim("c", "", named), newVolume("v", "", block)}, "c Pending=v; v Available<", `c: VolumeMismatch: Cannot bind to requested volume "v": incompatible volumeMode`},
		"by name, other modes": {[]change.Object{newClaim("c", "", named), newVolume("v", "", modes(corev1.ReadOnlyMany))}, "c Pending=v; v Available<", `c: VolumeMismatch: Cannot bind to requested volume "v": incompatible accessMode`},
		"by name, another's":   {[]change.Object{newClaim("c", "", named), newVolume("v", "", reserved("d"))}, "c Pending=v; v Available<d?", `c: FailedBinding: volume "v" already bound to a different claim.`},
		"made at once":         {[]change.Object{newClaim("c", "now")}, "c Bound=pvc-c-uid; pvc-c-uid Bound<c", ""},
		"waits for a pod":      {[]change.Object{newClaim("c", "standard")}, "c Pending=", "c: WaitForFirstConsumer: waiting for first consumer to be created before binding"},
		"waits for this pod":   {[]change.Object{newClaim("c", "standard"), newPod("p", "c")}, "c Pending=", "c: WaitForPodScheduled: waiting for pod p to be scheduled"},
		"though one fits":      {[]change.Object{newClaim("c", "standard"), newVolume("v", "standard")}, "c Pending=; v Available<", "c: WaitForFirstConsumer: waiting for first consumer to be created before binding"},
		"but not for its own":  {[]change.Object{newClaim("c", "standard"), newVolume("v", "standard", reserved("c"))}, "c Bound=v; v Bound<c", ""},
		"the default, later":   {[]change.Object{newClaim("c", "", wants(func(s *corev1.PersistentVolumeClaimSpec) { s.StorageClassName = nil }))}, "c Pending=", "c: WaitForFirstConsumer: waiting for first consumer to be created before binding"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.objects...)
			w.settle()
			if got := w.show(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if got := strings.Join(w.events, "\n"); got != test.event {
				t.Errorf("events:\n%s\nwant:\n%s", got, test.event)
			}
		})
	}
}

// What cannot be provisioned says why, and changes nothing.
func TestProvisioningFails(t *testing.T) {
	t.Parallel()
	class := func(edit func(*storagev1.StorageClass)) change.Object {
		c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "odd"}, Provisioner: kind.LocalPath, VolumeBindingMode: ptr.To(storagev1.VolumeBindingImmediate)}
		edit(c)
		return c
	}
	plain := class(func(*storagev1.StorageClass) {})
	const failed = `failed to provision volume with StorageClass "odd": `
	for name, test := range map[string]struct {
		class   change.Object
		edit    func(*corev1.PersistentVolumeClaimSpec)
		refused error
		want    string
	}{
		"a device": {plain, func(s *corev1.PersistentVolumeClaimSpec) { s.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }, nil,
			"rancher.io/local-path does not support block volume provisioning"},
		"a selector": {plain, func(s *corev1.PersistentVolumeClaimSpec) { s.Selector = &metav1.LabelSelector{} }, nil, failed + "claim.Spec.Selector is not supported"},
		"a source": {plain, func(s *corev1.PersistentVolumeClaimSpec) {
			s.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "x"}
		}, nil, failed + "a claim with a data source is not supported"},
		"mount options": {class(func(c *storagev1.StorageClass) { c.MountOptions = []string{"ro"} }), nil, nil, failed + "mount options are not supported"},
		"parameters": {class(func(c *storagev1.StorageClass) { c.Parameters = map[string]string{"nodePath": "/etc", "a": "b"} }), nil, nil,
			failed + "parameters are not supported: a, nodePath"},
		"a full disk": {plain, nil, errors.New("mkdir: no space left on device"), failed + "mkdir: no space left on device"},
	} {
		w := newWorld(t, test.class, newClaim("c", "odd", func(c *corev1.PersistentVolumeClaim) {
			if test.edit != nil {
				test.edit(&c.Spec)
			}
		}))
		w.refused = test.refused
		w.settle()
		if got, want := w.show(), "c Pending="; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		if want := []string{"c: ProvisioningFailed: " + test.want}; !slices.Equal(w.events, want) {
			t.Errorf("%s: events %q, want %q", name, w.events, want)
		}
		if set := Decide(t0, w.state(), w.claim("c")); test.refused != nil && set.WakeAt.IsZero() {
			t.Errorf("%s: it is not tried again", name)
		}
	}
}

// What a volume that is made looks like.
func TestProvisioned(t *testing.T) {
	t.Parallel()
	shared := wants(func(s *corev1.PersistentVolumeClaimSpec) {
		s.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	})
	w := newWorld(t, newClaim("c", "standard"), newClaim("all", "standard", shared), newPod("p", "c", "all"))
	w.settle()
	if why := w.bind("p", "a"); why != "" {
		t.Fatal(why)
	}
	w.settle()
	if got, want := w.show(), "all Bound=pvc-all-uid; c Bound=pvc-c-uid; pvc-all-uid Bound<all; pvc-c-uid Bound<c"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	v, c := w.volume("pvc-c-uid"), w.claim("c")
	if path, ok := DirectoryOf(dir, v); !ok || path != dir+"/pvc-c-uid" {
		t.Errorf("its directory is %q, %v", path, ok)
	}
	if got, want := v.Finalizers, []string{kind.VolumeProtection, volume.PVDeletionProtectionFinalizer}; !slices.Equal(got, want) {
		t.Errorf("finalizers %v, want %v", got, want)
	}
	if v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete || v.Spec.Capacity.Storage().String() != "1Gi" || v.Status.LastPhaseTransitionTime == nil {
		t.Errorf("the volume is %+v", v)
	}
	want := map[string]string{
		volume.AnnBindCompleted: "yes", volume.AnnBoundByController: "yes", volume.AnnSelectedNode: "a",
		volume.AnnStorageProvisioner: kind.LocalPath, volume.AnnBetaStorageProvisioner: kind.LocalPath,
	}
	if !fmtEqual(c.Annotations, want) || c.Status.Capacity.Storage().String() != "1Gi" {
		t.Errorf("the claim is %+v", c)
	}
	for name, nodes := range map[string]string{"pvc-c-uid": "a", "pvc-all-uid": "a b"} {
		var on []string
		for _, node := range []string{"a", "b"} {
			if volume.CheckNodeAffinity(w.volume(name), newNode(node).Labels) == nil {
				on = append(on, node)
			}
		}
		if got := strings.Join(on, " "); got != nodes {
			t.Errorf("%s is on %s, want %s", name, got, nodes)
		}
	}
}

func fmtEqual(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
