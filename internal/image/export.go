package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sink is where Export writes to.
type Sink interface {
	Data(name string, data []byte) error
	Stream(name string) io.WriteCloser
}

// Export writes every image, to be read by an Import:
//
//	names.json      the table of names
//	records/HEX     what is known of an image
//	layers/HEX      a layer, as a tar archive with whiteouts as OCI has them
//
// A layer's archive is made of what was unpacked. It has the content of the one
// that was pulled, but not its bytes, and so not its digest.
func (s *Store) Export(ctx context.Context, sink Sink) error {
	s.mu.Lock()
	if err := s.reloadLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	names := make(map[string]entry, len(s.names))
	records, layers := map[string]bool{}, map[string]bool{}
	var err error
	for n, e := range s.names {
		var img *Image
		if img, err = s.imageLocked(n, e); err != nil {
			break
		}
		names[n], records[e.Digest] = e, true
		for _, l := range img.Layers {
			layers[l] = true
		}
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(names, "", "  ")
	if err == nil {
		err = sink.Data(importNames, data)
	}
	for digest := range records {
		if err == nil {
			data, err = os.ReadFile(s.recordPath(digest))
		}
		if err == nil {
			err = sink.Data(importRecords+hexOf(digest), data)
		}
	}
	for path := range layers {
		if err == nil {
			err = exportLayer(ctx, path, sink.Stream(importLayers+filepath.Base(path)))
		}
	}
	return err
}

// exportLayer writes an unpacked layer, which nobody removes meanwhile.
func exportLayer(ctx context.Context, root string, out io.WriteCloser) error {
	dir, err := os.Open(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return fmt.Errorf("layer %s is being removed: %w", root, err)
	}
	p := &packer{root: root, tar: tar.NewWriter(out), links: map[[2]uint64]string{}}
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		return p.entry(path)
	})
	if err == nil {
		err = p.tar.Close()
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", filepath.Base(root), err)
	}
	return out.Close()
}

// packer makes an archive of an unpacked layer.
type packer struct {
	root  string
	tar   *tar.Writer
	links map[[2]uint64]string // device and inode → the first name
}

func (p *packer) entry(path string) error {
	name, err := filepath.Rel(p.root, path)
	if err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	mode := st.Mode & unix.S_IFMT
	if mode == unix.S_IFCHR && st.Rdev == 0 {
		dir, base := filepath.Split(name)
		return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + whiteoutPrefix + base, Format: tar.FormatPAX})
	}
	if mode == unix.S_IFSOCK {
		return nil
	}
	link := ""
	if mode == unix.S_IFLNK {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.Format, h.Uname, h.Gname = name, tar.FormatPAX, "", ""
	if h.PAXRecords, err = attributesOf(path); err != nil {
		return err
	}
	switch {
	case mode == unix.S_IFREG && st.Nlink > 1:
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if first, ok := p.links[id]; ok {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
			return p.tar.WriteHeader(h)
		}
		p.links[id] = name
	case mode == unix.S_IFDIR:
		return p.directory(path, h)
	}
	if err := p.tar.WriteHeader(h); err != nil || mode != unix.S_IFREG {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(p.tar, f, h.Size)
	return err
}

func (p *packer) directory(path string, h *tar.Header) error {
	h.Name += "/"
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		var value [8]byte
		if n, err := unix.Lgetxattr(path, attr, value[:]); err == nil && n == 1 && value[0] == 'y' {
			return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: h.Name + whiteoutOpaque, Format: tar.FormatPAX})
		}
	}
	return nil
}

// attributesOf returns the extended attributes that mean something inside a
// container.
func attributesOf(path string) (map[string]string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err == unix.ENOTSUP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var attrs map[string]string
	for attr := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		if attr == "" || strings.HasPrefix(attr, "trusted.") || strings.Contains(attr, ".overlay.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, attr, value)
		if err != nil {
			continue // gone, or not for this user: eachXattr would not set it either
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs["SCHILY.xattr."+attr] = string(value[:n])
	}
	return attrs, nil
}
