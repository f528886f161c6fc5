package fault

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"go.etcd.io/bbolt"
)

// database writes a small database, and returns it as it was and as it is.
func database(t *testing.T) (old, file []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	fill := func(value byte) {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for i := range 200 {
				if err == nil {
					err = b.Put([]byte(strconv.Itoa(i)), slices.Repeat([]byte{value}, 200))
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if file, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	fill('a')
	fill('b')
	fill('c')
	old = slices.Clone(file)
	fill('d')
	fill('e')
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return old, file
}

// TestDamages sees to it that each way of damaging a file changes it, leaves the
// original alone, and does the same again with the same seed.
func TestDamages(t *testing.T) {
	t.Parallel()
	old, file := database(t)
	if branches := len(used(file)); branches < 10 {
		t.Fatalf("%d pages in use", branches)
	}
	for _, d := range Damages() {
		whole := slices.Clone(file)
		changed := 0
		for seed := range uint64(20) {
			damaged, what := d.Apply(rand.New(rand.NewPCG(seed, 0)), file, old)
			if !slices.Equal(damaged, file) {
				changed++
			}
			again, same := d.Apply(rand.New(rand.NewPCG(seed, 0)), file, old)
			if !slices.Equal(damaged, again) || what != same {
				t.Errorf("%s: another damage with the same seed: %s, %s", d.Name, what, same)
			}
		}
		if changed < 15 {
			t.Errorf("%s: changes a file %d times of 20", d.Name, changed)
		}
		if !slices.Equal(whole, file) {
			t.Fatalf("%s: changes the original", d.Name)
		}
	}
}
