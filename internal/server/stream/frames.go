package stream

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
)

const (
	// largestPiece is how much data the library gets in one frame. It reads up to 250
	// frames ahead of whoever takes the data, and a frame may have 16 MiB.
	largestPiece = 32 << 10
	// largestControl is how long a frame may be that is no data. Clients need a
	// hundred bytes; the headers in it are compressed, up to a thousand times.
	largestControl = 1 << 10
	// frameHeader is how long the header of every SPDY frame is: a stream's identifier
	// (or, with the highest bit, a kind), a byte of flags, and the length in three bytes.
	frameHeader = 8
	// lastFrame is the flag of the last data of a stream.
	lastFrame = 0x01
	// openStream is the kind of the control frame that opens one.
	openStream = 1
	// mostUnused is how many streams a client may open that come to nothing: the library
	// keeps each, with two goroutines, until the connection ends, also when it no longer waits
	// for the other stream of a pair. A client may well open a hundred pairs at once.
	mostUnused = 512
)

var (
	errLongFrame   = errors.New("a SPDY control frame is too long")
	errManyStreams = errors.New("too many streams are opened that come to nothing")
)

// openings counts the streams that a client opens, and those that have come to something.
type openings struct{ opened, used atomic.Int64 }

// open counts one more, or refuses it.
func (o *openings) open() error {
	if o.opened.Add(1)-o.used.Load() > mostUnused {
		return errManyStreams
	}
	return nil
}

// frames reads what a client sends by SPDY, in frames of which none is large: data is
// divided, and what is not data and yet large is an error. A client that is not read
// from can so take only little memory.
type frames struct {
	from    io.Reader
	streams *openings
	header  [frameHeader]byte
	unread  []byte // of header
	piece   int    // bytes of this frame still to come
	rest    int    // bytes of data that further frames have to announce
	flags   byte   // for the last of these
}

// Read implements io.Reader.
func (f *frames) Read(p []byte) (int, error) {
	if len(f.unread) == 0 && f.piece == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.unread) > 0 {
		n := copy(p, f.unread)
		f.unread = f.unread[n:]
		return n, nil
	}
	n, err := f.from.Read(p[:min(len(p), f.piece)])
	f.piece -= n
	return n, err
}

// next makes the next header.
func (f *frames) next() error {
	if f.rest > 0 {
		f.divide()
		return nil
	}
	if _, err := io.ReadFull(f.from, f.header[:]); err != nil {
		return err
	}
	length := int(binary.BigEndian.Uint32(f.header[4:]) & 0xffffff)
	if control := f.header[0]&0x80 != 0; control {
		if length > largestControl {
			return errLongFrame
		}
		if binary.BigEndian.Uint16(f.header[2:]) == openStream {
			if err := f.streams.open(); err != nil {
				return err
			}
		}
		f.unread, f.piece = f.header[:], length
		return nil
	}
	f.flags, f.rest = f.header[4], length
	f.divide()
	return nil
}

// divide announces as much of the data as a piece may have.
func (f *frames) divide() {
	f.piece = min(f.rest, largestPiece)
	f.rest -= f.piece
	binary.BigEndian.PutUint32(f.header[4:], uint32(f.piece))
	f.header[4] = f.flags
	if f.rest > 0 {
		f.header[4] &^= lastFrame
	}
	f.unread = f.header[:]
}

// far is the answer of the half that is the kubelet's. Its connection, once it is taken
// over, is closed when the session ends, which the library would wait for: until all
// streams are there, and in vain if the client has gone.
type far struct {
	http.ResponseWriter
	ctx     context.Context
	spdy    bool
	streams *openings
}

// Hijack implements http.Hijacker. The library reads from what is returned beside the
// connection: some of what the client sends may be there already.
func (f far) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(f.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	context.AfterFunc(f.ctx, func() { conn.Close() })
	if f.spdy {
		buffered.Reader = bufio.NewReader(&frames{from: buffered.Reader, streams: f.streams})
	}
	return conn, buffered, nil
}

// isSPDY reports whether a client wants to go on by SPDY.
func isSPDY(r *http.Request) bool {
	return strings.Contains(strings.ToLower(r.Header.Get("Upgrade")), "spdy/")
}
