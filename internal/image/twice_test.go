package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLayersTwice mounts images in which layers occur several times, and
// compares what is seen with every layer applied in its turn.
func TestLayersTwice(t *testing.T) {
	t.Parallel()
	if os.Getenv(childVar) == "" {
		runAs(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}, "TestLayersTwice")
		return
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	must(t, os.Mkdir(dir+"/at", 0o755), os.Mkdir(dir+"/base", 0o755))

	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 150 {
		var layers [][]tar.Header
		var paths []string
		for j := range 4 {
			layers = append(layers, randomLayer(rng, j))
			path := fmt.Sprintf("%s/%d-%d", dir, i, j)
			must(t, unpackInto(path, layer(t, layers[j]...), Limits{}))
			paths = append(paths, path)
		}
		var order []int
		for range 7 {
			order = append(order, rng.IntN(4))
		}
		want := map[string]string{}
		var stack []string
		for _, j := range order {
			apply(want, layers[j])
			stack = append(stack, paths[j])
		}
		if i == 0 {
			if err := mountLayers(dir, stack); err != unix.ELOOP {
				t.Fatalf("overlayfs takes a layer twice: %v", err)
			}
		}
		must(t, mountLayers(dir, topmost(stack)))
		got := listed(t, dir+"/at")
		must(t, unix.Unmount(dir+"/at", 0))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("layers %v:\n%v\ngot  %v\nwant %v", order, layers, got, want)
		}
	}
}

func mountLayers(dir string, lowestFirst []string) error {
	lower := slices.Clone(lowestFirst)
	slices.Reverse(lower)
	return unix.Mount("overlay", dir+"/at", "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(append(lower, dir+"/base"), ":"))
}

// randomLayer makes files that name their layer, directories, whiteouts and
// opaque directories, out of few names.
func randomLayer(rng *rand.Rand, id int) []tar.Header {
	var headers []tar.Header
	seen := map[string]bool{}
	for range 2 + rng.IntN(5) {
		names := []string{"a", "b", "a/x", "a/y", "b/x", "a/x/p", "a/x/q", "b/x/p"}
		name := names[rng.IntN(len(names))]
		// A layer speaks once of a name, and of nothing below a file or whiteout.
		if seen[name] || slices.ContainsFunc(headers, func(h tar.Header) bool {
			n := strings.Replace(h.Name, whiteoutPrefix, "", 1)
			return h.Typeflag != tar.TypeDir && strings.HasPrefix(name, n+"/")
		}) {
			continue
		}
		what := rng.IntN(4)
		if what == 0 && slices.ContainsFunc(headers, func(h tar.Header) bool { return strings.HasPrefix(h.Name, name+"/") }) {
			continue
		}
		seen[name] = true
		switch what {
		case 0:
			headers = append(headers, tar.Header{Name: name, Mode: 0o644, Size: int64(id + 1)})
		case 1:
			headers = append(headers, tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755})
		case 2:
			headers = append(headers, tar.Header{Name: filepath.Join(filepath.Dir(name), whiteoutPrefix+filepath.Base(name)), Mode: 0o644})
		case 3:
			headers = append(headers, tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: name + "/" + whiteoutOpaque, Mode: 0o644})
		}
	}
	return headers
}

// apply is what the image specification says of a layer: what it takes away is
// of the layers below, what it brings comes after.
func apply(files map[string]string, headers []tar.Header) {
	below := func(dir string) {
		for name := range files {
			if strings.HasPrefix(name, dir+"/") {
				delete(files, name)
			}
		}
	}
	for _, h := range headers {
		switch dir, base := filepath.Dir(h.Name), filepath.Base(h.Name); {
		case base == whiteoutOpaque:
			below(dir)
		case strings.HasPrefix(base, whiteoutPrefix):
			gone := filepath.Join(dir, strings.TrimPrefix(base, whiteoutPrefix))
			delete(files, gone)
			below(gone)
		}
	}
	for _, h := range headers {
		// Directories on the way are there, in place of files.
		at := filepath.Dir(h.Name)
		for ; at != "."; at = filepath.Dir(at) {
			files[at] = "directory"
		}
		switch base := filepath.Base(h.Name); {
		case strings.HasPrefix(base, whiteoutPrefix):
		case h.Typeflag == tar.TypeDir:
			files[h.Name] = "directory"
		default:
			below(h.Name)
			files[h.Name] = fmt.Sprint(h.Size)
		}
	}
}

func listed(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		name, _ := filepath.Rel(root, p)
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // overlayfs lists a whiteout where there is nothing to merge
		}
		if err != nil {
			return err
		}
		files[name] = "directory"
		if !d.IsDir() {
			files[name] = fmt.Sprint(info.Size())
		}
		return nil
	}))
	return files
}
