package image

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// LoadOptions say how to load.
type LoadOptions struct {
	// Name is given to an archive's only image, besides the names it brings.
	Name     string
	Progress func(Progress)
}

// Annotations under which an OCI layout names its images.
const (
	annotationRefName        = "org.opencontainers.image.ref.name"
	annotationContainerdName = "io.containerd.image.name"
)

// Load stores the images of an archive: what `docker save` writes or an OCI
// layout, as a tar file (gzip or plain), as a directory, or from standard input
// when source is "-". It returns the images under all names that they got.
func (s *Store) Load(ctx context.Context, source string, o LoadOptions) ([]*Image, error) {
	work, done, err := s.workDir()
	if err != nil {
		return nil, err
	}
	defer done()
	if info, err := os.Stat(source); source != "-" && err == nil && info.IsDir() {
		return s.loadLayout(ctx, source, source, o)
	}
	b := newBudget(s.dir, s.limits)
	archive, err := spool(source, work, b)
	if err != nil {
		return nil, err
	}
	docker, oci, err := formats(archive, s.limits)
	switch {
	case err != nil:
		return nil, fmt.Errorf("load %s: not an image archive: %w", source, err)
	case docker:
		return s.loadDocker(ctx, source, archive, o)
	case oci:
		dir := filepath.Join(work, "layout")
		if err := extractLayout(archive, dir, b); err != nil {
			return nil, fmt.Errorf("load %s: %w", source, err)
		}
		return s.loadLayout(ctx, source, dir, o)
	}
	return nil, fmt.Errorf("load %s: neither a docker archive (manifest.json) nor an OCI layout (oci-layout)", source)
}

// spool returns the path of a plain tar file with what source holds.
func spool(source, work string, b *budget) (string, error) {
	in := os.Stdin
	if source != "-" {
		f, err := os.Open(source)
		if err != nil {
			return "", fmt.Errorf("load: %w", err)
		}
		defer f.Close()
		in = f
	}
	buffered := bufio.NewReader(in)
	var r io.Reader = buffered
	magic, _ := buffered.Peek(2)
	zipped := len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b
	if zipped {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return "", fmt.Errorf("load %s: %w", source, err)
		}
		r = z
	} else if source != "-" {
		return source, nil
	}
	out, err := os.Create(filepath.Join(work, "archive.tar"))
	if err != nil {
		return "", err
	}
	if err := errors.Join(b.copyWithin(out, r), out.Close()); err != nil {
		return "", fmt.Errorf("load %s: %w", source, err)
	}
	return out.Name(), nil
}

// maxArchived is how many entries an archive may have: a few for each layer.
const maxArchived = 100_000

// formats tells what the archive's table of contents looks like, and refuses
// one that would keep a reader busy for ever: links are followed within it.
func formats(archive string, l Limits) (docker, oci bool, err error) {
	links, entries := map[string]string{}, 0
	err = eachEntryOf(archive, func(h *tar.Header, _ io.Reader) error {
		file := path.Clean(h.Name)
		if entries++; entries > maxArchived {
			return fmt.Errorf("it has more than %d entries", maxArchived)
		}
		if h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink {
			links[file] = path.Join(path.Dir(file), path.Clean(h.Linkname))
		}
		if path.Ext(file) == ".json" && h.Size > l.Metadata && !strings.Contains(file, "/") {
			return fmt.Errorf("%.100q has %d bytes; the limit is %d", file, h.Size, l.Metadata)
		}
		docker = docker || file == "manifest.json"
		oci = oci || file == "oci-layout"
		return nil
	})
	if err != nil {
		return false, false, err
	}
	for from, at := range links {
		for n := 0; links[at] != ""; n++ {
			if n > maxLinks {
				return false, false, fmt.Errorf("%.100q: too many levels of links", from)
			}
			at = links[at]
		}
	}
	return docker, oci, nil
}

// eachFile calls do for every regular file of a tar archive.
func eachFile(archive string, do func(name string, r io.Reader) error) error {
	return eachEntryOf(archive, func(h *tar.Header, r io.Reader) error {
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		return do(path.Clean(h.Name), r)
	})
}

func eachEntryOf(archive string, do func(h *tar.Header, r io.Reader) error) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(h, tr); err != nil {
			return err
		}
	}
}

// extractLayout writes the files that an OCI layout consists of, and no other.
func extractLayout(archive, dir string, b *budget) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		return err
	}
	return eachFile(archive, func(file string, r io.Reader) error {
		blob, isBlob := strings.CutPrefix(file, "blobs/sha256/")
		switch {
		case isBlob && !strings.Contains(blob, "/"):
		case file == "index.json" || file == "oci-layout":
		default:
			return nil
		}
		out, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(b.entry(), b.copyWithin(out, r), out.Close())
	})
}

func (s *Store) loadDocker(ctx context.Context, source, archive string, o LoadOptions) ([]*Image, error) {
	open := func() (io.ReadCloser, error) { return os.Open(archive) }
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", source, err)
	}
	var all []*Image
	if err := configSizes(archive, manifest, s.limits); err != nil {
		return nil, fmt.Errorf("load %s: %w", source, err)
	}
	for _, m := range manifest {
		tag, names, err := namesOf(source, m.RepoTags, o.Name, len(manifest))
		if err != nil {
			return nil, err
		}
		img, err := tarball.Image(open, tag)
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", source, err)
		}
		// Most have layers that are not compressed, and would be compressed first.
		loaded, err := s.adopt(ctx, source, img, v1.Layer.Uncompressed, names, o)
		if err != nil {
			return nil, err
		}
		all = append(all, loaded...)
	}
	return all, nil
}

