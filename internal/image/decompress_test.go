package image_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/image/imagetest"
)

// zstdLayer is a layer as a registry has it that is compressed, with content as it is, by frames
// that ask for a window of so many bytes: 1 << (10 + window/8).
type zstdLayer struct {
	content []byte
	window  byte
}

func (l zstdLayer) blob() []byte {
	const most = 100 << 10 // of a block
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, l.window}
	for rest := l.content; len(rest) > 0; {
		block := rest[:min(len(rest), most)]
		rest = rest[len(block):]
		head := len(block) << 3
		if len(rest) == 0 {
			head |= 1 // the last one
		}
		b = append(append(b, byte(head), byte(head>>8), byte(head>>16)), block...)
	}
	return b
}

func (l zstdLayer) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(l.blob()))
	return h, err
}
func (l zstdLayer) DiffID() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(l.content))
	return h, err
}
func (l zstdLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.blob())), nil
}
func (l zstdLayer) Size() (int64, error)                { return int64(len(l.blob())), nil }
func (l zstdLayer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }

// TestWindow: a few bytes of a layer that ask for half a gigabyte to be read are refused.
func TestWindow(t *testing.T) {
	t.Parallel()
	content := append(imagetest.Tar(t, imagetest.File{Name: "x", Body: make([]byte, 300_000)}), make([]byte, 1024)...)
	for name, tc := range map[string]struct {
		window byte
		want   string // "": it is taken
	}{
		"of 8 MiB":   {13 << 3, ""},
		"of 32 MiB":  {15 << 3, ""},
		"of 512 MiB": {19 << 3, "layer 1 of 1: reading it takes more than 32 MiB of memory, by the window of its compression"},
		"of 2 TiB":   {31 << 3, "layer 1 of 1: reading it takes more than 32 MiB of memory, by the window of its compression"},
	} {
		layer, err := partial.CompressedToLayer(zstdLayer{content, tc.window})
		if err != nil {
			t.Fatal(err)
		}
		img, err := mutate.AppendLayers(imagetest.Image(t, v1.Config{}), layer)
		if err != nil {
			t.Fatal(err)
		}
		s, dir := open(t)
		ref := push(t, "window:v1", img)
		_, err = s.Pull(t.Context(), ref, image.PullOptions{})
		if tc.want == "" {
			if err != nil {
				t.Errorf("a window %s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("a window %s: %v", name, err)
		}
		if left := leftovers(t, dir); len(left) > 0 {
			t.Errorf("a window %s: left behind: %v", name, left)
		}
	}
}
