package claim

import (
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

var (
	claimKey = kind.PersistentVolumeClaims.Key("ns", "c")
	madeKey  = kind.PersistentVolumes.Key("", "pvc-c-uid")
)

// remove begins the deletion of an object, as a client does.
func (w *world) remove(key change.Key) {
	w.t.Helper()
	obj := w.objects[key]
	write, ok := kinds.ByResource(key.Resource).Removal(obj, change.RevOf(obj), t0, nil)
	if !ok {
		w.t.Fatalf("%s is being deleted already", key)
	}
	w.apply(change.Set{Writes: []change.Write{write}})
}

// What becomes of a volume when its claim goes.
func TestReclaiming(t *testing.T) {
	t.Parallel()
	made := func(w *world) { w.put(newClaim("c", "now")); w.settle() }
	static := func(edits ...func(*corev1.PersistentVolume)) func(*world) {
		return func(w *world) { w.put(newClaim("c", ""), newVolume("v", "", edits...)); w.settle() }
	}
	by := func(provisioner string) func(*corev1.PersistentVolume) {
		return func(v *corev1.PersistentVolume) {
			v.Annotations = map[string]string{volume.AnnDynamicallyProvisioned: provisioner}
		}
	}
	elsewhere := func(v *corev1.PersistentVolume) {
		v.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/etc"}}
	}
	for name, test := range map[string]struct {
		begin func(*world)
		want  string
		event string
	}{
		"made, Delete": {made, "", ""},
		"made, Retain": {func(w *world) {
			made(w)
			edit(w, madeKey, policy(corev1.PersistentVolumeReclaimRetain))
		}, "pvc-c-uid Released<c", ""},
		"static, Retain":  {static(), "v Released<c", ""},
		"static, Recycle": {static(policy(corev1.PersistentVolumeReclaimRecycle)), "v Failed<c", "v: VolumeFailedRecycle: No recycler plugin found for the volume!"},
		"static, Delete":  {static(policy(corev1.PersistentVolumeReclaimDelete)), "v Failed<c", "v: VolumeFailedDelete: error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched"},
		"another's, Delete": {static(policy(corev1.PersistentVolumeReclaimDelete), by("example.com/disks")),
			"v Released<c", ""},
		"said to be ours": {static(policy(corev1.PersistentVolumeReclaimDelete), by(kind.LocalPath), elsewhere),
			"v Failed<c", "v: VolumeFailedDelete: the volume is no directory of the provisioner rancher.io/local-path here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.begin(w)
			w.settle()
			w.remove(claimKey)
			all := w.settleAll()
			if got := w.show(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if test.event != "" && !slices.Contains(all, test.event) || test.event == "" && strings.Contains(strings.Join(all, "\n"), "Fail") {
				t.Errorf("events %q, want %q", all, test.event)
			}
		})
	}
}

// settleAll is settle, and returns the events of all that was decided.
func (w *world) settleAll() (all []string) {
	w.t.Helper()
	for range 10 {
		for _, key := range w.keys() {
			w.events = nil
			switch obj := w.objects[key].(type) {
			case *corev1.PersistentVolumeClaim:
				w.apply(Decide(t0, w.state(), obj))
			case *corev1.PersistentVolume:
				w.apply(DecideVolume(t0, w.state(), obj))
			}
			all = append(all, w.events...)
		}
	}
	w.settle()
	return all
}

// A volume of ours goes in two steps, and its directory with the second: who says Retain before the
// first keeps the data, and nothing but our own directories is ever named.
func TestDirectoryGoesLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newClaim("c", "now"))
	w.settle()
	w.remove(claimKey)
	w.apply(Decide(t0, w.state(), w.claim("c")))
	step := func() (change.Write, *corev1.PersistentVolume) {
		v := w.volume("pvc-c-uid")
		set := DecideVolume(t0, w.state(), v)
		if len(set.Writes) != 1 {
			t.Fatalf("%d writes", len(set.Writes))
		}
		w.apply(set)
		return set.Writes[0], v
	}
	first, before := step()
	if path, takes := TakesDirectory(dir, before, first.Object.(*corev1.PersistentVolume)); takes {
		t.Errorf("the first step takes %s", path)
	}
	if got, want := w.show(), "pvc-c-uid Released<c!"; got != want {
		t.Errorf("after the first step: %s, want %s", got, want)
	}
	second, before := step()
	if path, takes := TakesDirectory(dir, before, nil); second.Op != change.Delete || !takes || path != dir+"/pvc-c-uid" {
		t.Errorf("the second step: %v, takes %q, %v", second.Op, path, takes)
	}
	forged := newVolume("pvc-forged", "", policy(corev1.PersistentVolumeReclaimDelete), reserved("c"), func(v *corev1.PersistentVolume) {
		v.Annotations = map[string]string{volume.AnnDynamicallyProvisioned: kind.LocalPath}
		v.Finalizers, v.Spec.ClaimRef.UID = []string{volume.PVDeletionProtectionFinalizer}, "x"
	})
	w.put(forged)
	w.settle()
	w.remove(kind.PersistentVolumes.Key("", "pvc-forged"))
	w.settle()
	if got := w.show(); got != "" {
		t.Errorf("what only calls itself ours is held by us: %s", got)
	}
	for name, v := range map[string]*corev1.PersistentVolume{
		"another path": {Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir + "/../pki"}}}},
		"a hostPath":   {Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir + "/pvc-x"}}}},
		"no name":      {ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir + "/x"}}}},
	} {
		v.Annotations = map[string]string{volume.AnnDynamicallyProvisioned: kind.LocalPath}
		v.Finalizers, v.DeletionTimestamp = []string{volume.PVDeletionProtectionFinalizer}, &metav1.Time{Time: t0}
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
		if v.Name == "" {
			v.Name = "pvc-x"
		}
		if path, takes := TakesDirectory(dir, v, nil); takes {
			t.Errorf("%s: takes %s", name, path)
		}
	}
}