// configSizes refuses configurations that nobody should read into memory.
func configSizes(archive string, manifest tarball.Manifest, l Limits) error {
	configs := map[string]bool{}
	for _, m := range manifest {
		configs[path.Clean(m.Config)] = true
	}
	return eachEntryOf(archive, func(h *tar.Header, _ io.Reader) error {
		if configs[path.Clean(h.Name)] && (h.Typeflag != tar.TypeReg || h.Size > l.Metadata) {
			return fmt.Errorf("the configuration %.100q is no file or has %d bytes; the limit is %d", h.Name, h.Size, l.Metadata)
		}
		return nil
	})
}

// namesOf returns the canonical names for an image of an archive of n images,
// and the tag by which the archive knows it.
func namesOf(source string, brought []string, given string, n int) (*name.Tag, []string, error) {
	var names []string
	var tag *name.Tag
	for _, b := range brought {
		t, err := name.NewTag(b, name.WeakValidation)
		if err != nil {
			return nil, nil, badImage("load %s: the archive names an image %q: %v", source, b, err)
		}
		if tag == nil {
			tag = &t
		}
		names = append(names, t.Name())
	}
	if given != "" {
		if n != 1 {
			return nil, nil, fmt.Errorf("load %s: the archive holds %d images; a name can be given to only one", source, n)
		}
		full, err := Canonical(given)
		if err != nil {
			return nil, nil, err
		}
		names = append(names, full)
	}
	if len(names) == 0 {
		return nil, nil, fmt.Errorf("load %s: the archive does not name its image; give it one with --name", source)
	}
	return tag, names, nil
}

func (s *Store) loadLayout(ctx context.Context, source, dir string, o LoadOptions) ([]*Image, error) {
	if err := smallFile(filepath.Join(dir, "index.json"), s.limits); err != nil {
		return nil, fmt.Errorf("load %s: not an OCI layout: %w", source, err)
	}
	root, err := layout.FromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("load %s: not an OCI layout: %w", source, err)
	}
	index, err := root.ImageIndex()
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", source, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", source, err)
	}
	var all []*Image
	for _, d := range manifest.Manifests {
		img, err := pick(dir, index, d, s.limits)
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", source, err)
		}
		_, names, err := namesOf(source, layoutNames(d), o.Name, len(manifest.Manifests))
		if err != nil {
			return nil, err
		}
		loaded, err := s.adopt(ctx, source, img, uncompressed, names, o)
		if err != nil {
			return nil, err
		}
		all = append(all, loaded...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("load %s: the layout holds no image", source)
	}
	return all, nil
}

// checked returns an image of a layout if its manifest and configuration are
// small enough to be read.
func checked(dir string, index v1.ImageIndex, digest v1.Hash, l Limits) (v1.Image, error) {
	if err := smallBlob(dir, digest, l); err != nil {
		return nil, err
	}
	img, err := index.Image(digest)
	if err != nil {
		return nil, err
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	return img, smallBlob(dir, m.Config.Digest, l)
}

func smallBlob(dir string, digest v1.Hash, l Limits) error {
	if digest.Algorithm != "sha256" || len(digest.Hex) != 2*sha256.Size {
		return badImage("the layout names the blob %.100q; only sha256 is known", digest.String())
	}
	return smallFile(filepath.Join(dir, "blobs", digest.Algorithm, digest.Hex), l)
}

// smallFile refuses what is no file, or one that is not to be read into memory.
func smallFile(path string, l Limits) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil && info.Size() > l.Metadata {
		err = fmt.Errorf("%s has %d bytes; the limit is %d", path, info.Size(), l.Metadata)
	}
	return err
}

func layoutNames(d v1.Descriptor) []string {
	if n := d.Annotations[annotationContainerdName]; n != "" {
		return []string{n}
	}
	// A bare tag names nothing; some tools write only that.
	if n := d.Annotations[annotationRefName]; strings.ContainsAny(n, "/:") || (n != "" && n != "latest") {
		return []string{n}
	}
	return nil
}

// pick returns the image behind a descriptor: itself, or this machine's
// platform of a nested index.
func pick(dir string, index v1.ImageIndex, d v1.Descriptor, l Limits) (v1.Image, error) {
	if err := smallBlob(dir, d.Digest, l); err != nil {
		return nil, err
	}
	if !d.MediaType.IsIndex() {
		return checked(dir, index, d.Digest, l)
	}
	nested, err := index.ImageIndex(d.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := nested.IndexManifest()
	if err != nil {
		return nil, err
	}
	var offered []string
	for _, m := range manifest.Manifests {
		if m.Platform == nil || m.Platform.OS == "unknown" {
			continue
		}
		if m.Platform.OS == "linux" && m.Platform.Architecture == runtime.GOARCH {
			return checked(dir, nested, m.Digest, l)
		}
		offered = append(offered, m.Platform.OS+"/"+m.Platform.Architecture)
	}
	return nil, badImage("no image for linux/%s among %s", runtime.GOARCH, strings.Join(offered, ", "))
}

// adopt stores an image of an archive under names.
func (s *Store) adopt(ctx context.Context, source string, img v1.Image, open opener, names []string, o LoadOptions) ([]*Image, error) {
	digest, err := s.add(ctx, names[0], img, open, o.Progress)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", source, err)
	}
	if err := s.nameLoaded(digest, names...); err != nil {
		return nil, fmt.Errorf("load %s: %w", source, err)
	}
	var all []*Image
	for _, n := range names {
		got, ok, err := s.Get(n)
		if err != nil || !ok {
			return nil, fmt.Errorf("load %s: %s vanished after it was loaded: %v", source, n, err)
		}
		all = append(all, got)
	}
	return all, nil
}
