package plan

import (
	"strings"
	"testing"

	"github.com/sampan-batch/sampan/internal/manifest"
)

// TestNodes: what can be said of a node beforehand, and nothing else; each fault with its place.
func TestNodes(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: v1\nkind: Node\n"
	for name, tc := range map[string]struct{ text, want string }{
		"a node":          {head + "metadata: {name: a, labels: {disk: ssd}}\nspec: {taints: [{key: k, effect: NoSchedule}], unschedulable: true}\nstatus: {capacity: {cpu: 4}}", ""},
		"a list":          {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: a}}\n- {apiVersion: v1, kind: Node, metadata: {name: b}}", ""},
		"no name":         {head + "metadata: {labels: {a: b}}", "metadata.name: a node needs a name"},
		"another kind":    {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}", "x:2: pod/p: kind: want a Node of v1"},
		"unknown field":   {head + "metadata: {name: a}\nspec:\n  tants: []", "x:5: node/a: spec.tants: there is no such field; did you mean taints?"},
		"wrong effect":    {head + "metadata: {name: a}\nspec:\n  taints:\n  - {key: k, effect: NoWay}", `Unsupported value: "NoWay"`},
		"wrong label":     {head + "metadata: {name: a, labels: {a: '-'}}", "x:3: node/a: metadata.labels: Invalid value"},
		"its own label":   {head + "metadata: {name: a, labels: {kubernetes.io/os: plan9}}", "kubernetes.io/os is the node's own to set"},
		"its own status":  {head + "metadata: {name: a}\nstatus:\n  addresses: [{type: InternalIP, address: 10.0.0.1}]", "x:5: node/a: status.addresses: comes about while the node runs"},
		"nothing":         {head + "metadata: {name: a}\nstatus: {capacity: {cpu: 0}}", "status.capacity.cpu: has to be more than nothing"},
		"too much of it":  {head + "metadata: {name: a}\nstatus: {capacity: {cpu: 1}, allocatable: {cpu: 2}}", "status.allocatable.cpu: is more than the node has: 2 of 1"},
		"too long":        {head + "metadata: {name: " + strings.Repeat("a", 64) + "}", "it is the value of the label kubernetes.io/hostname, too"},
		"a path":          {head + "metadata: {name: ../x}", "metadata.name: Invalid value"},
		"the same twice":  {head + "metadata: {name: a}\n---\n" + head + "metadata: {name: a}", "x:7: node/a: metadata.name: the name is taken: x:3 has the same"},
		"far too many":    {strings.Repeat(head+"metadata: {name: a}\n---\n", 5), "there can be at most 3 nodes"},
		"wrong type":      {head + "metadata: {name: a}\nspec: {unschedulable: 7}", "spec.unschedulable"},
		"not a quantity":  {head + "metadata: {name: a}\nstatus: {capacity: {cpu: many}}", "quantities must match"},
		"kept by someone": {head + "metadata: {name: a, finalizers: [x/y]}", "metadata.finalizers: comes about"},
	} {
		input, err := manifest.Decode("x", []byte(tc.text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		nodes, err := Nodes(input, 3)
		switch {
		case tc.want == "" && (err != nil || len(nodes) != len(input)):
			t.Errorf("%s: %d nodes, %v", name, len(nodes), err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}
