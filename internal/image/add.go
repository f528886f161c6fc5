package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/disk"
	"github.com/sampan-batch/sampan/internal/tree"
)

// Progress tells how far a pull or load is. Done and Total are bytes as they
// are transferred; Total is 0 until it is known.
type Progress struct {
	Ref         string
	Layer       int // of Layers, counted from 1; 0 before the first
	Layers      int
	Done, Total int64
}

// opener opens the content of a layer, uncompressed.
type opener func(v1.Layer) (io.ReadCloser, error)

// add stores img: its layers, then what is known of it. It returns the digest
// under which names may point to it.
func (s *Store) add(ctx context.Context, ref string, img v1.Image, open opener, progress func(Progress)) (digest string, err error) {
	if m, err := img.Manifest(); err != nil {
		return "", badImage("image %q has no usable manifest: %v", ref, err)
	} else if m.Config.Size > s.limits.Metadata {
		return "", badImage("image %q has a configuration of %d bytes; the limit is %d", ref, m.Config.Size, s.limits.Metadata)
	} else if len(m.Layers) > s.limits.Layers {
		return "", badImage("image %q has %d layers; the limit is %d", ref, len(m.Layers), s.limits.Layers)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return "", badImage("image %q has no usable configuration: %v", ref, err)
	}
	if err := runsHere(ref, config); err != nil {
		return "", err
	}
	layers, err := img.Layers()
	if err != nil {
		return "", badImage("image %q: %v", ref, err)
	}
	if len(layers) != len(config.RootFS.DiffIDs) {
		return "", badImage("image %q has %d layers, its configuration names %d", ref, len(layers), len(config.RootFS.DiffIDs))
	}
	id, err := img.ConfigName()
	if err != nil {
		return "", badImage("image %q: %v", ref, err)
	}
	manifest, err := img.Digest()
	if err != nil {
		return "", badImage("image %q: %v", ref, err)
	}
	rec := &record{Digest: manifest.String(), ID: id.String(), Config: config.Config}
	meter := s.newMeter(ref, layers, config.RootFS.DiffIDs, progress)
	b, seen := newBudget(s.dir, s.limits), map[v1.Hash]bool{}
	for i, layer := range layers {
		diffID := config.RootFS.DiffIDs[i]
		if diffID.Algorithm != "sha256" || len(diffID.Hex) != 2*sha256.Size {
			return "", badImage("image %q names the layer %s; only sha256 is known", ref, diffID)
		}
		size, err := s.layer(ctx, layer, diffID, open, b, meter.layer(i))
		if err != nil {
			return "", layerError(ref, i+1, len(layers), err)
		}
		rec.DiffID = append(rec.DiffID, diffID.String())
		if !seen[diffID] {
			rec.Size += size
		}
		seen[diffID] = true
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return "", err
	}
	if err := disk.ReplaceDurably(s.recordPath(rec.Digest), data); err != nil {
		return "", fmt.Errorf("store image %q: %w", ref, err)
	}
	return rec.Digest, nil
}

// layerError says which layer of which image an error is about.
func layerError(ref string, i, n int, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return &Error{Reason: known.Reason, Message: fmt.Sprintf("image %q: layer %d of %d: %s", ref, i, n, known.Message), Err: known}
	}
	return fmt.Errorf("layer %d of %d: %w", i, n, err)
}

// runsHere refuses what was built for another machine.
func runsHere(ref string, c *v1.ConfigFile) error {
	platform := func(os, arch string) string { return os + "/" + arch }
	want := platform("linux", runtime.GOARCH)
	have := platform(c.OS, c.Architecture)
	if c.OS == "" && c.Architecture == "" {
		return nil // old archives say nothing
	}
	if have != want {
		return badImage("image %q is for %s; this machine is %s", ref, have, want)
	}
	return nil
}

