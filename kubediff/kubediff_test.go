package kubediff

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"sigs.k8s.io/yaml"
)

// manifest is one of those that are changed.
type manifest struct {
	name   string
	extent extent
	gvk    schema.GroupVersionKind
	object runtime.Object
}

// manifests are those of the resources that are compared.
func manifests(t *testing.T) []manifest {
	t.Helper()
	var all []manifest
	for _, pattern := range []string{"testdata/*.yaml", "../internal/kind/testdata/create/*.input.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no manifests (%v)", pattern, err)
		}
		for _, file := range files {
			m, err := readManifest(file)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if m.extent = present; strings.HasPrefix(pattern, "testdata") {
				m.extent = whole
			}
			if resources[m.gvk] != "" {
				all = append(all, m)
			}
		}
	}
	return all
}

func readManifest(file string) (m manifest, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return m, err
	}
	var meta runtime.TypeMeta
	if err := yaml.Unmarshal(text, &meta); err != nil {
		return m, err
	}
	m.name, m.gvk = strings.TrimSuffix(filepath.Base(file), ".yaml"), meta.GroupVersionKind()
	if resources[m.gvk] == "" {
		return m, nil
	}
	if m.object, err = legacyscheme.Scheme.New(m.gvk); err != nil {
		return m, err
	}
	return m, yaml.UnmarshalStrict(text, m.object)
}

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(800)
	goruntime.MemProfileRate = 0
	os.Exit(m.Run())
}

// TestSame compares what becomes of every mutant.
func TestSame(t *testing.T) {
	t.Parallel()
	ours, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	report := &report{used: make([]bool, len(known)), seen: make(map[string]int)}
	c := &comparison{report: report, ours: ours, theirs: theirs()}
	all := manifests(t)
	t.Run("manifests", func(t *testing.T) {
		for _, m := range all {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				// In a bubble the clock stands still.
				synctest.Test(t, func(t *testing.T) {
					time.Sleep(time.Until(creation))
					c.creates(t, m)
					c.updates(t, m)
					c.finish()
				})
			})
		}
	})
	t.Logf("%d requests", report.requests)
	for i, k := range known {
		if report.finished == len(all) && !report.used[i] {
			t.Errorf("nothing differs as %q says: %s", k.line, k.why)
		}
	}
}

// TestMutants: each changes something, and leaves the object that it is made from alone.
func TestMutants(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pod-small", "cronjob"} {
		m, err := readManifest("testdata/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		before, count := m.object.DeepCopyObject(), 0
		for mutant := range mutants(m.object, whole) {
			changed := m.object.DeepCopyObject()
			if mutant.edit(changed); reflect.DeepEqual(changed, before) {
				t.Errorf("%s: %q changes nothing", name, mutant.path)
			}
			count++
		}
		if count < 1000 || !reflect.DeepEqual(m.object, before) {
			t.Errorf("%s: %d changes of what is now %s", name, count, encode(m.object))
		}
	}
}

// report gathers what all comparisons find.
type report struct {
	mu       sync.Mutex
	requests int
	finished int            // manifests; with -run, not all
	used     []bool         // of known
	seen     map[string]int // lines that nothing excuses
}

type comparison struct {
	*report
	ours, theirs *side
}

// creates compares the creation of a manifest and of its mutants.
func (c *comparison) creates(t *testing.T, m manifest) {
	c.compare(t, create, m.object, nil, asItIs)
	for mutant := range mutants(m.object, m.extent) {
		c.compare(t, create, m.object, nil, mutant)
	}
}

// large is how many bytes a pod has that is changed in outline only once it is there: what
// values a field may have, its creation has shown, and what an update may do with them,
// the small ones show. A refused update shows the specs, which takes ten times as long.
const large = 10_000

// updates compares the changes that can be made to what comes of a manifest.
func (c *comparison) updates(t *testing.T, m manifest) {
	made := c.theirs.do(create, m.object, nil)
	if made.Object == nil {
		if m.extent == whole {
			t.Errorf("cannot be created: %s", made.Error)
		}
		return
	}
	old, extent := withStatus(made.Object, m.object), m.extent
	if len(encode(old)) > large {
		extent = outlined
	}
	for _, v := range []verb{update, status} {
		if c.theirs.rules[request{m.gvk, v == status}] == nil {
			continue
		}
		c.compare(t, v, old, old, asItIs)
		for mutant := range mutants(old, extent) {
			if isStatus := strings.HasPrefix(mutant.path, "status"); isStatus == (v == status) {
				c.compare(t, v, old, old, mutant)
			}
		}
	}
}

// attempts are how often Kubernetes is asked when it answers otherwise: where it walks
// a map, one of its orders has to be ours, which is sorted. Where there are too many of them to
// see it, it has to give several.
const attempts = 30

// compare carries out a request on both sides: to write an object with a change, where
// old is there (nil: nothing is).
func (c *comparison) compare(t *testing.T, v verb, object, old runtime.Object, change mutant) {
	object = object.DeepCopyObject()
	change.edit(object)
	got, want := c.ours.do(v, object, old), c.theirs.do(v, object, old)
	varies := false
	for range attempts {
		if got.equal(want) || !permuted(got, want) {
			break
		}
		again := c.theirs.do(v, object, old)
		varies = varies || !again.equal(want)
		want = again
	}
	lines := difference(got, want)
	if varies && permuted(got, want) && sameObject(got.Object, want.Object) {
		lines = nil
	}
	c.note(t, fmt.Sprintf("%s %s", v, change.path), lines)
}

// permuted reports whether two answers have the same to say, in whatever order.
func permuted(a, b *answer) bool {
	return slices.Equal(sorted(a.Causes), sorted(b.Causes)) && slices.Equal(sorted(a.Warnings), sorted(b.Warnings))
}

func sorted(lines []string) []string { return slices.Sorted(slices.Values(lines)) }

// note takes down the lines of a difference. The same line is shown a few times only.
func (c *comparison) note(t *testing.T, what string, lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	for _, line := range lines {
		if i := excuses(line); i >= 0 {
			c.used[i] = true
			continue
		}
		if c.seen[line]++; c.seen[line] <= 2 {
			t.Errorf("%s\n  %s", what, line)
		} else {
			t.Fail()
		}
	}
}

func (c *comparison) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished++
}
