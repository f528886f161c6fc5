// Package image keeps container images: their names, their configuration and
// their layers, each layer unpacked once, named by the digest of its content.
//
// An image gets here by a pull from a registry or by a load of what `docker
// save` and OCI layouts write. An image that was loaded by hand is this
// machine's answer for its name, whatever a registry would say.
//
// Nothing that is half done is ever visible: a layer is unpacked beside its
// place and renamed into it, verified, and only then named by an image. Several
// processes may use one directory: writers hold a lock, readers look again when
// the table of names has changed.
//
//	<dir>/names.json        names → manifest digest
//	<dir>/images/<digest>   what is known of one image
//	<dir>/layers/<diff id>  an unpacked layer, as overlayfs wants it
//	<dir>/tmp/              work that is under way
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
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/disk"
)

// Image is an image that is ready to run. It is immutable.
type Image struct {
	// Name is the canonical name under which it was found.
	Name string
	// Digest is the digest of the manifest, as the registry or archive had it.
	Digest string
	// ID is the digest of the configuration, which is the image's identity.
	ID string
	// Repo is the repository that it came from, for repo@digest; "" if loaded.
	Repo string
	// Loaded tells that it was loaded by hand.
	Loaded bool
	// At is when it was pulled or loaded.
	At time.Time
	// Layers are the unpacked layers' directories, lowest first, each once.
	Layers []string
	// Size is what the layers take unpacked, in bytes.
	Size int64
	// Config is what the image says about its processes.
	Config v1.Config

	by []string // see entry.By
}

// Store is a directory of images. All methods are safe for concurrent use, by
// several processes too.
type Store struct {
	dir string
	// privileged: layers keep the owners that they name.
	privileged bool
	limits     Limits

	mu    sync.Mutex
	names map[string]entry // as of seen
	seen  fs.FileInfo      // names.json when it was last read
	// read is that file, held open: a later one cannot have its inode number.
	read  *os.File
	cache map[string]*record

	roads roads
	pulls flights
}

// entry is a row of names.json.
type entry struct {
	Digest string `json:"digest"`
	Loaded bool   `json:"loaded,omitempty"`
	// Implied is the name by digest of an image that was pulled by a tag. Nobody has asked
	// for it, and it goes with the last tag that leads to the image.
	Implied bool      `json:"implied,omitempty"`
	At      time.Time `json:"at"`
	// By are the fingerprints of the secrets that it was pulled by; nil: it is everybody's.
	By []string `json:"by,omitempty"`
}

// record is the file of one image.
type record struct {
	Digest string    `json:"digest"`
	ID     string    `json:"id"`
	DiffID []string  `json:"layers"`
	Size   int64     `json:"size"`
	Config v1.Config `json:"config"`
}

// Open opens the directory, creating it with mode 0700 where it is absent.
func Open(dir string) (*Store, error) { return OpenWith(dir, Limits{}) }

// OpenWith is Open with limits of the caller's own.
func OpenWith(dir string, limits Limits) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"images", "layers", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open image directory: %w", err)
		}
	}
	s := &Store{
		dir: dir, privileged: os.Geteuid() == 0, limits: limits.withDefaults(),
		names: map[string]entry{}, cache: map[string]*record{}, roads: newRoads(),
	}
	return s, nil
}

// Canonical returns the full form of an image name: registry, repository and
// tag or digest. It fails with InvalidImageName.
func Canonical(ref string) (string, error) {
	r, err := parse(ref)
	if err != nil {
		return "", err
	}
	return r.Name(), nil
}

func parse(ref string) (name.Reference, error) {
	r, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return nil, &Error{
			Reason:  InvalidImageName,
			Message: fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: invalid reference format", ref, ref),
			Err:     err,
		}
	}
	return r, nil
}

// Get returns the image that ref names on this machine; ok is false when there
// is none.
func (s *Store) Get(ref string) (img *Image, ok bool, err error) {
	r, err := parse(ref)
	if err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reloadLocked(); err != nil {
		return nil, false, err
	}
	e, ok := s.names[r.Name()]
	if !ok {
		return nil, false, nil
	}
	img, err = s.imageLocked(r.Name(), e)
	if err != nil {
		return nil, false, err
	}
	return img, true, nil
}