// layer unpacks a layer unless it is here already, and returns its size.
func (s *Store) layer(ctx context.Context, l v1.Layer, diffID v1.Hash, open opener, b *budget, count func(int64)) (int64, error) {
	place := s.layerPath(diffID.String())
	if size, err := s.layerSize(place); err == nil {
		return size, nil
	}
	content, err := open(l)
	if err != nil {
		return 0, err
	}
	defer content.Close()
	work, done, err := s.workDir()
	if err != nil {
		return 0, err
	}
	defer done()

	root := filepath.Join(work, "layer")
	if err := errors.Join(os.Mkdir(root, 0o755), os.Chmod(root, 0o755)); err != nil { // whatever the umask says
		return 0, err
	}
	digest := sha256.New()
	r := &meteredReader{ctx: ctx, r: io.TeeReader(content, digest), count: count, budget: b}
	size, err := unpack(r, root, s.privileged, b)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // padding behind the archive's end counts
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if r.failed != nil {
		return 0, r.failed // what it looked like to its reader is not the point
	}
	if err != nil {
		return 0, err
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != diffID.Hex {
		return 0, badImage("damaged layer: its content is sha256:%s, the image says %s", got, diffID)
	}
	return size, s.place(root, place, size)
}

// place moves an unpacked layer to where it belongs. Another process may have
// done the same meanwhile.
func (s *Store) place(root, place string, size int64) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := disk.ReplaceDurably(place+".size", strconv.AppendInt(nil, size, 10)); err != nil {
		return err
	}
	if err := os.Rename(root, place); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

func (s *Store) layerSize(place string) (int64, error) {
	if _, err := os.Stat(place); err != nil {
		return 0, err
	}
	data, err := os.ReadFile(place + ".size")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(data), 10, 64)
}

// workDir returns a directory for unfinished work, held by a lock that tells
// Prune that it is in use.
func (s *Store) workDir() (dir string, done func(), err error) {
	unlock, err := s.lock() // Prune sees it with its lock, or not at all
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	dir, err = os.MkdirTemp(filepath.Join(s.dir, "tmp"), "work-*")
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH)
	}
	if err != nil {
		_ = os.Remove(dir)
		return "", nil, err
	}
	// What cannot be removed is Prune's to report; the work is done all the same.
	return dir, func() { _ = tree.Remove(dir); f.Close() }, nil
}

// nameLoaded points names at the image with that digest, which was loaded by hand.
func (s *Store) nameLoaded(digest string, names ...string) error {
	at := time.Now().UTC().Truncate(time.Second)
	return s.rename(func(table map[string]entry) {
		for _, n := range names {
			table[n] = entry{Digest: digest, Loaded: true, At: at}
		}
	})
}

// namePulled points a name at the image with that digest, which was pulled by it: a tag and,
// since Kubernetes reports images by their digests, the digest. by is whose credentials it was.
func (s *Store) namePulled(r name.Reference, digest, by string) error {
	at := time.Now().UTC().Truncate(time.Second)
	return s.rename(func(table map[string]entry) {
		old, known := table[r.Name()]
		table[r.Name()] = entry{Digest: digest, At: at, By: grown(old, known && !old.Loaded, digest, by)}
		if _, byTag := r.(name.Tag); !byTag {
			return
		}
		byDigest := r.Context().Digest(digest).Name()
		if old, ok := table[byDigest]; !ok || old.Implied {
			table[byDigest] = entry{Digest: digest, Implied: true, At: at, By: grown(old, ok, digest, by)}
		}
	})
}

// meter adds up what the layers of one image transfer.
type meter struct {
	progress func(Progress)
	p        Progress
	last     time.Time
}

// newMeter returns the meter of layers; what is here already is not transferred.
func (s *Store) newMeter(ref string, layers []v1.Layer, ids []v1.Hash, progress func(Progress)) *meter {
	m := &meter{progress: progress, p: Progress{Ref: ref, Layers: len(layers)}}
	for i, l := range layers {
		if _, err := s.layerSize(s.layerPath(ids[i].String())); err == nil {
			continue
		}
		if size, err := l.Size(); err == nil && size > 0 {
			m.p.Total += size
		}
	}
	return m
}

// layer returns the function that counts layer i's bytes.
func (m *meter) layer(i int) func(int64) {
	m.p.Layer = i + 1
	return func(n int64) {
		m.p.Done += n
		if now := time.Now(); m.progress != nil && now.Sub(m.last) > 100*time.Millisecond {
			m.last = now
			m.progress(m.p)
		}
	}
}

// meteredReader counts what passes, and stops when ctx ends.
type meteredReader struct {
	ctx   context.Context
	r     io.Reader
	count func(int64)
	// budget is charged for what passes.
	budget *budget
	// failed is why reading ended, if not with the end.
	failed error
}

func (m *meteredReader) Read(p []byte) (int, error) {
	if m.ctx.Err() != nil {
		return 0, context.Cause(m.ctx)
	}
	n, err := m.r.Read(p)
	m.count(int64(n))
	if over := m.budget.stream(n); over != nil {
		err = over
	}
	if err != nil && err != io.EOF {
		m.failed = err
	}
	return n, err
}