// Who says Retain keeps the data, also when the volume is deleted then; who says Delete does not.
func TestPolicyIsFollowed(t *testing.T) {
	t.Parallel()
	for _, p := range []corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimRetain, corev1.PersistentVolumeReclaimDelete} {
		w := newWorld(t, newClaim("c", "now"))
		w.settle()
		edit(w, madeKey, policy(corev1.PersistentVolumeReclaimRetain))
		w.settle()
		edit(w, madeKey, policy(p))
		w.settle()
		w.remove(madeKey)
		w.settle()
		if got, want := w.show(), "c Bound=pvc-c-uid; pvc-c-uid Bound<c!"; got != want {
			t.Errorf("%s, while it is bound: %s, want %s", p, got, want)
		}
		took := false
		w.remove(claimKey)
		for range 5 {
			if c := w.claim("c"); c != nil {
				w.apply(Decide(t0, w.state(), c))
			}
			if v := w.volume("pvc-c-uid"); v != nil {
				set := DecideVolume(t0, w.state(), v)
				for _, write := range set.Writes {
					next, _ := write.Object.(*corev1.PersistentVolume)
					_, takes := TakesDirectory(dir, v, next)
					took = took || takes
				}
				w.apply(set)
			}
		}
		if got := w.show(); got != "" || took != (p == corev1.PersistentVolumeReclaimDelete) {
			t.Errorf("%s: left is %q, the directory was taken: %v", p, got, took)
		}
	}
}

// A claim that was bound and has no volume any more is lost, for good.
func TestLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newClaim("c", ""), newVolume("v", ""))
	w.settle()
	delete(w.objects, kind.PersistentVolumes.Key("", "v"))
	if all := w.settleAll(); !slices.Contains(all, "c: ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!") {
		t.Errorf("events %q", all)
	}
	w.put(newVolume("v", "", reserved("d")))
	w.settle()
	if got, want := w.show(), "c Lost=v; v Available<d?"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	w = newWorld(t, newClaim("c", ""), newVolume("v", ""))
	w.settle()
	edit(w, kind.PersistentVolumes.Key("", "v"), func(v *corev1.PersistentVolume) { v.Spec.ClaimRef.UID = "other" })
	if all := w.settleAll(); !slices.Contains(all, "c: ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly") {
		t.Errorf("events %q", all)
	}
	if got := w.claim("c").Status; got.Phase != corev1.ClaimLost || got.Capacity != nil {
		t.Errorf("misbound: %+v", got)
	}
}

