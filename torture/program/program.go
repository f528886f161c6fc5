// Package program builds what a torture runs: Sampan, and an image for what runs in
// its containers, which is busybox. The benchmark builds with it, too.
package program

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is what manifests name.
const Image = "sampan-torture"

// Shell runs scripts, on the machine and in the image alike.
const Shell = "/bin/busybox"

// Set are the programs, in one directory.
type Set struct {
	Sampan  string // as users have it
	Faulty  string // the same, built with the tag faulty: its disk calls can be refused
	Archive string // of the image
}

// Build makes the programs in dir.
func Build(ctx context.Context, dir string) (*Set, error) {
	s := &Set{Sampan: filepath.Join(dir, "sampan"), Faulty: filepath.Join(dir, "sampan-faulty"), Archive: filepath.Join(dir, "image.tar")}
	if err := GoBuild(ctx, s.Sampan, "github.com/sampan-batch/sampan/cmd/sampan"); err != nil {
		return nil, err
	}
	if err := GoBuild(ctx, s.Faulty, "github.com/sampan-batch/sampan/cmd/sampan", "-tags", "faulty"); err != nil {
		return nil, err
	}
	if !Static(Shell) {
		return nil, errors.New("no static " + Shell + ": apt-get install busybox-static")
	}
	return s, WriteImage(s.Archive, Image, Shell, Shell)
}

// GoBuild builds a package of this module to the file out.
func GoBuild(ctx context.Context, out, pkg string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", out}, flags...), pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// Static tells whether a file is a program that needs no loader.
func Static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Section(".interp") == nil
}

// WriteImage writes an archive of an image that has a program of the machine's at the
// path at, as its entrypoint, and nothing else.
func WriteImage(archive, image, program, at string) error {
	body, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	content, err := layer(at, body)
	if err != nil {
		return err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Config = "linux", runtime.GOARCH, v1.Config{Entrypoint: []string{at}}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return err
	}
	reference, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	if err := tarball.WriteToFile(archive, reference, img); err != nil {
		return err
	}
	return os.Chmod(archive, 0o644)
}

func layer(path string, body []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	header := &tar.Header{Name: filepath.ToSlash(path[1:]), Mode: 0o755, Size: int64(len(body))}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	err := w.Close()
	return buf.Bytes(), err
}
