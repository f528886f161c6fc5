package volume

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

// claimed is a pod with a volume v of the claim c, which is bound to the volume pv: a local one at path.
type claimed struct {
	pod   *Pod
	claim *corev1.PersistentVolumeClaim
	pv    *corev1.PersistentVolume
}

func newClaimed(t *testing.T, path string) *claimed {
	t.Helper()
	c := &claimed{
		claim: &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c-uid", Finalizers: []string{kind.ClaimProtection}},
			Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "pv"},
			Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
		},
		pv: &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv"},
			Spec: corev1.PersistentVolumeSpec{
				ClaimRef:               &corev1.ObjectReference{Namespace: "ns", Name: "c", UID: "c-uid"},
				PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			},
		},
	}
	c.pod = newPod(t, objects{"c": c.claim, "p-v": c.claim, "pv": c.pv}, corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}})
	c.pod.Paths = hostpath.New(reap.New())
	c.pod.Object.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	return c
}

// What a claim is bound to is checked as by a kubelet, with its words.
func TestClaims(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const setUp = `MountVolume.SetUp failed for volume "v" : `
	const wrong = setUp + "error processing PVC ns/c: "
	for name, test := range map[string]struct {
		edit func(c *claimed)
		err  string
	}{
		"a directory":        {func(*claimed) {}, ""},
		"not there":          {func(c *claimed) { c.pv.Spec.Local.Path = dir + "/no" }, `MountVolume.NewMounter initialization failed for volume "pv" : path "` + dir + `/no" does not exist`},
		"a file":             {func(c *claimed) { c.pv.Spec.Local.Path = dir + "/file" }, setUp + "only directory and block device are supported"},
		"no claim":           {func(c *claimed) { delete(c.pod.Objects.(objects), "c") }, wrong + `failed to fetch PVC from API server: persistentvolumeclaim "c" not found`},
		"not bound":          {func(c *claimed) { c.claim.Status.Phase = corev1.ClaimPending }, wrong + "PVC is not bound"},
		"lost":               {func(c *claimed) { c.claim.Status.Phase = corev1.ClaimLost }, wrong + "PVC is not bound"},
		"bound to nothing":   {func(c *claimed) { c.claim.Spec.VolumeName = "" }, wrong + "PVC has empty pvc.Spec.VolumeName"},
		"being deleted":      {func(c *claimed) { c.claim.DeletionTimestamp, c.claim.Finalizers = &metav1.Time{}, nil }, wrong + "PVC is being deleted"},
		"which it holds up":  {func(c *claimed) { c.claim.DeletionTimestamp = &metav1.Time{} }, ""},
		"no volume":          {func(c *claimed) { delete(c.pod.Objects.(objects), "pv") }, wrong + `failed to fetch PV pv from API server: persistentvolume "pv" not found`},
		"a volume of nobody": {func(c *claimed) { c.pv.Spec.ClaimRef = nil }, wrong + "found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"},
		"of another claim": {func(c *claimed) { c.pv.Spec.ClaimRef.UID = "d-uid" },
			wrong + "found PV object pv but its pv.Spec.ClaimRef.UID d-uid does not point to claim.UID c-uid"},
		"a device": {func(c *claimed) { c.pv.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) },
			setUp + "volume v has volumeMode Block, but is specified in volumeMounts"},
		"wanted as a device": {func(c *claimed) {
			ctr := &c.pod.Object.Spec.Containers[0]
			ctr.VolumeMounts, ctr.VolumeDevices = nil, []corev1.VolumeDevice{{Name: "v", DevicePath: "/dev/x"}}
		}, setUp + "volume v has volumeMode Filesystem, but is specified in volumeDevices"},
		"a device, wanted as one": {func(c *claimed) {
			ctr := &c.pod.Object.Spec.Containers[0]
			ctr.VolumeMounts, ctr.VolumeDevices = nil, []corev1.VolumeDevice{{Name: "v", DevicePath: "/dev/x"}}
			c.pv.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
		}, setUp + "volumes of mode Block are not supported by this node"},
		"network storage": {func(c *claimed) {
			c.pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "x", Path: "/"}}
		}, setUp + "volumes of type nfs are not supported by this node"},
		"mount options": {func(c *claimed) { c.pv.Spec.MountOptions = []string{"noatime"} }, setUp + "mount options are not supported by this node"},
		"a hostPath, made": {func(c *claimed) {
			c.pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir + "/made", Type: ptr.To(corev1.HostPathDirectoryOrCreate)}}
		}, ""},
		"a hostPath, not there": {func(c *claimed) {
			c.pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir + "/no", Type: ptr.To(corev1.HostPathDirectory)}}
		}, setUp + "hostPath type check failed: " + dir + "/no is not a directory"},
		"another pod's": {func(c *claimed) {
			c.pod.Object.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}
		}, setUp + "PVC ns/c was not created for pod ns/p (pod is not owner)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClaimed(t, dir)
			test.edit(c)
			v, err := setup(t, c.pod)
			if got := text(err); got != test.err || v != nil {
				t.Errorf("got error %q, want %q; %+v", got, test.err, v)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A local volume is given to the pod's group, unless the pod only reads it.
func TestClaimOfAGroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := runner.Volume{Class: runner.Sandbox, PodUID: "u", Name: "v", Source: dir, Group: ptr.To[uint32](2000)}
	for name, test := range map[string]struct {
		edit func(c *claimed, sc *corev1.PodSecurityContext)
		want func(v runner.Volume) *runner.Volume
	}{
		"always": {func(*claimed, *corev1.PodSecurityContext) {}, func(v runner.Volume) *runner.Volume { return &v }},
		"if need": {func(_ *claimed, sc *corev1.PodSecurityContext) {
			sc.FSGroupChangePolicy = ptr.To(corev1.FSGroupChangeOnRootMismatch)
		}, func(v runner.Volume) *runner.Volume { v.Matching = true; return &v }},
		"reads": {func(c *claimed, _ *corev1.PodSecurityContext) {
			c.pod.Object.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
		}, nil},
		"no group": {func(_ *claimed, sc *corev1.PodSecurityContext) { sc.FSGroup = nil }, nil},
		"a hostPath": {func(c *claimed, _ *corev1.PodSecurityContext) {
			c.pv.Spec.HostPath, c.pv.Spec.Local = &corev1.HostPathVolumeSource{Path: dir}, nil
		}, nil},
		"no sandbox": {func(c *claimed, _ *corev1.PodSecurityContext) { c.pod.Class = runner.Host }, nil},
	} {
		c := newClaimed(t, dir)
		sc := &corev1.PodSecurityContext{FSGroup: ptr.To[int64](2000)}
		c.pod.Object.Spec.SecurityContext = sc
		test.edit(c, sc)
		v, err := setup(t, c.pod)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var expected *runner.Volume
		if test.want != nil {
			expected = test.want(want)
		}
		if !reflect.DeepEqual(v, expected) {
			t.Errorf("%s: got %+v, want %+v", name, v, expected)
		}
	}
}

