package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Checked tells what a directory of images holds.
type Checked struct {
	Names  int   `json:"names"`
	Images int   `json:"images"`
	Layers int   `json:"layers"`
	Bytes  int64 `json:"bytes"` // what the layers take, as it was noted when they were unpacked
	// Unused are the layers that no name leads to.
	Unused int `json:"unusedLayers"`
	// Problems are what is wrong, each with the path of the file.
	Problems []string `json:"-"`
}

// Check looks at the images of dir without changing anything. deep also reads every
// file of every layer, for disks that cannot any more: a layer's digest is that of
// the archive that it came in, and does not tell about the files.
func Check(dir string, deep bool) (*Checked, error) {
	s := &Store{dir: dir, names: map[string]entry{}, cache: map[string]*record{}}
	c := &checker{store: s, used: map[string]bool{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reloadLocked(); err != nil {
		c.problem(s.namesPath(), err)
		return &c.Checked, nil
	}
	c.Names = len(s.names)
	seen := map[string]bool{}
	for n, e := range s.names {
		if !seen[e.Digest] {
			seen[e.Digest] = true
			c.image(n, e)
		}
	}
	c.Images = len(seen)
	if err := c.layers(deep); err != nil {
		return nil, err
	}
	slices.Sort(c.Problems)
	return &c.Checked, nil
}

type checker struct {
	Checked
	store *Store
	used  map[string]bool
}

func (c *checker) problem(path string, err error) {
	c.Problems = append(c.Problems, fmt.Sprintf("%s: %v", path, err))
}

// image looks at what a name leads to.
func (c *checker) image(n string, e entry) {
	path := c.store.recordPath(e.Digest)
	data, err := os.ReadFile(path)
	if err != nil {
		c.problem(path, fmt.Errorf("image %s: %w", n, err))
		return
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil || rec.Digest != e.Digest {
		c.problem(path, fmt.Errorf("image %s: the record is damaged", n))
		return
	}
	for _, id := range rec.DiffID {
		c.used[hexOf(id)] = true
		layer := c.store.layerPath(id)
		if info, err := os.Stat(layer); err != nil || !info.IsDir() {
			c.problem(layer, fmt.Errorf("image %s: the layer is missing", n))
		}
	}
}

// layers looks at every layer that there is.
func (c *checker) layers(deep bool) error {
	entries, err := os.ReadDir(filepath.Join(c.store.dir, "layers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || strings.Contains(e.Name(), ".") {
			continue
		}
		path := filepath.Join(c.store.dir, "layers", e.Name())
		c.Layers++
		if !c.used[e.Name()] {
			c.Unused++
		}
		size, err := c.store.layerSize(path)
		if err != nil {
			c.problem(path, fmt.Errorf("its size is not known: %w", err))
			continue
		}
		c.Bytes += size
		if !deep {
			continue
		}
		switch now, err := c.read(path); {
		case err != nil:
			return err
		case now > size: // less is no sign: an archive may have had a file twice
			c.problem(path, fmt.Errorf("its files have %d bytes, and had %d when they were unpacked", now, size))
		}
	}
	return nil
}

// read reads all files of a layer and returns how many bytes they have.
func (c *checker) read(root string) (size int64, err error) {
	linked := map[uint64]bool{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			c.problem(path, err)
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err == nil {
			ino := info.Sys().(*syscall.Stat_t).Ino
			if linked[ino] {
				return nil
			}
			linked[ino] = true
			var f *os.File
			if f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0); err == nil {
				var n int64
				n, err = io.Copy(io.Discard, f)
				size, err = size+n, errors.Join(err, f.Close())
			}
		}
		if err != nil {
			c.problem(path, err)
		}
		return nil
	})
	return size, err
}
