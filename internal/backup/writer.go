package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Writer writes a backup. What it holds in memory is one part, and a line for
// every member.
type Writer struct {
	tar     *tar.Writer
	created time.Time
	sums    bytes.Buffer
	objects *stream
	record  []byte
}

// NewWriter begins a backup. Its format is the present one.
func NewWriter(w io.Writer, m Manifest) (*Writer, error) {
	m.Format = Format
	b := &Writer{tar: tar.NewWriter(w), created: m.Created}
	b.objects = &stream{writer: b, name: objectsName}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return b, b.Data(manifestName, append(data, '\n'))
}

// Put adds an object, as the store has it.
func (b *Writer) Put(key, value []byte) error {
	r := binary.AppendUvarint(b.record[:0], uint64(len(key)))
	r = append(r, key...)
	r = binary.AppendUvarint(r, uint64(len(value)))
	r = append(r, value...)
	b.record = r
	return b.objects.add(r)
}

// EndObjects ends the objects.
func (b *Writer) EndObjects() error { return b.objects.flush() }

// Data adds a small file.
func (b *Writer) Data(name string, data []byte) error {
	return b.File(name, b.created, int64(len(data)), bytes.NewReader(data))
}

// File adds a file of size bytes, of which r yields at least as many.
func (b *Writer) File(name string, changed time.Time, size int64, r io.Reader) error {
	if err := checkName(name); err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: changed.UTC().Truncate(time.Second)}
	if err := b.tar.WriteHeader(h); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(b.tar, sum), io.LimitReader(r, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if name != sumsName {
		fmt.Fprintf(&b.sums, "%x  %s\n", sum.Sum(nil), name)
	}
	return nil
}

// Stream returns a writer of something whose length nobody knows yet. Close ends it.
func (b *Writer) Stream(name string) io.WriteCloser { return &stream{writer: b, name: name} }

// Close ends the backup. One that was not closed is not a whole one.
func (b *Writer) Close() error {
	if err := b.Data(sumsName, b.sums.Bytes()); err != nil {
		return err
	}
	return b.tar.Close()
}

// stream is written part by part.
type stream struct {
	writer *Writer
	name   string
	parts  int
	buf    bytes.Buffer
}

// add adds what must be in one part.
func (s *stream) add(p []byte) error {
	s.buf.Write(p)
	if s.buf.Len() < partSize {
		return nil
	}
	return s.flush()
}

func (s *stream) flush() error {
	if s.buf.Len() == 0 {
		return nil
	}
	err := s.writer.Data(fmt.Sprintf("%s/%06d", s.name, s.parts), s.buf.Bytes())
	s.parts++
	s.buf.Reset()
	return err
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (n int, err error) {
	for err == nil && n < len(p) {
		part := p[n:min(len(p), n+partSize)]
		err = s.add(part)
		n += len(part)
	}
	return n, err
}

// Close implements io.Closer.
func (s *stream) Close() error { return s.flush() }
