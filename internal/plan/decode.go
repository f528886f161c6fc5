package plan

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/manifest"
)

// decode makes a typed object of one of a kind that the engine has.
func (p *planner) decode(in manifest.Object, k *kind.Kind, name string) *item {
	it := &item{in: in, kind: k, origin: name}
	obj, err := p.strictly(in)
	if err != nil {
		it.undecodable(err)
		p.errs = append(p.errs, it.errs...)
		return nil
	}
	it.obj = obj
	clean(obj)
	if k.Namespaced {
		if obj.GetNamespace() == "" {
			obj.SetNamespace(p.Namespace)
		}
	} else {
		obj.SetNamespace("")
	}
	switch obj := obj.(type) {
	case *batchv1.Job:
		it.role, it.pod, it.podPath = Work, &obj.Spec.Template, "spec.template"
	case *batchv1.CronJob:
		p.once(it, obj)
	case *corev1.Pod:
		it.role, it.pod = Work, &corev1.PodTemplateSpec{ObjectMeta: obj.ObjectMeta, Spec: obj.Spec}
		if obj.Spec.RestartPolicy == "" || obj.Spec.RestartPolicy == corev1.RestartPolicyAlways {
			it.role, it.pods = Companion, 1
		}
	}
	if slices.Contains(workloads, k.Resource) {
		p.workload(it)
	}
	if it.pod != nil {
		p.mountClaims(it)
		if pod, ok := it.obj.(*corev1.Pod); ok {
			pod.Spec = it.pod.Spec
		}
	}
	return it
}

// strictly decodes an object into the type of its kind's stored version.
func (p *planner) strictly(in manifest.Object) (kind.Object, error) {
	data, err := in.MarshalJSON()
	if err != nil {
		return nil, err
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, p.scheme, p.scheme, json.SerializerOptions{Strict: true})
	gvk := in.GroupVersionKind()
	decoded, _, err := decoder.Decode(data, &gvk, nil)
	if err != nil {
		return nil, err
	}
	k := p.kinds.ByGVK(gvk)
	stored := k.New()
	if reflect.TypeOf(decoded) == reflect.TypeOf(stored) {
		return decoded.(kind.Object), nil
	}
	if err := p.scheme.Convert(decoded, stored, nil); err != nil {
		return nil, err
	}
	return stored, nil
}

var wrongType = regexp.MustCompile(`json: cannot unmarshal (.+) into Go struct field \w+\.(\S+) of type (\S+)`)

// undecodable says field by field why an object cannot be read.
func (it *item) undecodable(err error) {
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		for _, err := range strict.Errors() {
			it.unknown(err.Error())
		}
		return
	}
	text := err.Error()
	if m := wrongType.FindStringSubmatch(text); m != nil {
		got, path, want := m[1], m[2], plainType(m[3])
		if want == "a text" {
			want += ": put it in quotes"
		}
		it.refuse(path, "is %s, and has to be %s", strings.TrimPrefix(article(got), "an object"), want)
		return
	}
	it.refuse("", "%s", text)
}

// unknown says that there is no such field, and which there is.
func (it *item) unknown(text string) {
	path, found := strings.CutPrefix(text, "unknown field ")
	if !found {
		it.refuse("", "%s", text)
		return
	}
	path = strings.Trim(path, `"`)
	hint := ""
	if near := nearestField(it.kind, path); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	it.refuse(path, "there is no such field%s", hint)
}

// nearestField returns the field beside the one that was meant, "" if none is like it.
func nearestField(k *kind.Kind, path string) string {
	t := reflect.TypeOf(k.New())
	steps := strings.Split(regexp.MustCompile(`\[[^]]*\]`).ReplaceAllString(path, ""), ".")
	for _, step := range steps[:len(steps)-1] {
		fields := fieldsOf(t)
		if t = fields[step]; t == nil {
			return ""
		}
	}
	wrong := steps[len(steps)-1]
	best, near := "", max(2, len(wrong)/4)+1
	for name := range fieldsOf(t) {
		if d := Distance(strings.ToLower(name), strings.ToLower(wrong)); d < near || d == near && name < best {
			best, near = name, d
		}
	}
	return best
}

// fieldsOf returns the fields of a type by their names in JSON.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	fields := map[string]reflect.Type{}
	if t.Kind() != reflect.Struct {
		return fields
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && (f.Anonymous || strings.Contains(options, "inline")) {
			for name, t := range fieldsOf(f.Type) {
				fields[name] = t
			}
		} else if name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}

// plainType names a type of Go for people who write YAML.
func plainType(t string) string {
	switch strings.TrimPrefix(t, "*") {
	case "string":
		return "a text"
	case "int32", "int64", "int":
		return "a number"
	case "bool":
		return "true or false"
	}
	switch {
	case strings.HasPrefix(t, "[]"):
		return "a list"
	case strings.HasPrefix(t, "map["):
		return "a map"
	}
	return "a " + t[strings.LastIndexByte(t, '.')+1:] + " with its fields"
}

func article(json string) string {
	switch {
	case json == "string":
		return "a text"
	case json == "bool":
		return "true or false"
	case json == "array":
		return "a list"
	case json == "object":
		return "a map"
	case strings.HasPrefix(json, "number"):
		return "a number"
	}
	return json
}

// sameContent: two objects of one name differ in nothing.
func sameContent(a, b *item) bool { return equality.Semantic.DeepEqual(a.obj, b.obj) }
