package tree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNeverThroughALink: at the instant between a look and a step a directory
// may have become a link; the step itself refuses it.
func TestNeverThroughALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside, tree := dir+"/outside", dir+"/tree"
	must(t, os.Mkdir(outside, 0o711), os.Mkdir(tree, 0o755), os.Symlink(outside, tree+"/abs"), os.Symlink("../outside", tree+"/rel"))
	fd, err := unix.Open(tree, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	r := &remover{w: newWalk()}
	for _, link := range []string{"abs", "rel"} {
		if got, err := r.open(fd, link); err == nil {
			unix.Close(got)
			t.Errorf("%s was entered", link)
		}
		loosenAt(fd, link)
		unfreeze(fd, link)
	}
	if st, err := os.Stat(outside); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("the mode behind a link was changed: %v, %v", st.Mode(), err)
	}
}

// TestMovedAway: a way back that leads elsewhere is not taken, although what is
// there has the same names.
func TestMovedAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := dir + "/tree"
	w := newWalk()
	defer w.close()
	for i := range window + 4 {
		must(t, os.Mkdir(at, 0o755))
		fd, err := openDir(unix.AT_FDCWD, at, unix.O_RDONLY)
		must(t, err, w.enter(fd, fmt.Sprint(i)))
		at += "/d"
	}
	// The fourth level is closed; who is in the fifth comes to another "..".
	fifth := dir + "/tree/d/d/d/d"
	elsewhere := filepath.Join(dir, "elsewhere")
	must(t, os.Mkdir(elsewhere, 0o755), os.Rename(fifth, elsewhere+"/d"))
	for len(w.way) > 5 {
		must(t, w.up())
	}
	if err := w.up(); !errors.Is(err, errMoved) {
		t.Errorf("the way back led elsewhere: %v", err)
	}
	if len(w.way) != 1 {
		t.Errorf("the walk is %d levels down, not at the top", len(w.way)-1)
	}
}
