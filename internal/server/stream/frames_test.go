package stream

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// frame returns a SPDY frame whose header begins with first; body is length times 'x'.
func frame(first [4]byte, flags byte, length int) []byte {
	b := append(first[:], flags, byte(length>>16), byte(length>>8), byte(length))
	return append(b, bytes.Repeat([]byte{'x'}, length)...)
}

// Data comes in pieces, of which the last says what the frame said; all else comes as it is.
func TestFrames(t *testing.T) {
	data, other, control := [4]byte{0, 0, 0, 1}, [4]byte{0x7f, 1, 2, 3}, [4]byte{0x80, 3, 0, 1}
	sent := slices.Concat(
		frame(data, 0, 5), frame(control, 1, largestControl), frame(data, 3, 2*largestPiece+7), frame(other, 1, 0),
		frame(control, 0, 0), frame(data, 1, largestPiece), frame(other, 0, largestPiece+1))
	want := slices.Concat(
		frame(data, 0, 5), frame(control, 1, largestControl),
		frame(data, 2, largestPiece), frame(data, 2, largestPiece), frame(data, 3, 7), frame(other, 1, 0),
		frame(control, 0, 0), frame(data, 1, largestPiece), frame(other, 0, largestPiece), frame(other, 0, 1))
	for name, from := range map[string]io.Reader{
		"whole": bytes.NewReader(sent), "in bytes": iotest.OneByteReader(bytes.NewReader(sent)), "with its end": iotest.DataErrReader(bytes.NewReader(sent)),
	} {
		got, err := io.ReadAll(&frames{from: from, streams: &openings{}})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes instead of %d, %v", name, len(got), len(want), err)
		}
	}
	for name, test := range map[string]struct {
		sent []byte
		err  error
	}{
		"headers of a megabyte": {frame(control, 0, largestControl+1), errLongFrame},
		"half a header":         {[]byte{0, 0, 0}, io.ErrUnexpectedEOF},
	} {
		if got, err := io.ReadAll(&frames{from: bytes.NewReader(test.sent), streams: &openings{}}); len(got) > 0 || !errors.Is(err, test.err) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}
