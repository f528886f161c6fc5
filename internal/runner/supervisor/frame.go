package supervisor

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

// protocol is the newest version of the protocol that this program speaks. The
// two sides use the smaller of theirs, so that a newer engine can talk to an
// older supervisor. A new field needs no new version (fields that are not
// known are ignored), a new verb does.
const protocol = 8

// A frame on the wire is: length of the rest (4 bytes, big endian), id (8
// bytes), verb (1 byte), and a body in JSON, which may be empty. A request's id
// is the client's choice; its answer carries the same. What is pushed has id 0.
type frame struct {
	id   uint64
	verb verb
	body []byte
}

// verb says what a frame is. The numbers are the protocol: never renumber.
type verb uint8

const (
	// requests
	verbHello     verb = 1  // helloRequest → helloAnswer, which has all containers; changes are pushed from then on
	verbStart     verb = 2  // runner.Spec → runner.Status
	verbSignal    verb = 3  // signalRequest
	verbExec      verb = 4  // of engines that speak no version above 2: execRequest → runner.ExecResult
	verbCancel    verb = 5  // cancelRequest: end an exec; no answer of its own
	verbRemove    verb = 6  // idRequest
	verbRemovePod verb = 7  // idRequest
	verbStop      verb = 8  // answered when every container has ended; then it ends
	verbSetVolume verb = 9  // runner.Volume
	verbUsage     verb = 10 // idRequest → runner.PodUsage
	verbPods      verb = 11 // → podsAnswer
	verbAlive     verb = 12 // an error when no container can be started any more

	verbSetImage verb = 16 // runner.Volume with Layers, which former supervisors would overlook
	verbRead     verb = 17 // runner.VolumeFile → readAnswer
	verbJoin     verb = 18 // idRequest → runner.Joined
	verbServices verb = 19 // []network.Service
	verbDiscard  verb = 21 // idRequest, whose ID is a path: remove what is there
	verbGive     verb = 20 // runner.Volume with a Source, which former supervisors would overlook
	verbPolicies verb = 25 // network.Policies
	verbResize   verb = 23 // resizeRequest → resizeAnswer

	// requests of which each has a connection of its own; see stream.go
	verbRun    verb = 13 // runRequest → runner.ExitInfo
	verbAttach verb = 14 // attachRequest
	verbDial   verb = 15 // dialRequest → a descriptor
	verbNames  verb = 22 // → two descriptors: UDP, TCP
	verbHub    verb = 24 // → a descriptor, for other nodes of the machine

	// answers
	verbOK    verb = 64
	verbError verb = 65 // wireError
	verbBegun verb = 66 // the stream has begun; what it brings is for the client

	// pushed
	verbState verb = 128 // runner.Status, whenever one changes
	verbGone  verb = 129 // idRequest: the container was removed
	// verbLeaving is leavingNotice: the supervisor ends, and no client has asked it to.
	verbLeaving verb = 130
)

const (
	frameHeader = 4 + 8 + 1
	maxFrame    = 16 << 20
)

type helloRequest struct {
	Protocol int
}

type helloAnswer struct {
	Protocol   int
	PID        int
	Class      runner.Class
	Started    time.Time
	Containers []runner.Status
	// Refused is why it cannot start any container, whatever that is; "" if it can.
	Refused string `json:",omitempty"`
}

type idRequest struct{ ID string }

type leavingNotice struct{ Why string }

// readAnswer is what is in a file.
type readAnswer struct{ Data []byte }

type podsAnswer struct{ UIDs []string }

type signalRequest struct {
	ID     string
	Signal int
}

type resizeRequest struct {
	ID        string
	Resources runner.Resources
}

// resizeAnswer says why something is not enforced, or nothing.
type resizeAnswer struct{ Ignored string }

type execRequest struct {
	ID   string
	Exec formerExec
}

// formerExec is what runner.ExecSpec was in version 2.
type formerExec struct {
	Args    []string
	Timeout time.Duration
}

type cancelRequest struct{ Request uint64 }

