package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxUserFile bounds /etc/passwd and /etc/group of an image, in bytes.
	maxUserFile = 4 << 20
	// maxSteps bounds the names on the way to a file, those in links included.
	maxSteps = 512
)

// file reads a file of the image as a container will find it: the topmost
// layer's that has it, whiteouts and links respected, wherever in the layers the
// links lead to. It returns nothing when there is none. Only regular files are
// ever opened.
func (img *Image) file(name string) ([]byte, error) {
	f, err := img.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("/%s of the image: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxUserFile+1))
	if err == nil && len(data) > maxUserFile {
		err = fmt.Errorf("it is larger than %d bytes", maxUserFile)
	}
	if err != nil {
		return nil, fmt.Errorf("/%s of the image: %w", name, err)
	}
	return data, nil
}

// merged is a directory of the image: a path without links, and the layers that
// have a part in it, topmost first.
type merged struct {
	path   string
	layers []string
}

// open opens a file of the image.
func (img *Image) open(name string) (*os.File, error) {
	end, err := img.walk(name)
	switch {
	case err != nil:
		return nil, err
	case end.missing:
		return nil, unix.ENOENT
	case end.file == "":
		return nil, errors.New("it is a directory")
	}
	return openRegular(end.file, end.path)
}

// Place returns where a container comes to by a path of the image: the same without any
// link. What the image does not have, at the end of a link for instance, is taken for
// directories that are still to be made, as runc does.
func (img *Image) Place(name string) (string, error) {
	end, err := img.walk(name)
	if err != nil {
		return "", fmt.Errorf("%s of the image: %w", name, err)
	}
	return path.Join("/", end.path), nil
}

// end is where a walk has come to.
type end struct {
	path    string
	file    string // the layer that has it, if it is no directory
	missing bool   // the image does not have it, or something on the way there
}

// walk walks to name as the kernel walks over the mounted layers.
func (img *Image) walk(name string) (e end, err error) {
	root := merged{path: "."}
	for i := len(img.Layers) - 1; i >= 0; i-- {
		root.layers = append(root.layers, img.Layers[i])
	}
	way, rest := []merged{root}, strings.Split(name, "/")
	for steps := 0; len(rest) > 0; steps++ {
		if steps > maxSteps || len(rest) > maxSteps {
			return e, unix.ELOOP
		}
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			way = way[:max(1, len(way)-1)]
			continue
		}
		dir, found, err := way[len(way)-1].look(part)
		switch {
		case err == unix.ENOENT || found.layer != "" && found.link == "" && len(rest) > 0:
			e.missing = true
			way = append(way, merged{path: dir.path})
		case err != nil:
			return e, err
		case found.link != "":
			if path.IsAbs(found.link) {
				way = way[:1]
			}
			rest = append(strings.Split(found.link, "/"), rest...)
		default:
			e.file = found.layer
			way = append(way, dir)
		}
	}
	e.path = way[len(way)-1].path
	return e, nil
}

// found is what is no directory: a link, or something else in a layer.
type found struct{ layer, link string }

// look looks a name up in a merged directory.
func (m merged) look(name string) (dir merged, f found, err error) {
	dir.path = path.Join(m.path, name)
	for _, layer := range m.layers {
		fd, err := openIn(layer, dir.path, unix.O_PATH|unix.O_NOFOLLOW)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue
		}
		if err != nil {
			return dir, f, err
		}
		var st unix.Stat_t
		var link string
		opaque := false
		if err = unix.Fstat(fd, &st); err == nil {
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFLNK:
				link, err = readLink(fd)
			case unix.S_IFDIR:
				opaque = isOpaque(fd)
			}
		}
		unix.Close(fd)
		whiteout := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
		switch {
		case err != nil:
			return dir, f, err
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			dir.layers = append(dir.layers, layer)
			if opaque {
				return dir, f, nil
			}
		case len(dir.layers) > 0 || whiteout: // hides what is below
			if len(dir.layers) == 0 {
				return dir, f, unix.ENOENT
			}
			return dir, f, nil
		default:
			return dir, found{layer: layer, link: link}, nil
		}
	}
	if len(dir.layers) == 0 {
		return dir, f, unix.ENOENT
	}
	return dir, f, nil
}

// openIn opens a path without links in a layer.
func openIn(layer, name string, flags uint64) (int, error) {
	root, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("layer %s: %w", layer, err)
	}
	defer unix.Close(root)
	return unix.Openat2(root, name, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	return string(buf[:max(n, 0)]), err
}

// isOpaque reports whether overlayfs shows nothing of lower layers in a
// directory.
func isOpaque(fd int) bool {
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	var value [1]byte
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Fgetxattr(dir, attr, value[:]); err == nil && n == 1 && value[0] == 'y' {
			return true
		}
	}
	return false
}

// openRegular opens a regular file, and nothing else for a moment: opening a
// pipe would wait, opening a device may do anything.
func openRegular(layer, name string) (*os.File, error) {
	fd, err := openIn(layer, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("it is not a regular file")
	}
	return os.Open("/proc/self/fd/" + strconv.Itoa(fd))
}
