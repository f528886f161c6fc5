package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Record is what a run was to do, for one that is to go on with it.
type Record struct {
	// Runtime is the class of pods that name none.
	Runtime string     `json:"runtime"`
	Objects []Recorded `json:"objects"`
}

// Recorded is an object of a run.
type Recorded struct {
	Name   string `json:"name"` // "job/default/import"
	Digest string `json:"digest"`
	// Content is left out of what is secret.
	Content json.RawMessage `json:"content,omitempty"`
}

// Record returns what the plan does with pods of a class.
func (p *Plan) Record(runtime string) (*Record, error) {
	r := &Record{Runtime: runtime}
	for _, o := range p.Objects {
		content, err := json.Marshal(o.Object)
		if err != nil {
			return nil, err
		}
		digest := sha256.Sum256(content)
		name := strings.ToLower(o.Kind.GVK.Kind) + "/" + o.GetNamespace() + "/" + o.GetName()
		if _, secret := o.Object.(*corev1.Secret); secret {
			content = nil
		}
		r.Objects = append(r.Objects, Recorded{name, hex.EncodeToString(digest[:]), content})
	}
	return r, nil
}

// Changes says what is another in now than it was, a line each.
func (r *Record) Changes(now *Record) []string {
	var all []string
	if r.Runtime != now.Runtime {
		all = append(all, fmt.Sprintf("--runtime is %s, and was %s", now.Runtime, r.Runtime))
	}
	before := make(map[string]Recorded, len(r.Objects))
	for _, o := range r.Objects {
		before[o.Name] = o
	}
	for _, o := range now.Objects {
		old, known := before[o.Name]
		delete(before, o.Name)
		switch {
		case !known:
			all = append(all, o.Name+" is new")
		case old.Digest != o.Digest:
			all = append(all, o.Name+": "+difference(old.Content, o.Content))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		all = append(all, name+" is not there any more")
	}
	return all
}

// difference says where two objects differ first.
func difference(before, now json.RawMessage) string {
	var a, b any
	if json.Unmarshal(before, &a) != nil || json.Unmarshal(now, &b) != nil {
		return "is another one"
	}
	path, a, b := firstDifference("", a, b)
	return fmt.Sprintf("%s is %s, and was %s", path, brief(b), brief(a))
}

func firstDifference(path string, a, b any) (string, any, any) {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			break
		}
		keys := maps.Clone(a)
		maps.Copy(keys, b)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if !same(a[key], b[key]) {
				return firstDifference(join(path, key), a[key], b[key])
			}
		}
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			break
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return firstDifference(path+"["+strconv.Itoa(i)+"]", a[i], b[i])
			}
		}
	}
	return path, a, b
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func same(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// brief is a value, as far as it is worth quoting.
func brief(value any) string {
	if value == nil {
		return "not set"
	}
	text, _ := json.Marshal(value)
	const most = 60
	if r := []rune(string(text)); len(r) > most {
		return string(r[:most]) + "…"
	}
	return string(text)
}