// What a container mounts of a claim.
func TestMountsOfClaims(t *testing.T) {
	t.Parallel()
	c := newClaimed(t, "/data/pv")
	ctr := &c.pod.Object.Spec.Containers[0]
	ctr.VolumeMounts = []corev1.VolumeMount{
		{Name: "v", MountPath: "/v"}, {Name: "v", MountPath: "/r", ReadOnly: true}, {Name: "v", MountPath: "/s", SubPathExpr: "$(A)/b"},
	}
	env := &runspec.Env{}
	env.Set("A", "a")
	want := []runner.Mount{
		{Volume: "v", Source: "/data/pv", Target: "/v", Recursive: true},
		{Volume: "v", Source: "/data/pv", Target: "/r", Recursive: true, ReadOnly: true},
		{Volume: "v", Source: "/data/pv", Target: "/s", Recursive: true, SubPath: "a/b"},
	}
	if got, err := c.pod.Mounts(ctr, env); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	c.pod.Object.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
	for i := range want {
		want[i].ReadOnly = true
	}
	if got, err := c.pod.Mounts(ctr, env); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read-only: got %+v, %v", got, err)
	}
	c.claim.Status.Phase = corev1.ClaimLost
	if got, err := c.pod.Mounts(ctr, env); text(err) != "error processing PVC ns/c: PVC is not bound" {
		t.Errorf("lost: got %+v, %v", got, err)
	}
}
