package podspec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// Internal returns v in the form in which Kubernetes prints it inside an error:
// "Invalid value: …" shows kube-apiserver's internal types, which have no JSON
// tags. So the keys are Go's field names, nothing is left out, and nil lists
// are null; only what comes from apimachinery (metadata, times, quantities,
// selectors) is in its usual form.
//
// Since Kubernetes 1.37 the internal types of pods and templates have the
// fields of core/v1, in the same order, which is what makes this possible.
func Internal(v any) any {
	return internalForm{v}
}

type internalForm struct{ value any }

// MarshalJSON implements json.Marshaler.
func (f internalForm) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	if err := writeInternal(&buf, reflect.ValueOf(f.value)); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// internalPackages are those whose versioned types have an internal twin.
const internalPackages = "k8s.io/api/"

// writeInternal writes v: structs of the API's own groups by Go field names,
// everything else as encoding/json does.
func writeInternal(buf *bytes.Buffer, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Invalid:
		buf.WriteString("null")
		return nil
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			buf.WriteString("null")
			return nil
		}
		if v.Kind() == reflect.Interface || isInternal(v.Type().Elem()) {
			return writeInternal(buf, v.Elem())
		}
	case reflect.Struct:
		if isInternal(v.Type()) {
			buf.WriteByte('{')
			first := true
			err := writeFields(buf, v, &first)
			buf.WriteByte('}')
			return err
		}
	case reflect.Slice:
		if !v.IsNil() && containsInternal(v.Type().Elem()) {
			return writeList(buf, v)
		}
	}
	raw, err := json.Marshal(v.Interface())
	buf.Write(raw)
	return err
}

func writeList(buf *bytes.Buffer, v reflect.Value) error {
	buf.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			buf.WriteByte(',')
		}
		if err := writeInternal(buf, v.Index(i)); err != nil {
			return err
		}
	}
	buf.WriteByte(']')
	return nil
}

// writeFields writes the fields of a struct; those of an embedded struct stand
// among them.
func writeFields(buf *bytes.Buffer, v reflect.Value, first *bool) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			if err := writeEmbedded(buf, v.Field(i), first); err != nil {
				return err
			}
			continue
		}
		if !*first {
			buf.WriteByte(',')
		}
		*first = false
		key, _ := json.Marshal(f.Name)
		buf.Write(key)
		buf.WriteByte(':')
		if err := writeInternal(buf, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// writeEmbedded writes an embedded struct without its braces: metadata with
// its JSON names, the API's own types with Go names.
func writeEmbedded(buf *bytes.Buffer, v reflect.Value, first *bool) error {
	if isInternal(v.Type()) {
		return writeFields(buf, v, first)
	}
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		return err
	}
	inner := bytes.TrimSuffix(bytes.TrimPrefix(raw, []byte("{")), []byte("}"))
	if len(inner) == 0 {
		return nil
	}
	if !*first {
		buf.WriteByte(',')
	}
	*first = false
	buf.Write(inner)
	return nil
}

func isInternal(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasPrefix(t.PkgPath(), internalPackages)
}

func containsInternal(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return isInternal(t)
}
