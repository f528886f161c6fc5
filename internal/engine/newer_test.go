package engine

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/store"
)

// fleets are a resource of a version that is still to come.
const fleets change.Resource = "fleets.batch.sampan.dev"

// newerKinds is the table of that version.
func newerKinds(t *testing.T) *kind.Kinds {
	t.Helper()
	fleet := kind.ConfigMap()
	fleet.Names = kind.Names{
		Resource: fleets, Singular: "fleet", Namespaced: true,
		GVK: schema.GroupVersionKind{Group: "batch.sampan.dev", Version: "v1alpha1", Kind: "Fleet"},
	}
	fleet.NewList = func() runtime.Object { return &corev1.ConfigMapList{} }
	kinds, err := kind.NewKinds(append(kind.Table(), fleet)...)
	if err != nil {
		t.Fatal(err)
	}
	return kinds
}

// newerStore opens the store of a directory as that version does.
func newerStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	config := Config{DataDir: dir, Listen: "127.0.0.1:0"}
	if err := config.complete(); err != nil {
		t.Fatal(err)
	}
	s, err := config.openStore(newerKinds(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fleetRecords are the bytes of all fleets in a directory, by their keys.
func fleetRecords(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	_, err := store.Inspect(filepath.Join(dir, storeName), storedKinds(), func(r store.Record) error {
		if bytes.HasPrefix(r.Key, []byte(fleets)) {
			found[string(r.Key)] = string(r.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// work is what an engine does to its store: creates, replaces and deletes, and packs.
func work(t *testing.T, s *store.Store) {
	t.Helper()
	for i := range 60 {
		key := kind.ConfigMaps.Key("default", fmt.Sprint("work-", i))
		var set change.Set
		set.Create(key, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: key.Name}, Data: map[string]string{"a": strings.Repeat("x", 500)}})
		done, err := s.Apply(t.Context(), set)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			set = change.Set{}
			set.Delete(key, done.Rev)
			if _, err := s.Apply(t.Context(), set); err != nil {
				t.Fatal(err)
			}
		}
	}
	if packed, err := s.Repack(); err != nil || !packed {
		t.Fatalf("packed %v, %v", packed, err)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}

// A store that a newer version has used opens in this one, which serves what it knows
// of, and keeps the rest byte by byte through all that it does: writes, packing, a
// backup of the open and of the closed store, a restore. The newer version finds it
// as it left it. `sampan check` tells of it, and calls it no damage.
func TestStoreOfANewerVersion(t *testing.T) {
	t.Parallel()
	dir := usedDir(t, 3)
	newer := newerStore(t, dir)
	for _, name := range []string{"a", "b", "c"} {
		var set change.Set
		set.Create(fleets.Key("default", name), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "u"}, Data: map[string]string{"size": name}})
		if _, err := newer.Apply(t.Context(), set); err != nil {
			t.Fatal(err)
		}
	}
	if err := newer.Close(); err != nil {
		t.Fatal(err)
	}
	before := fleetRecords(t, dir)

	var log bytes.Buffer
	older, err := storeAt(t, dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `they are kept, and served by nobody" found="fleets.batch.sampan.dev 3"`) {
		t.Errorf("log: %s", log.String())
	}
	if older.View().Len(kind.ConfigMaps) != 3 || older.View().Len(fleets) != 0 {
		t.Errorf("%d ConfigMaps, %d fleets", older.View().Len(kind.ConfigMaps), older.View().Len(fleets))
	}
	work(t, older)
	var open bytes.Buffer
	running := &Engine{config: Config{DataDir: dir, Version: "0.0.1", NodeName: "n"}, store: older}
	if err := running.Backup(t.Context(), &open, BackupOptions{}.BackupOptions); err != nil {
		t.Fatal(err)
	}
	if err := older.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := CheckDir(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) != 0 || report.Store.Unknown[string(fleets)] != 3 || report.Store.Objects[string(fleets)] != 3 ||
		!strings.Contains(strings.Join(report.Notes, "\n"), "a newer version has stored objects that this one does not know: fleets.batch.sampan.dev 3") {
		t.Errorf("check: problems %q, notes %q, %+v", report.Problems, report.Notes, report.Store)
	}

	closed := backedUp(t, dir, BackupOptions{Version: "0.0.1"})
	for name, copied := range map[string][]byte{"": nil, "of the open store": open.Bytes(), "of the closed store": closed} {
		at := dir
		if copied != nil {
			at = filepath.Join(t.TempDir(), "restored")
			if _, err := Restore(t.Context(), at, bytes.NewReader(copied), RestoreOptions{Logger: slog.New(slog.DiscardHandler)}); err != nil {
				t.Fatal(err)
			}
			again, err := storeAt(t, at, nil)
			if err != nil {
				t.Fatal(err)
			}
			work2 := again.View().Len(kind.ConfigMaps)
			if err := again.Close(); err != nil || work2 != 33 {
				t.Errorf("backup %s: %d ConfigMaps, %v", name, work2, err)
			}
		}
		found := newerStore(t, at)
		for i, size := range []string{"a", "b", "c"} {
			obj, ok := found.View().Get(fleets.Key("default", size))
			if !ok || obj.(*corev1.ConfigMap).Data["size"] != size || obj.GetResourceVersion() != fmt.Sprint(5+i) {
				t.Errorf("backup %s: %v", name, obj)
			}
		}
		if err := found.Close(); err != nil {
			t.Error(err)
		}
		after := fleetRecords(t, at)
		if len(after) != len(before) {
			t.Errorf("backup %s: %d records instead of %d", name, len(after), len(before))
		}
		for key, value := range before {
			if after[key] != value {
				t.Errorf("backup %s: %q was changed", name, key)
			}
		}
	}
}
