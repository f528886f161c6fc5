package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// Reader reads a backup and checks it on the way.
type Reader struct {
	Manifest
	tar  *tar.Reader
	seen map[string]bool
	sums bytes.Buffer // of what was read, as SHA256SUMS should be

	name string // of the member that is being read; "" between them
	sum  hash.Hash
	part map[string]int // the next part of each stream
	left int64          // bytes that may still be read; negative: any number
	err  error
}

// Member is one file of a backup. It is to be read before the next one.
type Member struct {
	Name    string
	Size    int64
	Changed time.Time
	io.Reader
}

// NewReader begins to read a backup: its manifest. most is how many bytes its
// members may have together, 0 for any number.
func NewReader(r io.Reader, most int64) (*Reader, error) {
	b := &Reader{tar: tar.NewReader(r), seen: map[string]bool{}, part: map[string]int{}, left: most}
	if most == 0 {
		b.left = -1
	}
	h, err := b.header()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, tar.ErrHeader):
		return nil, invalid("it is not one")
	case err != nil:
		return nil, err
	case h.Name != manifestName || h.Size > mostManifest:
		return nil, invalid("it is not one: it begins with %.200q", h.Name)
	}
	data, err := io.ReadAll(b.open(h))
	if err != nil {
		return nil, b.explain(err)
	}
	b.close()
	if err := json.Unmarshal(data, &b.Manifest); err != nil {
		return nil, invalid("%s: %v", manifestName, err)
	}
	if b.Format < 1 || b.Format > Format {
		return nil, invalid("it has format %d, and this program knows none above %d: use the program that wrote it (%s), or a newer one", b.Format, Format, b.Sampan)
	}
	return b, nil
}

// Next returns the next member. io.EOF: that was all, and all of it is as it was
// written. Before that, nothing that was read may be relied on.
func (b *Reader) Next() (*Member, error) {
	if b.err != nil {
		return nil, b.err
	}
	m, err := b.next()
	if err != nil {
		b.err = err
	}
	return m, err
}

func (b *Reader) next() (*Member, error) {
	if b.name != "" {
		if _, err := io.Copy(io.Discard, memberReader{b}); err != nil {
			return nil, err
		}
	}
	h, err := b.header()
	if errors.Is(err, io.EOF) {
		return nil, invalid("it is cut short: the sums at its end are missing")
	}
	if err != nil {
		return nil, err
	}
	if h.Name == sumsName {
		return nil, b.end(h)
	}
	if stream, part, ok := Stream(h.Name); ok {
		if h.Size > mostPart || part != b.part[stream] {
			return nil, invalid("%s has %d bytes, and part %d was expected", h.Name, h.Size, b.part[stream])
		}
		b.part[stream]++
	}
	return &Member{Name: h.Name, Size: h.Size, Changed: h.ModTime, Reader: b.open(h)}, nil
}

// header reads the header of a member.
func (b *Reader) header() (*tar.Header, error) {
	h, err := b.tar.Next()
	if err != nil {
		return nil, b.explain(err)
	}
	switch {
	case h.Typeflag != tar.TypeReg:
		return nil, invalid("%.200q is not a plain file", h.Name)
	case b.seen[h.Name]:
		return nil, invalid("%.200q comes twice", h.Name)
	case len(b.seen) >= mostMembers:
		return nil, invalid("it has more than %d members", mostMembers)
	}
	if err := checkName(h.Name); err != nil {
		return nil, err
	}
	if b.left >= 0 {
		if b.left -= h.Size; b.left < 0 {
			return nil, invalid("it is larger than there is room for")
		}
	}
	b.seen[h.Name] = true
	return h, nil
}

// explain turns what the archive's reader says into an error of the backup.
func (b *Reader) explain(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("it is cut short")
	case errors.Is(err, tar.ErrHeader):
		if len(b.seen) == 0 {
			return err
		}
		return invalid("it is damaged: %v", err)
	}
	return err
}

func (b *Reader) open(h *tar.Header) io.Reader {
	b.name, b.sum = h.Name, sha256.New()
	return memberReader{b}
}

func (b *Reader) close() {
	if b.name != "" {
		fmt.Fprintf(&b.sums, "%x  %s\n", b.sum.Sum(nil), b.name)
		b.name = ""
	}
}

// memberReader reads the present member and adds it to the sums.
type memberReader struct{ b *Reader }

func (m memberReader) Read(p []byte) (int, error) {
	n, err := m.b.tar.Read(p)
	m.b.sum.Write(p[:n])
	if errors.Is(err, io.EOF) {
		m.b.close()
		return n, io.EOF
	}
	if err != nil {
		err = m.b.explain(err)
	}
	return n, err
}

// end compares the sums, and demands that nothing follows.
func (b *Reader) end(h *tar.Header) error {
	if h.Size > mostSums {
		return invalid("%s has %d bytes", sumsName, h.Size)
	}
	want, err := io.ReadAll(b.tar)
	if err != nil {
		return b.explain(err)
	}
	if !bytes.Equal(want, b.sums.Bytes()) {
		return invalid("it is damaged: %s", difference(want, b.sums.Bytes()))
	}
	if h, err := b.tar.Next(); !errors.Is(err, io.EOF) {
		if err != nil {
			return b.explain(err)
		}
		return invalid("%.200q comes behind its end", h.Name)
	}
	return io.EOF
}

// difference names the first member whose sum is another.
func difference(want, got []byte) string {
	w, g := bufio.NewScanner(bytes.NewReader(want)), bufio.NewScanner(bytes.NewReader(got))
	for g.Scan() {
		if !w.Scan() || !bytes.Equal(w.Bytes(), g.Bytes()) {
			_, name, _ := bytes.Cut(g.Bytes(), []byte("  "))
			return fmt.Sprintf("the sum of %.200q is wrong", name)
		}
	}
	return "members are missing"
}

// Records calls put for every object in a part of them. What it is given may be
// kept.
func Records(m *Member, put func(key, value []byte) error) error {
	data, err := io.ReadAll(m)
	if err != nil {
		return err
	}
	field := func() []byte {
		n, size := binary.Uvarint(data)
		if size <= 0 || n > uint64(len(data)-size) {
			return nil
		}
		f := data[size:][:n:n]
		data = data[size+int(n):]
		return f
	}
	for len(data) > 0 {
		key, value := field(), field()
		if len(key) == 0 || len(value) == 0 {
			return invalid("%s is damaged", m.Name)
		}
		if err := put(key, value); err != nil {
			return invalid("%s: %v", m.Name, err)
		}
	}
	return nil
}

// IsObjects reports whether a member is a part of the objects.
func (m *Member) IsObjects() bool {
	stream, _, ok := Stream(m.Name)
	return ok && stream == objectsName
}

// Verify reads a backup to its end.
func Verify(r io.Reader) (*Manifest, error) {
	b, err := NewReader(r, 0)
	if err != nil {
		return nil, err
	}
	for {
		switch _, err := b.Next(); {
		case errors.Is(err, io.EOF):
			return &b.Manifest, nil
		case err != nil:
			return nil, err
		}
	}
}
