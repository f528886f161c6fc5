package audit

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestFiles puts something into a data directory that should not be there.
func TestFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file string
		mode os.FileMode
		keep bool // logs
		want []string
	}{
		{"store.db", 0o600, false, nil},
		{"images/layers/sha256/x", 0o644, false, nil},
		{"run/host/launcher/work/1", os.ModeDir | 0o755, false, nil},
		{"run/host/launcher/work/1", 0o600, false, []string{"file run/host/launcher/work/1"}},
		{"store.db", 0o644, false, []string{"readable by others store.db"}},
		{"store.db.new", 0o600, false, []string{"file store.db.new"}},
		{"logs/a_b/c/0.log", 0o640, true, nil},
		{"logs/a_b/c/0.log", 0o640, false, []string{"file logs/a_b"}},
		{"pods/u/volumes/v", 0o600, true, []string{"file pods/u"}},
		{".new-1", 0o600, false, []string{"file .new-1"}},
	} {
		data := t.TempDir()
		path := filepath.Join(data, c.file)
		if err := os.Chmod(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if c.mode.IsDir() {
			err = os.Mkdir(path, c.mode.Perm())
		} else if err = os.WriteFile(path, nil, c.mode); err == nil {
			err = os.Chmod(path, c.mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := Files(data, c.keep); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %q, want %q", c.file, c.mode, got, c.want)
		}
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Files(open, false); len(got) != 1 {
		t.Errorf("a data directory that is open to others: %q", got)
	}
}
