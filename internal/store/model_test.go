package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/sampan-batch/sampan/internal/change"
)

// TestModel takes random steps with a store and with a plain map, and compares
// them after each. Rapid prints the steps and the seed of a failure.
func TestModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(dir, "model")
		if err != nil {
			t.Fatal(err)
		}
		m := &model{dir: dir, state: map[change.Key]modelObject{}}
		m.settle()
		m.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"apply":   m.apply,
			"restart": m.restart,
			"crash":   m.crash,
			"unknown": m.unknown,
			"watch":   m.watch,
			"repack":  m.repack,
			"":        m.compare,
		})
		if err := m.store.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

const modelRetain = 12

type modelObject struct {
	rev    uint64
	value  string
	owners []types.UID
}

// model is what a store should be.
type model struct {
	dir   string
	files int
	store *Store
	fail  string // the label of the disk call that fails next

	rev     uint64
	seen    uint64 // the newest revision that anybody has seen
	state   map[change.Key]modelObject
	durable []map[change.Key]modelObject // what a crash may leave: the durable state, and those after each later lazy set
	start   uint64                       // where the history began
	events  []modelEvent
	old     *View // a view that was taken earlier, and what it showed
	oldList []string
}

type modelEvent struct {
	op         change.Op
	key        change.Key
	rev        uint64
	value, was string // was: the value before, "-" if there was none
}

