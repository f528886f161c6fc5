package kubediff

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// difference shows in what two answers differ, in lines of their own: "-" is only
// Kubernetes', "+" only ours.
func difference(got, want *answer) []string {
	if got.equal(want) {
		return nil
	}
	if strings.HasPrefix(want.Error, "panic: ") && !strings.HasPrefix(got.Error, "panic: ") {
		return []string{"Kubernetes panics: " + want.Error}
	}
	lines := missing("- cause ", want.Causes, got.Causes)
	lines = append(lines, missing("+ cause ", got.Causes, want.Causes)...)
	lines = append(lines, missing("- warning ", want.Warnings, got.Warnings)...)
	lines = append(lines, missing("+ warning ", got.Warnings, want.Warnings)...)
	lines = append(lines, objectDifference(got.Object, want.Object)...)
	if len(lines) > 0 {
		return lines
	}
	if got.Error != want.Error {
		lines = append(lines, "- error "+want.Error, "+ error "+got.Error)
	} else {
		lines = append(lines, fmt.Sprintf("order: - %q + %q", append(want.Causes, want.Warnings...), append(got.Causes, got.Warnings...)))
	}
	return lines
}

// missing are the lines of a that b lacks; equal ones count.
func missing(sign string, a, b []string) []string {
	var lines []string
	rest := slices.Clone(b)
	for _, line := range a {
		if i := slices.Index(rest, line); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
		} else {
			lines = append(lines, sign+line)
		}
	}
	return lines
}

func objectDifference(got, want runtime.Object) []string {
	if got == nil || want == nil {
		return nil // an error says more than that there is no object
	}
	var fields [2]any
	for i, object := range []runtime.Object{got, want} {
		if err := json.Unmarshal(encode(object), &fields[i]); err != nil {
			return []string{"object that is no JSON: " + err.Error()}
		}
	}
	return fieldDifference("", fields[0], fields[1])
}

// fieldDifference shows where two values differ, one line a field.
func fieldDifference(path string, got, want any) []string {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	g, gok := got.(map[string]any)
	w, wok := want.(map[string]any)
	if !gok || !wok {
		gl, gok := got.([]any)
		wl, wok := want.([]any)
		if !gok || !wok || len(gl) != len(wl) {
			return []string{fmt.Sprintf("object %s: - %v + %v", path, want, got)}
		}
		var lines []string
		for i := range gl {
			lines = append(lines, fieldDifference(fmt.Sprintf("%s[%d]", path, i), gl[i], wl[i])...)
		}
		return lines
	}
	var lines []string
	for key := range w {
		lines = append(lines, fieldDifference(path+"."+key, g[key], w[key])...)
	}
	for key := range g {
		if _, both := w[key]; !both {
			lines = append(lines, fieldDifference(path+"."+key, g[key], nil)...)
		}
	}
	return lines
}
