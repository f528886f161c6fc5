package store

import (
	"path/filepath"
	"testing"
)

// A volatile store waits for no disk, and has what any other has when it is opened again.
func TestVolatile(t *testing.T) {
	t.Parallel()
	for _, volatile := range []bool{false, true} {
		o := Options{Path: filepath.Join(t.TempDir(), "store.db"), Volatile: volatile}
		s := mustOpen(t, o)
		res := mustApply(t, s, createSet(key("pods", "a"), "", false))
		if s.file.db.NoSync != volatile {
			t.Errorf("volatile %t: waiting for the disk is %t", volatile, !s.file.db.NoSync)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, o)
		if !has(s, key("pods", "a")) || s.View().Rev() < res.Rev {
			t.Errorf("volatile %t: reopened at %d, want %d", volatile, s.View().Rev(), res.Rev)
		}
	}
}
