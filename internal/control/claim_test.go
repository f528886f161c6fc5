package control

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// directories are those of volumes, without a disk.
type directories struct {
	mu    sync.Mutex
	has   map[string]bool
	fails error
	look  func(what, name string) // is called before something is done
}

func (d *directories) Dir() string { return "/data/volumes" }

func (d *directories) Make(name string) error { return d.do("make", name, true) }

func (d *directories) Remove(name string) error { return d.do("remove", name, false) }

func (d *directories) do(what, name string, exists bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.look != nil {
		d.look(what, name)
	}
	if d.fails != nil {
		return d.fails
	}
	if d.has[name] = exists; !exists {
		delete(d.has, name)
	}
	return nil
}

func (d *directories) set(fails error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = fails
}

func (d *directories) list() (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.has {
		names = append(names, name)
	}
	return names
}

// claims prepares a bundle for claims: a node, and the class that is the default one.
func (b *bundle) claims() {
	b.namespace("default")
	b.node("n")
	b.update(kind.Nodes.Key("", "n"), func(obj change.Object) { obj.SetLabels(map[string]string{corev1.LabelHostname: "n"}) })
	b.put(kind.StorageClasses, &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{kind.DefaultClassAnnotation: "true"}},
		Provisioner: kind.LocalPath, VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
	})
}

func (b *bundle) claim(name string) *corev1.PersistentVolumeClaim {
	return at[*corev1.PersistentVolumeClaim](b.store.View(), kind.PersistentVolumeClaims, "default", name)
}

func (b *bundle) volume(name string) *corev1.PersistentVolume {
	return at[*corev1.PersistentVolume](b.store.View(), kind.PersistentVolumes, "", name)
}

func (b *bundle) newClaim(name string) *corev1.PersistentVolumeClaim {
	b.t.Helper()
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To("standard"),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	b.put(kind.PersistentVolumeClaims, c)
	return c
}

func podOf(name string, volumes ...corev1.VolumeSource) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: newJob("j").Spec.Template.Spec}
	for i, v := range volumes {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", i), VolumeSource: v})
	}
	return p
}

func ofClaim(name string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

func (b *bundle) said(of, reason string) (messages []string) {
	for obj := range b.store.View().List(kind.Events, "") {
		if ev := obj.(*corev1.Event); ev.InvolvedObject.Name == of && ev.Reason == reason {
			messages = append(messages, ev.Message)
		}
	}
	return messages
}

// A directory is there before its volume is, and goes before that does.
func TestAClaimsLife(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.claims()
		b.newClaim("c")
		b.settle()
		if got := b.volumes.list(); len(got) > 0 || b.claim("c").Status.Phase != corev1.ClaimPending {
			t.Fatalf("before its pod it is %s, with %v", b.claim("c").Status.Phase, got)
		}
		b.volumes.look = func(what, name string) {
			if exists := b.volume(name) != nil; exists != (what == "remove") {
				t.Errorf("%s %s: the volume is there: %v", what, name, exists)
			}
		}
		b.create(podOf("p", ofClaim("c")))
		b.settle()
		c := b.claim("c")
		v := b.volume(c.Spec.VolumeName)
		if v == nil || c.Status.Phase != corev1.ClaimBound || v.Status.Phase != corev1.VolumeBound || v.Spec.ClaimRef.UID != c.UID {
			t.Fatalf("claim %+v, volume %+v", c, v)
		}
		if got, want := b.volumes.list(), []string{v.Name}; !slices.Equal(got, want) {
			t.Errorf("directories %v, want %v", got, want)
		}
		if p := b.pods("default")[0]; p.Spec.NodeName != "n" {
			t.Errorf("the pod is on %q", p.Spec.NodeName)
		}
		remove := func(key change.Key) {
			obj, _ := b.store.View().Get(key)
			w, ok := b.kinds.ByResource(key.Resource).Removal(obj, change.RevOf(obj), time.Now(), ptr.To[int64](0))
			if !ok {
				t.Fatalf("%s is being deleted", key)
			}
			b.apply(change.Set{Writes: []change.Write{w}})
			b.settle()
		}
		remove(kind.PersistentVolumeClaims.Key("default", "c"))
		if b.claim("c") == nil || len(b.volumes.list()) != 1 {
			t.Error("its pod did not keep it")
		}
		remove(kind.Pods.Key("default", "p"))
		if b.claim("c") != nil || b.volume(v.Name) != nil || len(b.volumes.list()) > 0 {
			t.Errorf("left are %+v, %+v, %v", b.claim("c"), b.volume(v.Name), b.volumes.list())
		}
	})
}

