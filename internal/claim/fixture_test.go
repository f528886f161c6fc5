package claim

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// t0 is when everything happens.
var t0 = time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)

// dir is where the provisioner has its directories.
const dir = "/var/lib/sampan/volumes"

// kinds are the rows.
var kinds = kind.Builtin()

// world is the objects that there are, on which decisions are carried out one after the other until
// none has anything to do. It is a change.View.
type world struct {
	t       *testing.T
	objects map[change.Key]change.Object
	events  []string
	refused error
	rev     int
}

// newWorld returns a world with the classes "standard" (the default, which waits for a pod), "now"
// (which does not), "manual" (for which nothing is made) and "csi" (which another program makes), the
// nodes a and b, and objects.
func newWorld(t *testing.T, objects ...change.Object) *world {
	w := &world{t: t, objects: map[change.Key]change.Object{}}
	class := func(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode, AllowVolumeExpansion: ptr.To(true)}
	}
	standard := class("standard", kind.LocalPath, storagev1.VolumeBindingWaitForFirstConsumer)
	standard.Annotations = map[string]string{kind.DefaultClassAnnotation: "true"}
	w.put(standard, class("now", kind.LocalPath, storagev1.VolumeBindingImmediate),
		class("manual", "kubernetes.io/no-provisioner", storagev1.VolumeBindingWaitForFirstConsumer),
		class("csi", "example.com/disks", storagev1.VolumeBindingWaitForFirstConsumer), newNode("a"), newNode("b"))
	w.put(objects...)
	return w
}

func newNode(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
}

// newClaim returns the claim ns/name of 1Gi as the API would store it, then as edits make it.
func newClaim(name, class string, edits ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name + "-uid"), Finalizers: []string{kind.ClaimProtection}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class,
			VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem),
			Resources:  corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	for _, edit := range edits {
		edit(c)
	}
	return c
}

// newVolume returns a volume of 2Gi on the path /data/name, which is there for anybody.
func newVolume(name, class string, edits ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name + "-uid"), Finalizers: []string{kind.VolumeProtection}},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: class,
			VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem), Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data/" + name}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	for _, edit := range edits {
		edit(v)
	}
	return v
}

// newPod returns a pod of these claims; one that ends with "?" is an ephemeral volume's.
func newPod(name string, claims ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name + "-uid")}}
	for i, c := range claims {
		v := corev1.Volume{Name: fmt.Sprint("v", i)}
		if of, ephemeral := strings.CutSuffix(c, "?"); ephemeral {
			v.Name = of
			v.Ephemeral = &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"of": "template"}}, Spec: newClaim("", "standard").Spec}}
		} else {
			v.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c}
		}
		p.Spec.Volumes = append(p.Spec.Volumes, v)
	}
	return p
}

// put stores objects, as somebody would.
func (w *world) put(objects ...change.Object) {
	for _, obj := range objects {
		w.rev++
		obj.SetResourceVersion(fmt.Sprint(w.rev))
		w.objects[w.keyOf(obj)] = obj
	}
}

func (w *world) keyOf(obj change.Object) change.Key {
	resource := map[string]change.Resource{
		"*v1.PersistentVolumeClaim": kind.PersistentVolumeClaims, "*v1.PersistentVolume": kind.PersistentVolumes,
		"*v1.StorageClass": kind.StorageClasses, "*v1.Pod": kind.Pods, "*v1.Node": kind.Nodes,
	}[fmt.Sprintf("%T", obj)]
	return resource.Key(obj.GetNamespace(), obj.GetName())
}

// edit changes what is stored.
func edit[T change.Object](w *world, key change.Key, f func(T)) {
	w.t.Helper()
	next := w.objects[key].DeepCopyObject().(T)
	f(next)
	w.put(next)
}

func (w *world) claim(name string) *corev1.PersistentVolumeClaim {
	return find[*corev1.PersistentVolumeClaim](w, kind.PersistentVolumeClaims.Key("ns", name))
}

func (w *world) volume(name string) *corev1.PersistentVolume {
	return find[*corev1.PersistentVolume](w, kind.PersistentVolumes.Key("", name))
}

func (w *world) state() State {
	return State{View: w, Dir: dir, Refused: w.refused,
		ClaimKind: kinds.ByResource(kind.PersistentVolumeClaims), VolumeKind: kinds.ByResource(kind.PersistentVolumes)}
}