// runRequest is a command, and which of the descriptors that come with it are its
// standard streams; -1: none is.
type runRequest struct {
	ID    string
	Args  []string
	TTY   bool
	Files [3]int
}

// attachRequest asks for the container's output, for which the client has sent
// descriptors, and for its input or its terminal, for which it is sent one.
type attachRequest struct {
	ID            string
	Stdin, Resize bool
	Files         [3]int
}

// attached says what the descriptor is that an attached client is sent.
type attached struct{ TTY bool }

type dialRequest struct {
	Pod     string
	Port    uint16
	Outside bool
}

func newFrameReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 64<<10) }

// readFrame reads one frame; its body is the caller's.
func readFrame(r *bufio.Reader) (frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	return readBody(r, head)
}

// readBody reads what comes after the header of a frame.
func readBody(r io.Reader, head [frameHeader]byte) (frame, error) {
	n := binary.BigEndian.Uint32(head[:4])
	if n < frameHeader-4 || n > maxFrame {
		return frame{}, fmt.Errorf("supervisor: a frame of %d bytes", n)
	}
	f := frame{id: binary.BigEndian.Uint64(head[4:12]), verb: verb(head[12])}
	if n -= frameHeader - 4; n > 0 {
		f.body = make([]byte, n)
		if _, err := io.ReadFull(r, f.body); err != nil {
			return frame{}, err
		}
	}
	return f, nil
}

// frameWriter sends frames, any number of goroutines at a time. Whoever finds
// nobody writing writes for all who come meanwhile: under load many frames
// share one system call, and nobody waits for a goroutine to be woken.
type frameWriter struct {
	w io.Writer

	mu      sync.Mutex
	queue   []byte
	spare   []byte
	writing bool
	err     error
}

// maxQueue bounds what is kept for a peer that does not read.
const maxQueue = 64 << 20

var errSlow = errors.New("supervisor: the peer does not read")

// send sends a frame, and returns when it has been written or another
// goroutine is about to. An error means that the connection is dead.
func (fw *frameWriter) send(id uint64, v verb, body any) error {
	return fw.queueUp(id, v, body, func() { fw.flushLocked() })
}

// post sends a frame without ever waiting for the peer.
func (fw *frameWriter) post(id uint64, v verb, body any) error {
	return fw.queueUp(id, v, body, func() {
		fw.writing = true
		go func() {
			fw.mu.Lock()
			defer fw.mu.Unlock()
			fw.flushLocked()
		}()
	})
}

func (fw *frameWriter) queueUp(id uint64, v verb, body any, flushLocked func()) error {
	text, ok := body.([]byte)
	if !ok && body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	if len(text) > maxFrame-frameHeader {
		return fmt.Errorf("supervisor: a message of %d bytes is too long", len(text))
	}
	fw.mu.Lock()
	defer fw.mu.Unlock()
	if len(fw.queue) > maxQueue {
		fw.err = errSlow
	}
	if fw.err != nil {
		return fw.err
	}
	fw.queue = binary.BigEndian.AppendUint32(fw.queue, uint32(len(text)+frameHeader-4))
	fw.queue = binary.BigEndian.AppendUint64(fw.queue, id)
	fw.queue = append(fw.queue, byte(v))
	fw.queue = append(fw.queue, text...)
	if !fw.writing {
		flushLocked()
	}
	return fw.err
}

// flushLocked writes until the queue is empty, without the lock meanwhile.
func (fw *frameWriter) flushLocked() {
	fw.writing = true
	for len(fw.queue) > 0 && fw.err == nil {
		batch := fw.queue
		fw.queue = fw.spare[:0]
		fw.mu.Unlock()
		_, err := fw.w.Write(batch)
		fw.mu.Lock()
		fw.err = errors.Join(fw.err, err)
		fw.spare = batch[:0]
	}
	fw.writing = false
}

// wireError is an error on the wire.
type wireError struct {
	Kind    string // "", "start", or one of kinds
	Message string
	Reason  string `json:",omitempty"`
	Code    int    `json:",omitempty"`
}
