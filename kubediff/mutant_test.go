package kubediff

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"iter"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A mutant is a change of an object in one place.
type mutant struct {
	path string
	edit func(runtime.Object)
}

// asItIs changes nothing.
var asItIs = mutant{"as it is", func(runtime.Object) {}}

// An extent is how much is changed.
type extent struct {
	// depth is how deep paths go that are not there: 0 is that no field is added.
	depth int
	// values are how many of those that are for it a place gets at least, places that are
	// not there, and how many keys are added to a map.
	values, absent, keys int
	// rest: some of the other values, too.
	rest bool
}

var (
	every    = flag.Int("every", 64, "give a field one of so many values, 1 is all of them: takes hours")
	present  = extent{values: 6, keys: len(keys), rest: true}                      // what is there
	whole    = extent{depth: 4, values: 6, absent: 2, keys: len(keys), rest: true} // and what could be
	outlined = extent{depth: 1, values: 2, absent: 1, keys: 2}
)

// mutants are the changes of an object to one place. None comes to the object as it is:
// what JSON has several forms for (a field that is empty, null, or left out) is one change.
func mutants(object runtime.Object, e extent) iter.Seq[mutant] {
	return func(yield func(mutant) bool) {
		g := &generator{extent: e, yield: yield}
		old := reflect.ValueOf(object).Elem()
		g.value(place{t: old.Type(), old: old, edit: func(object runtime.Object, change func(reflect.Value)) {
			change(reflect.ValueOf(object).Elem())
		}})
	}
}

// place is where an object is changed.
type place struct {
	t    reflect.Type
	path string
	old  reflect.Value // what is there; invalid: nothing
	// edit hands change the place in an object, which gets one if it has none.
	edit  func(object runtime.Object, change func(reflect.Value))
	depth int // of what is not there
}

type generator struct {
	extent
	yield func(mutant) bool
	done  bool
}

// change makes one mutant.
func (g *generator) change(path string, edit func(runtime.Object)) {
	if !g.done && !g.yield(mutant{path, edit}) {
		g.done = true
	}
}

// put makes the mutant that has v in a place, unless it has it there.
func (g *generator) put(p place, v reflect.Value) {
	if p.old.IsValid() && reflect.DeepEqual(p.old.Interface(), v.Interface()) || !p.old.IsValid() && v.IsZero() {
		return
	}
	shown := any("nothing")
	if in := reflect.Indirect(v); in.IsValid() {
		shown = in
	}
	g.change(fmt.Sprintf("%s=%v", p.path, shown), func(object runtime.Object) {
		p.edit(object, func(at reflect.Value) { at.Set(v) })
	})
}

// sampled reports whether a place gets the value of this number. The first ones are for
// all, of the others every place has its own choice, always the same.
func (g *generator) sampled(p place, number int) bool {
	first, of := g.values, *every
	if !p.old.IsValid() {
		first, of = g.absent, 8*of
	}
	if number < first || g.rest && *every <= 1 {
		return true
	}
	h := fnv.New32a()
	fmt.Fprint(h, p.path, number)
	return g.rest && h.Sum32()%uint32(of) == 0
}

// value makes all mutants of a place, and of those in it. To empty it is up to who has it.
func (g *generator) value(p place) {
	if g.done || !p.old.IsValid() && p.depth > g.depth {
		return
	}
	if values, leaf := leaves(p.t); leaf {
		for i, v := range values {
			if v.IsValid() && !v.IsZero() && g.sampled(p, i) {
				g.put(p, v)
			}
		}
		return
	}
	switch p.t.Kind() {
	case reflect.Pointer:
		if p.path != "" {
			g.put(p, reflect.New(p.t.Elem()))
		}
		g.value(p.elem())
	case reflect.Struct:
		g.object(p)
	case reflect.Slice:
		g.list(p)
	case reflect.Map:
		g.mapping(p)
	}
}

// elem is what a pointer points at.
func (p place) elem() place {
	in := p
	in.t, in.old = p.t.Elem(), reflect.Value{}
	if p.old.IsValid() {
		in.old = p.old.Elem()
	}
	in.edit = func(object runtime.Object, change func(reflect.Value)) {
		p.edit(object, func(at reflect.Value) {
			if at.IsNil() {
				at.Set(reflect.New(in.t))
			}
			change(at.Elem())
		})
	}
	return in
}

// object changes the fields of a struct, one at a time.
func (g *generator) object(p place) {
	for _, f := range fieldsOf(p.t) {
		path := strings.TrimPrefix(p.path+"."+f.name, ".")
		if path == "apiVersion" || path == "kind" {
			continue
		}
		in := place{t: f.t, path: path, depth: p.depth, edit: func(object runtime.Object, change func(reflect.Value)) {
			p.edit(object, func(at reflect.Value) { change(at.FieldByIndex(f.index)) })
		}}
		empty := !p.old.IsValid() || p.old.FieldByIndex(f.index).IsZero()
		if empty {
			in.depth++
		}
		if !empty || p.old.IsValid() && f.always {
			in.old = p.old.FieldByIndex(f.index)
			g.put(in, reflect.Zero(f.t))
		}
		g.value(in)
	}
}