// A released volume that is kept is there again when who looks after it lets go of the claim.
func TestReuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newClaim("c", ""), newVolume("v", ""))
	w.settle()
	w.remove(claimKey)
	w.settle()
	w.put(newClaim("d", ""))
	w.settle()
	if got, want := w.show(), "d Pending=; v Released<c"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	edit(w, kind.PersistentVolumes.Key("", "v"), func(v *corev1.PersistentVolume) { v.Spec.ClaimRef = nil })
	w.settle()
	if got, want := w.show(), "d Bound=v; v Bound<d"; got != want {
		t.Errorf("let go of: %s, want %s", got, want)
	}
}

// As long as a pod uses a claim it is not removed, and it tells since when none does.
func TestProtection(t *testing.T) {
	t.Parallel()
	podKey := kind.Pods.Key("ns", "p")
	w := newWorld(t, newClaim("c", "now", func(c *corev1.PersistentVolumeClaim) { c.Finalizers = nil }), newPod("p", "c"))
	w.settle()
	if why := w.bind("p", "a"); why != "" {
		t.Fatal(why)
	}
	w.settle()
	unused := func() string {
		for _, c := range w.claim("c").Status.Conditions {
			if c.Type == corev1.PersistentVolumeClaimUnused {
				return string(c.Status) + " " + c.Reason
			}
		}
		return ""
	}
	if got, want := unused(), "False PodUsingPVC"; got != want {
		t.Errorf("used: %q, want %q", got, want)
	}
	edit(w, podKey, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	w.settle()
	if got, want := unused(), "True NoPodsUsingPVC"; got != want {
		t.Errorf("ended: %q, want %q", got, want)
	}
	w.remove(claimKey)
	w.settle()
	if got, want := w.show(), "c Bound=pvc-c-uid!; pvc-c-uid Bound<c"; got != want {
		t.Errorf("a pod that has ended, and is there: %s, want %s", got, want)
	}
	w.put(newPod("q", "c"))
	if got, want := w.bind("q", "a"), `persistentvolumeclaim "c" is being deleted`; got != want {
		t.Errorf("another pod: %q, want %q", got, want)
	}
	delete(w.objects, podKey)
	w.settle()
	if got := w.show(); got != "" {
		t.Errorf("left is %s", got)
	}
}

// A claim grows as it asks to, with its volume if that is ours.
func TestGrowth(t *testing.T) {
	t.Parallel()
	more := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("3Gi")
	}
	w := newWorld(t, newClaim("c", "now"))
	w.settle()
	edit(w, claimKey, more)
	all := w.settleAll()
	if c, v := w.claim("c").Status.Capacity.Storage().String(), w.volume("pvc-c-uid").Spec.Capacity.Storage().String(); c != "3Gi" || v != "3Gi" {
		t.Errorf("the claim has %s, the volume %s", c, v)
	}
	if n := len(slices.DeleteFunc(all, func(e string) bool { return e != "c: VolumeResizeSuccessful: Resize volume succeeded" })); n != 1 {
		t.Errorf("it is said %d times", n)
	}
	w = newWorld(t, newClaim("c", ""), newVolume("v", ""))
	w.settle()
	edit(w, claimKey, more)
	w.settle()
	if got := w.claim("c").Status.Capacity.Storage().String(); got != "2Gi" {
		t.Errorf("one of a static volume has %s", got)
	}
	if want := []string{"c: ExternalExpanding: waiting for an external controller to expand this PVC"}; !slices.Equal(w.events, want) {
		t.Errorf("events %q, want %q", w.events, want)
	}
}