// List returns every name with its image, sorted by name.
func (s *Store) List() ([]*Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reloadLocked(); err != nil {
		return nil, err
	}
	var all []*Image
	for n, e := range s.names {
		img, err := s.imageLocked(n, e)
		if err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	slices.SortFunc(all, func(a, b *Image) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (s *Store) imageLocked(n string, e entry) (*Image, error) {
	rec := s.cache[e.Digest]
	if rec == nil {
		data, err := os.ReadFile(s.recordPath(e.Digest))
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", n, err)
		}
		rec = &record{}
		if err := json.Unmarshal(data, rec); err != nil {
			return nil, fmt.Errorf("image %s: damaged record: %w", n, err)
		}
		s.cache[e.Digest] = rec
	}
	img := &Image{
		Name: n, Digest: rec.Digest, ID: rec.ID, Loaded: e.Loaded, At: e.At,
		Size: rec.Size, Config: rec.Config, by: e.By,
	}
	if ref, err := name.ParseReference(n); err == nil && !e.Loaded {
		img.Repo = ref.Context().Name()
	}
	for _, id := range topmost(rec.DiffID) {
		img.Layers = append(img.Layers, s.layerPath(id))
	}
	return img, nil
}

// topmost leaves of layers that occur several times the topmost, because
// overlayfs takes none twice. It is the same image: at every path the topmost
// layer that has something there decides, and whatever a lower occurrence shows
// or hides (a file, a directory, a whiteout, an opaque directory) the topmost one
// shows or hides, too, and was asked before.
func topmost(layers []string) []string {
	var kept []string
	for i, id := range layers {
		if !slices.Contains(layers[i+1:], id) {
			kept = append(kept, id)
		}
	}
	return kept
}

// reloadLocked reads the table of names again if another process changed it.
func (s *Store) reloadLocked() error {
	info, err := os.Stat(s.namesPath())
	if errors.Is(err, fs.ErrNotExist) {
		s.tookLocked(map[string]entry{}, nil, nil)
		return nil
	}
	if err != nil {
		return err
	}
	if s.seen != nil && os.SameFile(info, s.seen) && info.ModTime().Equal(s.seen.ModTime()) && info.Size() == s.seen.Size() {
		return nil
	}
	f, err := os.Open(s.namesPath())
	if err != nil {
		return err
	}
	info, names, err := readNames(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.tookLocked(names, info, f)
	return nil
}

func readNames(f *os.File) (fs.FileInfo, map[string]entry, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, nil, err
	}
	names := map[string]entry{}
	if err := json.Unmarshal(data, &names); err != nil {
		return nil, nil, fmt.Errorf("%s is damaged: %w", f.Name(), err)
	}
	return info, names, nil
}

// tookLocked keeps what was read from f, which was info before.
func (s *Store) tookLocked(names map[string]entry, info fs.FileInfo, f *os.File) {
	if s.read != nil {
		s.read.Close()
	}
	s.names, s.seen, s.read = names, info, f
}

// rename changes the table of names under the lock that all processes share.
func (s *Store) rename(edit func(names map[string]entry)) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reloadLocked(); err != nil {
		return err
	}
	edit(s.names)
	data, err := json.MarshalIndent(s.names, "", "  ")
	if err != nil {
		return err
	}
	s.seen = nil // read it back at the next look
	return disk.ReplaceDurably(s.namesPath(), data)
}

// lock takes the lock of the directory's writers.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

func (s *Store) namesPath() string { return filepath.Join(s.dir, "names.json") }

func (s *Store) recordPath(digest string) string {
	return filepath.Join(s.dir, "images", hexOf(digest))
}

func (s *Store) layerPath(diffID string) string {
	return filepath.Join(s.dir, "layers", hexOf(diffID))
}

// hexOf returns a digest without its algorithm, which is always sha256.
func hexOf(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex
}
