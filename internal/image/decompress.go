package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is how far back a layer that is compressed by zstd may refer: as much memory it takes
// to read it, whatever its size, and any number may be read at a time. Encoders are to stay below
// 8 MiB (RFC 8878), as those do that make images; beyond are zstd's --ultra and --long.
const maxWindow = 32 << 20

// uncompressed opens the content of a layer. It knows by the content how that is compressed:
// what the manifest says of it is often wrong.
func uncompressed(l v1.Layer) (io.ReadCloser, error) {
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(rc)
	magic, err := in.Peek(4)
	if err != nil && err != io.EOF {
		rc.Close()
		return nil, err
	}
	out := &content{Reader: in, under: rc}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		out.Reader, err = gzip.NewReader(in)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		err = out.zstd(in)
	default:
		err = nil
	}
	if err != nil {
		rc.Close()
		return nil, err
	}
	return out, nil
}

// content is what a layer unpacks to.
type content struct {
	io.Reader
	decoder *zstd.Decoder // nil: it needs none to be closed
	under   io.Closer
}

func (c *content) zstd(in io.Reader) (err error) {
	// Without concurrency: nothing is read ahead, and no goroutine has to be waited for.
	c.decoder, err = zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
	c.Reader = c.decoder
	return err
}

func (c *content) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		err = badImage("reading it takes more than %d MiB of memory, by the window of its compression", maxWindow>>20)
	}
	return n, err
}

func (c *content) Close() error {
	if c.decoder != nil {
		c.decoder.Close()
	}
	return c.under.Close()
}
