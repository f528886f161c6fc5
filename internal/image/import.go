package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sampan-batch/sampan/internal/disk"
)

// Names of what Export writes.
const (
	importNames   = "names.json"
	importRecords = "records/"
	importLayers  = "layers/"
)

// Import takes what an Export has written, and keeps it aside until Commit. What it
// is given must have been checked as a whole before: a layer's digest does not
// tell any more.
type Import struct {
	store   *Store
	work    string
	done    func()
	names   map[string]entry
	records map[string][]byte // HEX → what is known of an image
	layers  map[string]int64  // HEX → size
	current *unpacking
}

// unpacking is a layer of which more is to come.
type unpacking struct {
	hex   string
	in    *io.PipeWriter
	ended chan error
	size  int64
}

// Import begins one. Close ends it.
func (s *Store) Import() (*Import, error) {
	work, done, err := s.workDir()
	if err != nil {
		return nil, err
	}
	return &Import{
		store: s, work: work, done: done,
		names: map[string]entry{}, records: map[string][]byte{}, layers: map[string]int64{},
	}, nil
}

// Data takes a small file of an Export.
func (im *Import) Data(name string, data []byte) error {
	if name == importNames {
		if err := json.Unmarshal(data, &im.names); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	hex, ok := strings.CutPrefix(name, importRecords)
	if !ok || !isHex(hex) {
		return fmt.Errorf("images have no file %.200q", name)
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil || hexOf(rec.Digest) != hex {
		return fmt.Errorf("the record of image %s is damaged", hex)
	}
	im.records[hex] = data
	return nil
}

// Layer takes the next part of a stream of an Export.
func (im *Import) Layer(name string, part io.Reader) error {
	hex, ok := strings.CutPrefix(name, importLayers)
	if !ok || !isHex(hex) {
		return fmt.Errorf("images have no layer %.200q", name)
	}
	if im.current == nil || im.current.hex != hex {
		if err := im.finish(); err != nil {
			return err
		}
		if _, again := im.layers[hex]; again {
			return fmt.Errorf("layer %s comes twice", hex)
		}
		if err := im.begin(hex); err != nil {
			return err
		}
	}
	if _, err := io.Copy(im.current.in, part); err != nil {
		return fmt.Errorf("layer %s: %w", hex, err)
	}
	return nil
}

func (im *Import) begin(hex string) error {
	root := filepath.Join(im.work, hex)
	if err := errors.Join(os.Mkdir(root, 0o755), os.Chmod(root, 0o755)); err != nil {
		return err
	}
	r, w := io.Pipe()
	u := &unpacking{hex: hex, in: w, ended: make(chan error, 1)}
	im.current = u
	go func() {
		var err error
		u.size, err = unpack(r, root, im.store.privileged, newBudget(im.store.dir, im.store.limits))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		r.CloseWithError(err)
		u.ended <- err
	}()
	return nil
}

// finish waits for the layer that is being unpacked.
func (im *Import) finish() error {
	u := im.current
	if u == nil {
		return nil
	}
	im.current = nil
	u.in.Close()
	if err := <-u.ended; err != nil {
		return fmt.Errorf("layer %s: %w", u.hex, err)
	}
	im.layers[u.hex] = u.size
	return nil
}

// Commit makes the images known. Names that there are already get the images
// that the import has for them.
func (im *Import) Commit() error {
	if err := im.finish(); err != nil {
		return err
	}
	if err := im.check(); err != nil {
		return err
	}
	for hex, size := range im.layers {
		place := filepath.Join(im.store.dir, "layers", hex)
		if err := im.store.place(filepath.Join(im.work, hex), place, size); err != nil {
			return err
		}
	}
	for hex, data := range im.records {
		if err := disk.ReplaceDurably(filepath.Join(im.store.dir, "images", hex), data); err != nil {
			return err
		}
	}
	return im.store.rename(func(names map[string]entry) {
		for n, e := range im.names {
			names[n] = e
		}
	})
}

// check refuses names that lead nowhere.
func (im *Import) check() error {
	for n, e := range im.names {
		var rec record
		if err := json.Unmarshal(im.records[hexOf(e.Digest)], &rec); err != nil {
			return fmt.Errorf("image %q: there is no record of it", n)
		}
		for _, id := range rec.DiffID {
			if _, ok := im.layers[hexOf(id)]; !ok {
				return fmt.Errorf("image %q: there is no layer %s", n, id)
			}
		}
	}
	return nil
}

// Close removes what is not to be kept. After Commit there is nothing left.
func (im *Import) Close() {
	if u := im.current; u != nil {
		u.in.CloseWithError(errors.New("given up"))
		<-u.ended
	}
	im.done()
}

// isHex: a SHA-256 as it is written.
func isHex(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