// list changes the elements of a list, one at a time, and how many there are.
func (g *generator) list(p place) {
	g.put(p, reflect.MakeSlice(p.t, 0, 0))
	count := 0
	if p.old.IsValid() {
		count = p.old.Len()
	}
	for i := range count {
		in := place{t: p.t.Elem(), path: fmt.Sprintf("%s[%d]", p.path, i), old: p.old.Index(i), depth: p.depth, edit: func(object runtime.Object, change func(reflect.Value)) {
			p.edit(object, func(at reflect.Value) { change(at.Index(i)) })
		}}
		g.put(in, reflect.Zero(in.t))
		g.value(in)
		g.change(in.path+" removed", func(object runtime.Object) {
			p.edit(object, func(at reflect.Value) { at.Set(reflect.AppendSlice(at.Slice3(0, i, i), at.Slice(i+1, count))) })
		})
		g.change(in.path+" doubled", func(object runtime.Object) {
			p.edit(object, func(at reflect.Value) { at.Set(reflect.Append(at, at.Index(i))) })
		})
	}
	if count == 0 {
		in := place{t: p.t.Elem(), path: p.path + "[new]", depth: p.depth, edit: func(object runtime.Object, change func(reflect.Value)) {
			p.edit(object, func(at reflect.Value) {
				at.Set(reflect.MakeSlice(p.t, 1, 1))
				change(at.Index(0))
			})
		}}
		g.change(in.path, func(object runtime.Object) { in.edit(object, func(reflect.Value) {}) })
		g.value(in)
	}
}

// mapping changes the values of a map, one at a time, and adds keys.
func (g *generator) mapping(p place) {
	g.put(p, reflect.MakeMap(p.t))
	if p.old.IsValid() {
		for _, key := range slices.SortedFunc(slices.Values(p.old.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			in := p.at(key)
			in.old = p.old.MapIndex(key)
			g.change(in.path+" removed", func(object runtime.Object) {
				p.edit(object, func(at reflect.Value) { at.SetMapIndex(key, reflect.Value{}) })
			})
			g.put(in, reflect.Zero(in.t))
			g.value(in)
		}
	}
	values, leaf := leaves(p.t.Elem())
	if !leaf {
		return
	}
	for _, key := range keys[:g.keys] {
		in := p.at(reflect.ValueOf(key).Convert(p.t.Key()))
		g.change(in.path, func(object runtime.Object) {
			in.edit(object, func(at reflect.Value) { at.Set(values[0]) })
		})
	}
}

// at is the value of a key of a map.
func (p place) at(key reflect.Value) place {
	return place{t: p.t.Elem(), path: p.path + "[" + key.String() + "]", depth: p.depth, edit: func(object runtime.Object, change func(reflect.Value)) {
		p.edit(object, func(at reflect.Value) {
			if at.IsNil() {
				at.Set(reflect.MakeMap(p.t))
			}
			value := reflect.New(p.t.Elem()).Elem()
			if old := at.MapIndex(key); old.IsValid() {
				value.Set(old)
			}
			change(value)
			at.SetMapIndex(key, value)
		})
	}}
}

// structField is a field as JSON has it.
type structField struct {
	name   string
	t      reflect.Type
	index  []int
	always bool // it is there when it is empty, too
}

// fieldsOf are the fields of a struct, and of those that are inlined in it.
func fieldsOf(t reflect.Type) []structField {
	var all []structField
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || name == "managedFields":
		case name == "":
			for _, in := range fieldsOf(f.Type) {
				in.index = append([]int{i}, in.index...)
				all = append(all, in)
			}
		default:
			all = append(all, structField{name, f.Type, []int{i}, f.Type.Kind() == reflect.Struct || !strings.Contains(options, "omitempty")})
		}
	}
	return all
}

var (
	quantityType = reflect.TypeFor[resource.Quantity]()
	eitherType   = reflect.TypeFor[intstr.IntOrString]()
	timeType     = reflect.TypeFor[metav1.Time]()
	microType    = reflect.TypeFor[metav1.MicroTime]()
	bytesType    = reflect.TypeFor[[]byte]()
)

var values sync.Map // by type: what leaves returns

// leaves are the values that a place of type t gets, if it has no places in it. Those
// that a t cannot be are invalid.
func leaves(t reflect.Type) ([]reflect.Value, bool) {
	if known, ok := values.Load(t); ok {
		return known.([]reflect.Value), true
	}
	words, leaf := wordsFor(t)
	if !leaf {
		return nil, false
	}
	all := make([]reflect.Value, len(words))
	for i, word := range words {
		text, err := json.Marshal(word)
		if err != nil {
			panic(err)
		}
		if v := reflect.New(t); json.Unmarshal(text, v.Interface()) == nil {
			all[i] = v.Elem()
		}
	}
	values.Store(t, all)
	return all, true
}

func wordsFor(t reflect.Type) ([]any, bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case quantityType:
		return quantities, true
	case eitherType:
		return append(slices.Clone(numbers), words...), true
	case timeType, microType:
		return times, true
	case bytesType:
		return []any{"", "YQ=="}, true
	}
	switch t.Kind() {
	case reflect.String:
		return words, true
	case reflect.Bool:
		return []any{false, true}, true
	case reflect.Int, reflect.Int32, reflect.Int64:
		return numbers, true
	}
	return nil, false
}
