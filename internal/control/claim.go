package control

import (
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/claim"
	"github.com/sampan-batch/sampan/internal/kind"
)

func claimState(kinds *kind.Kinds, view change.View, volumes string, refused error) claim.State {
	return claim.State{
		View: view, Dir: volumes, Refused: refused,
		ClaimKind: kinds.ByResource(kind.PersistentVolumeClaims), VolumeKind: kinds.ByResource(kind.PersistentVolumes),
	}
}

// prepareVolumes does to the directories of volumes what has to be done before set is applied. When
// one cannot be made, the set is to be decided again in this knowledge.
func (l *Loop) prepareVolumes(set *change.Set) error {
	if l.Volumes == nil {
		return nil
	}
	for i := range set.Writes {
		w := &set.Writes[i]
		if w.Key.Resource != kind.PersistentVolumes {
			continue
		}
		next, _ := w.Object.(*corev1.PersistentVolume)
		if w.Op == change.Create {
			if path, ours := claim.DirectoryOf(l.Volumes.Dir(), next); ours {
				if err := l.Volumes.Make(filepath.Base(path)); err != nil {
					return &change.Refusal{Err: err}
				}
			}
			continue
		}
		old, ok := l.Source.View().Get(w.Key)
		if !ok || change.RevOf(old) != w.Rev {
			continue // the set is too late
		}
		if path, takes := claim.TakesDirectory(l.Volumes.Dir(), old.(*corev1.PersistentVolume), next); takes {
			if err := l.Volumes.Remove(filepath.Base(path)); err != nil {
				return fmt.Errorf("remove the directory of %s: %w", w.Key, err)
			}
		}
	}
	return nil
}

// claimController binds claims that wait for no pod, and looks after all of them.
func claimController(kinds *kind.Kinds, volumes string) Controller {
	k := kinds.ByResource(kind.PersistentVolumeClaims)
	return Controller{
		Name: "claim",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			addAll := func(term string) {
				for obj := range view.Index(k.Resource, term) {
					add(k.KeyOf(obj))
				}
			}
			switch obj := ev.Object.(type) {
			case *corev1.PersistentVolumeClaim:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case *corev1.PersistentVolume:
				addAll(kind.VolumeClaims(obj.Name))
				if ref := obj.Spec.ClaimRef; ref != nil {
					add(k.Key(ref.Namespace, ref.Name))
				} else if ev.Op != change.Delete {
					addAll(kind.OpenClaims(volume.GetPersistentVolumeClass(obj)))
				}
			case *storagev1.StorageClass:
				addAll(kind.OpenClaims(obj.Name))
				addAll(kind.OpenClaims("")) // it may be the default
			case *corev1.Pod:
				claimsOf(ev, obj, func(name string) { add(k.Key(obj.Namespace, name)) })
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return claim.Decide(now, claimState(kinds, view, volumes, refused), obj.(*corev1.PersistentVolumeClaim))
		},
	}
}

// claimsOf calls add with the claims of a pod that has appeared, been given a node, ended, or gone.
func claimsOf(ev change.Event, pod *corev1.Pod, add func(name string)) {
	if prev, ok := ev.Prev.(*corev1.Pod); ok && ev.Op == change.Update && prev.Spec.NodeName == pod.Spec.NodeName && kind.PodEnded(prev) == kind.PodEnded(pod) {
		return
	}
	for i := range pod.Spec.Volumes {
		if name := kind.ClaimName(pod, &pod.Spec.Volumes[i]); name != "" {
			add(name)
		}
	}
}

// volumeController looks after volumes.
func volumeController(kinds *kind.Kinds, volumes string) Controller {
	k := kinds.ByResource(kind.PersistentVolumes)
	return Controller{
		Name: "volume",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch obj := ev.Object.(type) {
			case *corev1.PersistentVolume:
				if ev.Op != change.Delete {
					add(ev.Key)
				}
			case *corev1.PersistentVolumeClaim:
				for v := range view.Index(k.Resource, kind.ClaimVolumes(obj.Namespace, obj.Name)) {
					add(k.KeyOf(v))
				}
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return claim.DecideVolume(now, claimState(kinds, view, volumes, refused), obj.(*corev1.PersistentVolume))
		},
	}
}

// ephemeralController makes the claims of pods' ephemeral volumes. Its keys are pods.
func ephemeralController(kinds *kind.Kinds, volumes string) Controller {
	k := kinds.ByResource(kind.Pods)
	return Controller{
		Name: "ephemeral-volume",
		Dirties: func(view change.View, ev change.Event, add func(change.Key)) {
			switch obj := ev.Object.(type) {
			case *corev1.Pod:
				for i := range obj.Spec.Volumes {
					if obj.Spec.Volumes[i].Ephemeral != nil && ev.Op == change.Create {
						add(ev.Key)
						return
					}
				}
			case *corev1.PersistentVolumeClaim:
				if ev.Op == change.Delete {
					controllersOf(k, ev, add)
				}
			}
		},
		Decide: func(now time.Time, view change.View, key change.Key, refused error) change.Set {
			obj, ok := view.Get(key)
			if !ok {
				return change.Set{}
			}
			return claim.DecidePod(now, claimState(kinds, view, volumes, refused), obj.(*corev1.Pod))
		},
	}
}