// What of claims the API refuses or fills in.
func TestAdmission(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newClaim("c", "now"))
	k := kinds.ByResource(kind.PersistentVolumeClaims)
	bare := newClaim("d", "x", func(c *corev1.PersistentVolumeClaim) { c.Finalizers, c.Spec.StorageClassName = nil, nil })
	if err := k.Create.Admit(bare, w); err != nil || *bare.Spec.StorageClassName != "standard" || !slices.Equal(bare.Finalizers, []string{kind.ClaimProtection}) {
		t.Errorf("%+v, %v", bare, err)
	}
	more := func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
		next := c.DeepCopy()
		next.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("3Gi")
		return next
	}
	if err := k.Update.Limit(more(w.claim("c")), w.claim("c"), w); err == nil || err.Error() != "Only bound persistent volume claims can be expanded" {
		t.Errorf("one that is not bound: %v", err)
	}
	w.settle()
	if err := k.Update.Limit(more(w.claim("c")), w.claim("c"), w); err != nil {
		t.Error(err)
	}
	other := newClaim("e", "manual", func(c *corev1.PersistentVolumeClaim) {
		c.Status.Phase = corev1.ClaimBound
		c.Spec.StorageClassName = nil
	})
	const no = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
	if err := k.Update.Limit(more(other), other, w); err == nil || err.Error() != no {
		t.Errorf("one without a class: %v", err)
	}
}

// Claims of ephemeral volumes are made, one after the other, and are nobody else's.
func TestEphemeral(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newPod("p", "x?", "y?"))
	if got, want := w.bind("p", "a"), `waiting for ephemeral volume controller to create the persistentvolumeclaim "p-x"`; got != want {
		t.Errorf("before: %q, want %q", got, want)
	}
	w.settle()
	if got, want := w.show(), "p-x Pending=; p-y Pending="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if c := w.claim("p-x"); c.Labels["of"] != "template" || !metav1.IsControlledBy(c, w.objects[kind.Pods.Key("ns", "p")]) {
		t.Errorf("the claim is %+v", c.ObjectMeta)
	}
	if why := w.bind("p", "b"); why != "" {
		t.Error(why)
	}
	w.settle()
	if got, want := w.show(), "p-x Bound=pvc-p-x-uid; p-y Bound=pvc-p-y-uid; pvc-p-x-uid Bound<p-x; pvc-p-y-uid Bound<p-y"; got != want {
		t.Errorf("bound: %s, want %s", got, want)
	}

	w = newWorld(t, newClaim("p-x", "standard"), newPod("p", "x?"))
	w.settle()
	const not = "PVC ns/p-x was not created for pod ns/p (pod is not owner)"
	if want := "p: FailedBinding: ephemeral volume x: " + not; !slices.Contains(w.events, want) {
		t.Errorf("events %q, want %q", w.events, want)
	}
	if got := w.bind("p", "a"); got != not {
		t.Errorf("another's: %q", got)
	}

	w = newWorld(t, newPod("p", "x?"))
	w.refused = errors.New(`persistentvolumeclaims "p-x" is forbidden: exceeded quota: q`)
	w.settle()
	if want := []string{`p: FailedBinding: ephemeral volume x: create PVC p-x: persistentvolumeclaims "p-x" is forbidden: exceeded quota: q`}; !slices.Equal(w.events, want) {
		t.Errorf("events %q, want %q", w.events, want)
	}
}

