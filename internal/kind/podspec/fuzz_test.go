package podspec

import (
	"encoding/json"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// hollow fills every pointer with an empty value, every list with one empty
// element, and every map with one empty entry: all that can be there, with
// nothing in it. Types that contain themselves end at depth.
func hollow(v reflect.Value, depth int) {
	if depth == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		hollow(v.Elem(), depth-1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		hollow(v.Index(0), depth-1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				hollow(v.Field(i), depth-1)
			}
		}
	}
}

// everything does all that can be done with two pods.
func everything(pod, old *corev1.Pod) {
	DefaultPod(pod)
	Prepare(pod)
	ValidatePod(pod)
	Warnings(pod)
	update := pod.DeepCopy()
	PrepareUpdate(update, old)
	ValidatePodUpdate(update, old)
	PrepareStatus(update, old)
	ValidatePodStatus(update, old)
	tpl := &corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}
	was := &corev1.PodTemplateSpec{ObjectMeta: old.ObjectMeta, Spec: old.Spec}
	DefaultTemplate(tpl)
	ValidateTemplate(tpl, field.NewPath("spec", "template"), Options{})
	ValidateTemplate(tpl, field.NewPath("spec", "template"), Options{Old: &was.Spec, OldMeta: &was.ObjectMeta})
	TemplateWarnings(tpl, field.NewPath("spec", "template"))
	DropDisabledTemplate(tpl, was)
	DropDisabledTemplate(tpl, nil)
}

// FuzzPod looks for pods that no code here may fall over: whatever decodes.
func FuzzPod(f *testing.F) {
	for _, text := range []string{
		`{}`,
		`{"spec":{"containers":[{"name":"c","image":"busybox"}]}}`,
		`{"spec":{"containers":[{}],"initContainers":[{"restartPolicy":"Always"}],"ephemeralContainers":[{}],"volumes":[{}]}}`,
		`{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":null}}},"schedulingGates":[{}]}}`,
		`{"metadata":{"annotations":{"scheduler.alpha.kubernetes.io/tolerations":"[{}]"}},"spec":{"tolerations":[{}]}}`,
		`{"status":{"podIPs":[{}],"containerStatuses":[{"state":{"terminated":{}}}]}}`,
	} {
		f.Add(text, `{"spec":{"containers":[{"name":"c","image":"busybox"}]}}`)
		f.Add(`{}`, text)
	}
	if spec, err := yaml.YAMLToJSON([]byte(gatedSpec)); err == nil {
		f.Add(`{"spec":`+string(spec)+`}`, `{}`)
	}
	for depth := range 12 {
		pod := &corev1.Pod{}
		hollow(reflect.ValueOf(pod).Elem(), depth)
		if raw, err := json.Marshal(pod); err == nil {
			f.Add(string(raw), string(raw))
		}
	}
	f.Fuzz(func(t *testing.T, text, oldText string) {
		pod, old := &corev1.Pod{}, &corev1.Pod{}
		if json.Unmarshal([]byte(text), pod) != nil || json.Unmarshal([]byte(oldText), old) != nil {
			t.Skip()
		}
		DefaultPod(old)
		everything(pod, old)
		if raw, err := json.Marshal(Internal(*pod)); err != nil || !json.Valid(raw) {
			t.Errorf("%s, %v", raw, err)
		}
	})
}

// One part of a spec at a time is there, and hollow.
func TestHollowParts(t *testing.T) {
	t.Parallel()
	old := podOf(t, good)
	part := func(t *testing.T, set func(*corev1.Pod) reflect.Value) {
		for depth := range 10 {
			pod := podOf(t, good)
			hollow(set(pod), depth)
			everything(pod.DeepCopy(), old)
			everything(old.DeepCopy(), pod)
		}
	}
	for i := range reflect.TypeFor[corev1.PodSpec]().NumField() {
		part(t, func(p *corev1.Pod) reflect.Value { return reflect.ValueOf(&p.Spec).Elem().Field(i) })
	}
	for i := range reflect.TypeFor[corev1.Container]().NumField() {
		part(t, func(p *corev1.Pod) reflect.Value { return reflect.ValueOf(&p.Spec.Containers[0]).Elem().Field(i) })
	}
	for i := range reflect.TypeFor[corev1.VolumeSource]().NumField() {
		part(t, func(p *corev1.Pod) reflect.Value {
			p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
			return reflect.ValueOf(&p.Spec.Volumes[0].VolumeSource).Elem().Field(i)
		})
	}
	for i := range reflect.TypeFor[corev1.PodStatus]().NumField() {
		part(t, func(p *corev1.Pod) reflect.Value { return reflect.ValueOf(&p.Status).Elem().Field(i) })
	}
}