func (m *model) open(t *rapid.T) {
	s, err := Open(Options{
		Path: filepath.Join(m.dir, fmt.Sprint("store", m.files)), Codec: jsonCodec{}, Erase: erases("pods"),
		Index: indexValue, Retain: modelRetain, Strict: true,
		fault: func(label string) error {
			if label == m.fail {
				m.fail = ""
				return syscall.ENOSPC
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.View().Rev() < m.seen {
		t.Fatalf("revisions ran backwards: opened at %d, %d was seen", s.View().Rev(), m.seen)
	}
	m.store, m.rev, m.start, m.events = s, s.View().Rev(), s.View().Rev(), nil
	m.seen = m.rev
	m.remember()
}

// remember takes a view to look at later.
func (m *model) remember() {
	m.old, m.oldList = m.store.View(), listing(m.store.View())
}

// indexValue indexes a ConfigMap by its value.
func indexValue(_ change.Resource, obj change.Object) []string {
	return []string{obj.(*corev1.ConfigMap).Data["value"]}
}

func listing(v *View) (all []string) {
	for _, resource := range modelResources {
		for obj := range v.List(resource, "") {
			all = append(all, fmt.Sprintf("%s/%s/%s=%s@%s", resource, obj.GetNamespace(), obj.GetName(), valueOf(obj), obj.GetResourceVersion()))
		}
	}
	return all
}

func valueOf(obj change.Object) string {
	if obj == nil {
		return "-"
	}
	return obj.(*corev1.ConfigMap).Data["value"]
}

var (
	modelResources  = []change.Resource{"jobs.batch", "pods"}
	modelNamespaces = []string{"", "a", "b"}
	modelNames      = []string{"x", "y", "z"}
	modelOwners     = []types.UID{"o1", "o2", "o3"}
)

var keyGen = rapid.Custom(func(t *rapid.T) change.Key {
	return change.Key{
		Resource:  rapid.SampledFrom(modelResources).Draw(t, "resource"),
		Namespace: rapid.SampledFrom(modelNamespaces).Draw(t, "namespace"),
		Name:      rapid.SampledFrom(modelNames).Draw(t, "name"),
	}
})

// drawRev mostly returns the revision of key, sometimes another.
func (m *model) drawRev(t *rapid.T, key change.Key) uint64 {
	if rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
		return rapid.Uint64Range(0, m.rev+1).Draw(t, "rev")
	}
	return m.state[key].rev
}

func (m *model) drawWrite(t *rapid.T, key change.Key) (change.Write, modelObject) {
	w := change.Write{Key: key, Op: change.Create, Rev: m.drawRev(t, key)}
	next := modelObject{value: rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "value")}
	if w.Rev > 0 {
		w.Op = rapid.SampledFrom([]change.Op{change.Update, change.Update, change.Delete}).Draw(t, "op")
	}
	if w.Op != change.Delete {
		next.owners = rapid.SliceOfN(rapid.SampledFrom(modelOwners), 0, 3).Draw(t, "owners")
		w.Object = object(key, next.value, next.owners...)
	}
	return w, next
}

func (m *model) apply(t *rapid.T) {
	var set change.Set
	var next []modelObject
	for _, key := range rapid.SliceOfNDistinct(keyGen, 0, 4, rapid.ID).Draw(t, "writes") {
		w, obj := m.drawWrite(t, key)
		set.Writes, next = append(set.Writes, w), append(next, obj)
	}
	for _, key := range rapid.SliceOfN(keyGen, 0, 2).Draw(t, "guards") {
		set.Guards = append(set.Guards, change.Guard{Key: key, Rev: m.drawRev(t, key)})
	}
	set.Lazy = rapid.Bool().Draw(t, "lazy")
	m.fail = rapid.SampledFrom([]string{"", "", "", faultBegin, faultPut, faultCommit}).Draw(t, "fail")

	conflict := m.conflicts(set)
	res, err := m.store.Apply(context.Background(), set)
	failed := m.fail == "" && errors.Is(err, syscall.ENOSPC)
	m.fail = ""
	var got *ConflictError
	switch {
	case conflict && !errors.As(err, &got):
		t.Fatalf("no conflict: %v", err)
	case conflict:
		if have := m.state[got.Key].rev; got.Have != have || got.Want == have {
			t.Fatalf("%v, but it is at %d", got, have)
		}
	case failed:
	case err != nil:
		t.Fatal(err)
	default:
		m.commit(t, set, next, res)
	}
}

func (m *model) conflicts(set change.Set) bool {
	stale := func(key change.Key, rev uint64) bool { return m.state[key].rev != rev }
	return slices.ContainsFunc(set.Writes, func(w change.Write) bool { return stale(w.Key, w.Rev) }) ||
		slices.ContainsFunc(set.Guards, func(g change.Guard) bool { return stale(g.Key, g.Rev) })
}

// commit repeats in the model what the store says it has done.
func (m *model) commit(t *rapid.T, set change.Set, next []modelObject, res Result) {
	n := uint64(len(set.Writes))
	if res.Rev < m.rev+n || len(res.Objects) != len(set.Writes) {
		t.Fatalf("after %d: %d writes, result %+v", m.rev, n, res)
	}
	first := res.Rev - n + 1
	for i, w := range set.Writes {
		was, existed := m.state[w.Key]
		e := modelEvent{op: w.Op, key: w.Key, rev: first + uint64(i), value: next[i].value, was: "-"}
		if existed {
			e.was = was.value
		}
		if w.Op == change.Delete {
			e.value = was.value
			delete(m.state, w.Key)
		} else {
			next[i].rev = e.rev
			m.state[w.Key] = next[i]
		}
		if obj := res.Objects[i]; valueOf(obj) != e.value || obj.GetResourceVersion() != strconv.FormatUint(e.rev, 10) {
			t.Fatalf("result %d is %v, want %+v", i, obj, e)
		}
		m.events = append(m.events, e)
	}
	if n > 0 {
		m.rev, m.seen = res.Rev, res.Rev
	}
	if !set.Lazy && n > 0 {
		m.settle()
	} else {
		m.durable = append(m.durable, maps.Clone(m.state))
	}
}

// settle notes that the present state is on disk.
func (m *model) settle() { m.durable = []map[change.Key]modelObject{maps.Clone(m.state)} }

func (m *model) restart(t *rapid.T) {
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	m.settle()
	before := m.rev
	m.open(t)
	if m.rev < before || m.rev > before+100 {
		t.Fatalf("a clean restart took the revision from %d to %d", before, m.rev)
	}
}

// crash goes on with what is in the file at this moment.
func (m *model) crash(t *rapid.T) {
	m.files++
	copyFile(t, m.store.file.path, filepath.Join(m.dir, fmt.Sprint("store", m.files)))
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	m.open(t)
	got, left := listing(m.store.View()), m.durable
	for _, m.state = range left {
		if slices.Equal(got, m.listing()) {
			m.settle()
			return
		}
	}
	t.Fatalf("a crash left %v, which is none of %v", got, left)
}

func (m *model) listing() (all []string) {
	for _, resource := range modelResources {
		for _, ns := range modelNamespaces {
			for _, name := range modelNames {
				if obj, ok := m.state[change.Key{Resource: resource, Namespace: ns, Name: name}]; ok {
					all = append(all, fmt.Sprintf("%s/%s/%s=%s@%d", resource, ns, name, obj.value, obj.rev))
				}
			}
		}
	}
	return all
}

// unknown lets a sync fail: the store stops writing, and after a restart the
// set is there whole, or not at all (with this fault: it is).
func (m *model) unknown(t *rapid.T) {
	key := keyGen.Draw(t, "key")
	w, next := m.drawWrite(t, key)
	if w.Rev != m.state[key].rev {
		t.Skip("stale")
	}
	m.fail = faultSync
	_, err := m.store.Apply(context.Background(), change.Set{Writes: []change.Write{w}})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal("sync failed, but:", err)
	}
	m.compare(t)
	var other change.Set
	other.Create(change.Key{Resource: "pods", Name: "other"}, object(change.Key{Name: "other"}, ""))
	if _, again := m.store.Apply(context.Background(), other); again == nil || again.Error() != err.Error() {
		t.Fatalf("first %v, then %v", err, again)
	}
	if err := m.store.Close(); err == nil {
		t.Fatal("closing a store that could not sync reports nothing")
	}
	if w.Op == change.Delete {
		delete(m.state, key)
	} else {
		next.rev = m.rev + 1
		m.state[key] = next
	}
	m.open(t)
	if w.Op != change.Delete {
		// Revisions of sets that failed earlier are skipped.
		obj, _ := m.store.View().Get(key)
		if obj == nil {
			t.Fatalf("%s is lost", key)
		}
		next.rev, _ = strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
		m.state[key] = next
	}
	m.settle()
}

func copyFile(t fataler, from, to string) {
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
}

// compare looks at everything that a view shows.
func (m *model) compare(t *rapid.T) {
	v := m.store.View()
	if got := listing(v); !slices.Equal(got, m.listing()) {
		t.Fatalf("store holds\n%v, model\n%v", got, m.listing())
	}
	if got := listing(m.old); !slices.Equal(got, m.oldList) {
		t.Fatalf("a view changed from\n%v to\n%v", m.oldList, got)
	}
	owned, indexed := map[string]int{}, map[string]int{}
	for key, obj := range m.state {
		for _, uid := range slices.Compact(slices.Sorted(slices.Values(obj.owners))) {
			owned[string(uid)+" "+key.String()]++
		}
		indexed[string(key.Resource)+" "+obj.value+" "+key.Namespace+" "+key.Name]++
	}
	for _, uid := range modelOwners {
		for key, obj := range v.Owned(uid) {
			owned[string(uid)+" "+key.String()]--
			if got, _ := v.Get(key); got != obj {
				t.Fatalf("owner index holds an old %s", key)
			}
		}
	}
	for _, resource := range modelResources {
		for _, value := range []string{"1", "2", "3"} {
			for obj := range v.Index(resource, value) {
				indexed[string(resource)+" "+value+" "+obj.GetNamespace()+" "+obj.GetName()]--
			}
		}
	}
	for _, counts := range []map[string]int{owned, indexed} {
		for what, n := range counts {
			if n != 0 {
				t.Fatalf("index entry %s is off by %d", what, -n)
			}
		}
	}
}

// watch resumes after some revision and reads on to the end.
func (m *model) watch(t *rapid.T) {
	if rapid.Bool().Draw(t, "remember") {
		m.remember()
	}
	resource := rapid.SampledFrom([]change.Resource{"", "pods", "jobs.batch"}).Draw(t, "resource")
	after := rapid.Uint64Range(m.start-min(m.start, 2), m.rev+1).Draw(t, "after")
	var want []modelEvent
	kept := m.events[max(0, len(m.events)-modelRetain):]
	for _, e := range kept {
		if e.rev > after && (resource == "" || e.key.Resource == resource) {
			want = append(want, e)
		}
	}
	gone := after < m.start || after > m.store.View().Rev()
	for _, e := range m.events[:len(m.events)-len(kept)] {
		gone = gone || e.rev > after && (resource == "" || e.key.Resource == resource)
	}
	w, err := m.store.Watch(resource, after)
	if gone != errors.Is(err, ErrGone) {
		t.Fatalf("watch after %d: gone should be %t: %v", after, gone, err)
	}
	if gone {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var got []modelEvent
	for {
		events, rev, err := w.Next(ctx)
		for _, e := range events {
			got = append(got, modelEvent{e.Op, e.Key, e.Rev, valueOf(e.Object), valueOf(e.Prev)})
		}
		if err != nil {
			if rev != m.store.View().Rev() {
				t.Fatalf("seen up to %d, store at %d", rev, m.store.View().Rev())
			}
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("watch of %q after %d:\n%v, want\n%v", resource, after, got, want)
	}
}

// fataler is what a helper needs of a *testing.T or a *rapid.T.
type fataler interface{ Fatal(args ...any) }

// repack changes nothing that anybody can see; compare looks.
func (m *model) repack(t *rapid.T) {
	if _, err := m.store.Repack(); err != nil {
		t.Fatal(err)
	}
}