// What a pod is told of its claims, and which nodes it is given.
func TestPods(t *testing.T) {
	t.Parallel()
	once := wants(func(s *corev1.PersistentVolumeClaimSpec) {
		s.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	})
	for name, test := range map[string]struct {
		objects []change.Object
		want    string
	}{
		"no claim":             {[]change.Object{newPod("p", "c")}, `persistentvolumeclaim "c" not found`},
		"nothing to bind":      {[]change.Object{newPod("p", "c"), newClaim("c", "")}, "pod has unbound immediate PersistentVolumeClaims"},
		"bound at once":        {[]change.Object{newPod("p", "c"), newClaim("c", "now")}, ""},
		"bound now":            {[]change.Object{newPod("p", "c"), newClaim("c", "standard")}, ""},
		"twice":                {[]change.Object{newPod("p", "c", "c"), newClaim("c", "standard")}, ""},
		"to what is there":     {[]change.Object{newPod("p", "c"), newClaim("c", "manual"), newVolume("v", "manual", on("a"))}, ""},
		"which is elsewhere":   {[]change.Object{newPod("p", "c"), newClaim("c", "manual"), newVolume("v", "manual", on("b"))}, noMatch},
		"nothing is made":      {[]change.Object{newPod("p", "c"), newClaim("c", "manual")}, noMatch},
		"bound elsewhere":      {[]change.Object{newPod("p", "c"), newClaim("c", ""), newVolume("v", "", on("b"))}, affinity},
		"by another program":   {[]change.Object{newPod("p", "c"), newClaim("c", "csi")}, "waits: "},
		"one pod at a time":    {[]change.Object{newPod("p", "c"), newClaim("c", "standard", once)}, ""},
		"one cannot be made":   {[]change.Object{newPod("p", "c"), newClaim("c", "standard", wants(func(s *corev1.PersistentVolumeClaimSpec) { s.Selector = &metav1.LabelSelector{} }))}, `waits: running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "c"`},
		"two, one is not made": {[]change.Object{newPod("p", "c", "d"), newClaim("c", "standard"), newClaim("d", "manual")}, noMatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.objects...)
			w.settle()
			if got := w.bind("p", "a"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			w.settle()
			bound := !strings.Contains(w.show(), "Pending") && w.show() != ""
			if bound != (test.want == "" || test.want == affinity) {
				t.Errorf("then: %s", w.show())
			}
		})
	}

	w := newWorld(t, newPod("p", "c"), newPod("q", "c"), newPod("r", "d"), newClaim("c", "standard", once), newClaim("d", "standard"))
	l := New(t0, w.state())
	for _, test := range [][2]string{{"p", ""}, {"q", InUse}, {"r", ""}} {
		if got := w.bindIn(l, test[0], "a"); got != test[1] {
			t.Errorf("%s, in one decision: %q, want %q", test[0], got, test[1])
		}
	}
	var set change.Set
	l.Write(&set)
	w.apply(set)
	w.settle()
	if got := w.bind("q", "a"); got != InUse {
		t.Errorf("later: %q", got)
	}
	edit(w, kind.Pods.Key("ns", "p"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
	if got := w.bind("q", "a"); got != "" {
		t.Errorf("when the first has ended: %q", got)
	}
	if got := w.bind("r", "b"); got != affinity {
		t.Errorf("one that was made on another node: %q", got)
	}
}

// A pod is bound only as long as its claims are as they were looked at.
func TestGuards(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newPod("p", "c"), newClaim("c", "now"))
	w.settle()
	l := New(t0, w.state())
	if why := w.bindIn(l, "p", "a"); why != "" {
		t.Fatal(why)
	}
	var set change.Set
	l.Write(&set)
	if want := []change.Guard{{Key: claimKey, Rev: change.RevOf(w.claim("c"))}}; !slices.Equal(set.Guards, want) || len(set.Writes) > 0 {
		t.Errorf("guards %v, want %v; %d writes", set.Guards, want, len(set.Writes))
	}
}

// Another program that makes volumes is told the node, waited for, and heeded.
func TestOtherProvisioners(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newPod("p", "c"), newClaim("c", "csi"))
	w.settle()
	if got := w.bind("p", "b"); got != "waits: " {
		t.Fatal(got)
	}
	w.settle()
	want := `c: ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/disks' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`
	if !slices.Equal(w.events, []string{want}) {
		t.Errorf("events %q", w.events)
	}
	if a := w.claim("c").Annotations; a[volume.AnnSelectedNode] != "b" || a[volume.AnnStorageProvisioner] != "example.com/disks" {
		t.Errorf("annotations %v", a)
	}
	if got := w.bind("p", "a"); got != noMatch {
		t.Errorf("on another node: %q", got)
	}
	w.put(newVolume("v", "csi", reserved("c"), func(v *corev1.PersistentVolume) { v.Spec.ClaimRef.UID = "c-uid" }))
	w.settle()
	if got := w.bind("p", "b"); got != "" {
		t.Errorf("when it is there: %q", got)
	}
}