// Pod, claim and volume are bound in one commit.
func TestBoundInOneCommit(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.claims()
		b.newClaim("c")
		b.settle()
		w, err := b.store.Watch("", b.store.View().Rev())
		if err != nil {
			t.Fatal(err)
		}
		b.create(podOf("p", ofClaim("c")))
		b.settle()
		revs := map[string]uint64{}
		events, _, err := w.Next(t.Context())
		for err == nil && len(revs) < 3 {
			for _, ev := range events {
				switch obj := ev.Object.(type) {
				case *corev1.Pod:
					if obj.Spec.NodeName != "" && revs["pod"] == 0 {
						revs["pod"] = ev.Rev
					}
				case *corev1.PersistentVolumeClaim:
					if obj.Spec.VolumeName != "" && revs["claim"] == 0 {
						revs["claim"] = ev.Rev
					}
				case *corev1.PersistentVolume:
					if revs["volume"] == 0 {
						revs["volume"] = ev.Rev
					}
				}
			}
			if len(revs) < 3 {
				events, _, err = w.Next(t.Context())
			}
		}
		// The writes of a commit have revisions that follow each other.
		all := slices.Sorted(maps.Values(revs))
		if err != nil || len(all) != 3 || all[2]-all[0] != 2 {
			t.Errorf("bound at %v, %v", revs, err)
		}
	})
}

// A disk that is full is said to claim and pod, and tried again.
func TestNoRoomForAVolume(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.claims()
		b.newClaim("c")
		b.volumes.set(syscall.ENOSPC)
		b.create(podOf("p", ofClaim("c")))
		b.create(podOf("q"))
		b.settle()
		const why = `failed to provision volume with StorageClass "standard": no space left on device`
		if got := b.said("c", "ProvisioningFailed"); len(got) == 0 || got[0] != why {
			t.Errorf("said of the claim: %q", got)
		}
		const unbound = `running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "c"`
		if got := b.said("p", "FailedScheduling"); !slices.Equal(got, []string{unbound}) {
			t.Errorf("said of the pod: %q", got)
		}
		if b.volume("pvc-"+string(b.claim("c").UID)) != nil || b.claim("c").Status.Phase != corev1.ClaimPending {
			t.Errorf("the claim is %+v", b.claim("c").Status)
		}
		b.volumes.set(nil)
		time.Sleep(11 * time.Second)
		b.settle()
		if got := b.claim("c").Status.Phase; got != corev1.ClaimBound {
			t.Errorf("when there is room, the claim is %s", got)
		}
		for _, p := range b.pods("default") {
			if p.Spec.NodeName != "n" {
				t.Errorf("%s is on %q", p.Name, p.Spec.NodeName)
			}
		}
	})
}

// A quota counts the claims of ephemeral volumes, and the pod gets them when there is room.
func TestQuotaOfEphemeralVolumes(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.claims()
		quota := kind.ResourceQuotas.Key("default", "q")
		limit := func(storage string) corev1.ResourceList {
			return corev1.ResourceList{
				corev1.ResourceRequestsStorage:                          resource.MustParse(storage),
				corev1.ResourcePersistentVolumeClaims:                   resource.MustParse("2"),
				"standard.storageclass.storage.k8s.io/requests.storage": resource.MustParse("5Gi"),
			}
		}
		b.put(kind.ResourceQuotas, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: limit("1500Mi")}})
		ephemeral := corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		}}}
		b.create(podOf("p", ephemeral, ephemeral))
		b.settle()
		if b.claim("p-v0") == nil || b.claim("p-v1") != nil {
			t.Fatalf("claims %v, %v", b.claim("p-v0"), b.claim("p-v1"))
		}
		got := b.said("p", "FailedBinding")
		if len(got) != 1 || !strings.HasPrefix(got[0], `ephemeral volume v1: create PVC p-v1: persistentvolumeclaims "p-v1" is forbidden: exceeded quota: q, requested: requests.storage=1Gi, used: requests.storage=1Gi, limited: requests.storage=1500Mi`) {
			t.Errorf("said of the pod: %q", got)
		}
		old := at[*corev1.ResourceQuota](b.store.View(), kind.ResourceQuotas, "default", "q")
		more := old.DeepCopy()
		more.Spec.Hard = limit("3Gi")
		b.apply(change.Set{Writes: []change.Write{{Op: change.Update, Key: quota, Rev: change.RevOf(old), Object: more}}})
		time.Sleep(11 * time.Second)
		b.settle()
		q := at[*corev1.ResourceQuota](b.store.View(), kind.ResourceQuotas, "default", "q").Status.Used
		if b.pods("default")[0].Spec.NodeName != "n" || q.Name(corev1.ResourceRequestsStorage, resource.BinarySI).String() != "2Gi" {
			t.Errorf("the pod is on %q, used is %v", b.pods("default")[0].Spec.NodeName, q)
		}
		class := q["standard.storageclass.storage.k8s.io/requests.storage"]
		if class.String() != "2Gi" {
			t.Errorf("used of the class: %s", class.String())
		}
	})
}
