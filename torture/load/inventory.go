package load

import (
	"context"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/torture/model"
	"github.com/sampan-batch/sampan/torture/victim"
)

// Fill creates n ConfigMaps of several sizes, a Secret for every tenth and a
// suspended Job for every twentieth.
func Fill(ctx context.Context, v *victim.Victim, seed uint64, n int) error {
	if err := EnsureNamespace(ctx, v); err != nil {
		return err
	}
	dynamic, err := v.Dynamic()
	if err != nil {
		return err
	}
	client, err := v.Client()
	if err != nil {
		return err
	}
	random := Random(seed, "fill")
	for i := range n {
		name := fmt.Sprintf("fill-%04d", i)
		body := strings.Repeat("x", random.IntN(1500))
		if i%50 == 0 {
			body = strings.Repeat("y", 20000) // pages with an overflow
		}
		if _, err := apiOf(dynamic, configMaps).create(ctx, name, name, body); err != nil {
			return err
		}
		if i%10 == 0 {
			if _, err := apiOf(dynamic, secrets).create(ctx, name, name, body); err != nil {
				return err
			}
		}
		if i%20 == 0 {
			c := corev1.Container{Name: "c", Image: "none"}
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{valueKey: name}}, Spec: batchv1.JobSpec{
				Suspend: ptr.To(true), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{c}}},
			}}
			if _, err := client.BatchV1().Jobs(Namespace).Create(ctx, job, metav1.CreateOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Change updates some of what Fill has created, and deletes some.
func Change(ctx context.Context, v *victim.Victim, seed uint64, n int) error {
	dynamic, err := v.Dynamic()
	if err != nil {
		return err
	}
	random := Random(seed, "change")
	a := apiOf(dynamic, configMaps)
	_, all, err := a.list(ctx)
	if err != nil {
		return err
	}
	for i := range n {
		name := fmt.Sprintf("fill-%04d", random.IntN(damageable(all)))
		known, ok := all[a.resource+"/"+name]
		switch {
		case !ok:
			known, err = a.create(ctx, name, fmt.Sprintf("again-%d", i), "")
		case random.IntN(10) == 0:
			if err = a.delete(ctx, name, known); err == nil {
				delete(all, a.resource+"/"+name)
				continue
			}
		default:
			known, err = a.update(ctx, name, known, fmt.Sprintf("changed-%d-%d", i, known.Rev), strings.Repeat("z", random.IntN(1500)))
		}
		if err != nil {
			return err
		}
		all[a.resource+"/"+name] = known
	}
	return nil
}

// damageable is how many names there are to choose from.
func damageable(all map[string]model.State) int { return max(20, len(all)) }

// Inventory lists everything that users have in an engine: by resource/name, what a
// client can see of it.
func Inventory(ctx context.Context, v *victim.Victim) (map[string]string, error) {
	dynamic, err := v.Dynamic()
	if err != nil {
		return nil, err
	}
	inventory := map[string]string{}
	for _, resource := range []string{configMaps, secrets, jobs} {
		_, all, err := apiOf(dynamic, resource).list(ctx)
		if err != nil {
			return nil, err
		}
		for key, state := range all {
			inventory[key] = fmt.Sprintf("%s@%d %s", state.Value, state.Rev, state.UID)
		}
	}
	return inventory, nil
}