// apply carries a set out, of which every guard holds.
func (w *world) apply(set change.Set) {
	w.t.Helper()
	for _, n := range set.Notes {
		w.events = append(w.events, n.Regarding.Name+": "+n.Reason+": "+n.Message)
	}
	for _, write := range set.Writes {
		old, exists := w.objects[write.Key]
		switch {
		case write.Op == change.Create && exists, write.Op != change.Create && (!exists || change.RevOf(old) != write.Rev):
			w.t.Fatalf("%v of %s does not fit what is there", write.Op, write.Key)
		case write.Op == change.Delete:
			delete(w.objects, write.Key)
			continue
		case write.Op == change.Create:
			write.Object.SetUID(types.UID(write.Key.Name + "-uid"))
			k := kinds.ByResource(write.Key.Resource)
			k.Default(write.Object)
			if err := k.Create.Admit(write.Object, w); err != nil {
				w.t.Fatal(err)
			}
			k.Create.Prepare(write.Object)
			if errs := k.Create.Check(write.Object); len(errs) > 0 {
				w.t.Fatalf("%s: %v", write.Key, errs.ToAggregate())
			}
		}
		w.put(write.Object)
	}
}

// settle decides about everything until nothing changes any more.
func (w *world) settle() {
	w.t.Helper()
	for range 20 {
		before := w.rev + len(w.objects)*1000
		w.events = nil
		for _, key := range w.keys() {
			switch obj := w.objects[key].(type) {
			case *corev1.PersistentVolumeClaim:
				w.apply(Decide(t0, w.state(), obj))
			case *corev1.PersistentVolume:
				w.apply(DecideVolume(t0, w.state(), obj))
			case *corev1.Pod:
				w.apply(DecidePod(t0, w.state(), obj))
			}
		}
		if w.rev+len(w.objects)*1000 == before {
			return
		}
	}
	w.t.Fatal("it does not come to rest")
}

// bind places a pod on a node. It returns why that is not possible.
func (w *world) bind(pod, node string) string {
	w.t.Helper()
	l := New(t0, w.state())
	why := w.bindIn(l, pod, node)
	var set change.Set
	l.Write(&set)
	w.apply(set)
	return why
}

// bindIn does that in a decision about several.
func (w *world) bindIn(l *Ledger, pod, node string) string {
	p := w.objects[kind.Pods.Key("ns", pod)].(*corev1.Pod)
	claims, err := l.Pod(p)
	if err != nil {
		return err.Error()
	}
	at := w.objects[kind.Nodes.Key("", node)].(*corev1.Node)
	if why := claims.Refuses(at); why != "" {
		return why
	}
	bound, why := claims.Take(at)
	if bound {
		edit(w, kind.Pods.Key("ns", pod), func(p *corev1.Pod) { p.Spec.NodeName = node })
		return ""
	}
	return "waits: " + why
}

// show says how claims and volumes are.
func (w *world) show() string {
	var out []string
	for _, key := range w.keys() {
		phase, deleted := "", w.objects[key] != nil && w.objects[key].GetDeletionTimestamp() != nil
		switch obj := w.objects[key].(type) {
		case *corev1.PersistentVolumeClaim:
			phase = fmt.Sprintf("%s %s=%s", obj.Name, obj.Status.Phase, obj.Spec.VolumeName)
		case *corev1.PersistentVolume:
			of := ""
			if ref := obj.Spec.ClaimRef; ref != nil {
				of = ref.Name + map[bool]string{true: "?"}[ref.UID == ""]
			}
			phase = fmt.Sprintf("%s %s<%s", obj.Name, obj.Status.Phase, of)
		default:
			continue
		}
		out = append(out, phase+map[bool]string{true: "!"}[deleted])
	}
	return strings.Join(out, "; ")
}

func (w *world) keys() []change.Key {
	keys := make([]change.Key, 0, len(w.objects))
	for key := range w.objects {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b change.Key) int { return cmp.Compare(a.String(), b.String()) })
	return keys
}

// Get, List, Len, Owned, Unread and Index implement change.View.
func (w *world) Get(key change.Key) (change.Object, bool) {
	obj, ok := w.objects[key]
	return obj, ok
}

func (w *world) List(resource change.Resource, namespace string) iter.Seq[change.Object] {
	return func(yield func(change.Object) bool) {
		for _, key := range w.keys() {
			if key.Resource == resource && (namespace == "" || key.Namespace == namespace) && !yield(w.objects[key]) {
				return
			}
		}
	}
}

func (w *world) Len(resource change.Resource) (n int) {
	for range w.List(resource, "") {
		n++
	}
	return n
}

func (w *world) Owned(types.UID) iter.Seq2[change.Key, change.Object] {
	return func(func(change.Key, change.Object) bool) {}
}

func (w *world) Unread(string) iter.Seq[change.Key] { return func(func(change.Key) bool) {} }

func (w *world) Index(resource change.Resource, term string) iter.Seq[change.Object] {
	return func(yield func(change.Object) bool) {
		for obj := range w.List(resource, "") {
			if slices.Contains(kinds.Index(resource, obj), term) && !yield(obj) {
				return
			}
		}
	}
}
