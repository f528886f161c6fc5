package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

const (
	// strangerLife is how long a connection may last on which nobody has shown
	// who he is: the TLS handshake and one request.
	strangerLife = 10 * time.Second
	// strangerRequests is how many requests such a connection may have under way.
	strangerRequests = 4
	// littleBytes is what a stranger may send and still have sent little: the handshake, with a
	// client's certificate, and a request with a token.
	littleBytes = 16 << 10
	// afterRefusal is how long a stranger may go on sending the body of a request
	// that was answered: long enough for the answer to arrive before the reset
	// that unread bytes cause.
	afterRefusal = 500 * time.Millisecond
	// administrators is the part of all clients' connections, one in so many, that is for
	// administrators only.
	administrators = 16
	// acceptRetry is the longest pause after an accept that failed.
	acceptRetry = time.Second
)

// limits are how many connections there may be at a time.
type limits struct {
	clients   int // that have shown who they are
	strangers int // that have not (yet)
	loud      int // strangers that have sent more than littleBytes, which take memory
}

// limitsFor divides what a process with so many files may hold. The rest, at
// least half, is for the store, logs that are read, images, and supervisors.
// The strangers are as many as the clients: these are all strangers when thousands of them
// come at the same moment.
func limitsFor(files uint64) limits {
	return limits{
		clients:   int(min(max(files/4, 16), 4096)),
		strangers: int(min(max(files/4, 16), 4096)),
		loud:      int(min(max(files/16, 8), 512)),
	}
}

// openFiles is how many files this process may hold. (The Go runtime has raised
// the limit as far as it may when the program started.)
func openFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return limit.Cur
}

// door is the listener of the API. It knows every connection, as a stranger
// until a request on it is authenticated, and sees to it that strangers can
// neither take all of the process's files nor keep clients out: they have a
// place of their own, a short life, and the oldest goes when one comes too many.
// A client is one of them only for the milliseconds of its handshake. Clients are as who
// has shown himself first on the connection: who opens connections without end, as every
// pod can with its token, leaves some to others.
//
// There is no limit per user of the machine: a TCP connection does not tell
// whose it is, as a Unix socket does by SO_PEERCRED.
type door struct {
	net.Listener
	limits limits
	life   time.Duration // of a stranger
	log    *slog.Logger

	mu        sync.Mutex
	strangers list.List      // of *conn, the oldest first
	loud      list.List      // of those that have sent much, who did so first first
	clients   int            // all of them
	of        map[string]int // by user
}

// conn is one connection.
type conn struct {
	net.Conn
	door *door
	end  *time.Timer // of a stranger's life
	// requests of a stranger that are under way
	requests atomic.Int32
	client   atomic.Bool // set once, under door.mu
	sent     int         // bytes of a stranger, for who reads

	// Guarded by door.mu.
	place  *list.Element // among the strangers
	loud   *list.Element // among the loud ones; nil: it is none
	user   string        // as whom it is a client
	closed bool
}

func newDoor(l net.Listener, o Options) *door {
	return &door{Listener: l, limits: limitsFor(o.OpenFiles), life: o.strangerLife, log: o.Logger, of: map[string]int{}}
}

// Accept returns the next connection. Only a closed listener is an error: the
// others (no files left; an error of the connection itself, see accept(2)) pass.
func (d *door) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, acceptRetry) {
		c, err := d.Listener.Accept()
		if err == nil {
			return d.enter(c), nil
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if pause == acceptRetry {
			d.log.Warn("connections cannot be accepted", "err", err)
		}
		time.Sleep(pause)
	}
}

// enter gives a new connection its place, which may be that of the oldest
// stranger.
func (d *door) enter(nc net.Conn) *conn {
	c := &conn{Conn: nc, door: d}
	var oldest *conn
	d.mu.Lock()
	if d.strangers.Len() >= d.limits.strangers {
		oldest = d.strangers.Front().Value.(*conn)
	}
	c.place = d.strangers.PushBack(c)
	c.end = time.AfterFunc(d.life, func() { c.Close() })
	d.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return c
}

// Read implements net.Conn. A stranger who sends much is one of the loud ones, of whom there
// may be few: the one that has been for longest goes when one comes too many.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.client.Load() {
		quiet := c.sent <= littleBytes
		if c.sent += n; quiet && c.sent > littleBytes {
			c.door.hear(c)
		}
	}
	return n, err
}

// hear counts a stranger among the loud ones.
func (d *door) hear(c *conn) {
	var first *conn
	d.mu.Lock()
	if !c.closed && !c.client.Load() {
		if d.loud.Len() >= d.limits.loud {
			first = d.loud.Front().Value.(*conn)
		}
		c.loud = d.loud.PushBack(c)
	}
	d.mu.Unlock()
	if first != nil {
		first.Close()
	}
}

// leave takes a connection from the strangers; d.mu is held.
func (d *door) leave(c *conn) {
	d.strangers.Remove(c.place)
	if c.loud != nil {
		d.loud.Remove(c.loud)
	}
	c.end.Stop()
}

// NetConn returns the connection below, as tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }

// welcome makes a stranger a client; false: there are too many, or he has as many connections as
// there are left for others.
func (c *conn) welcome(who user.Info) bool {
	d := c.door
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.client.Load() {
		return true
	}
	if c.closed {
		return false
	}
	visitor := visitorOf(who)
	left := d.limits.clients - d.clients
	if !visitor.admin {
		left -= d.limits.clients / administrators
	}
	if d.of[visitor.name] >= left {
		return false
	}
	d.leave(c)
	d.clients++
	d.of[visitor.name]++
	c.user = visitor.name
	c.client.Store(true)
	return true
}

// Close gives the connection's place back.
func (c *conn) Close() error {
	d := c.door
	d.mu.Lock()
	if !c.closed {
		c.closed = true
		if c.client.Load() {
			d.clients--
			if d.of[c.user]--; d.of[c.user] == 0 {
				delete(d.of, c.user)
			}
		} else {
			d.leave(c)
		}
	}
	d.mu.Unlock()
	return c.Conn.Close()
}

// connKey is the connection of a request's context.
type connKey struct{}

// withConn is http.Server.ConnContext.
func withConn(ctx context.Context, nc net.Conn) context.Context {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if c, ok := nc.(*conn); ok {
		ctx = context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// withDoor lets pass what comes from clients, and makes clients of those who
// show for the first time who they are. The requests of the others are answered
// (there are public paths), without their body being looked at, and their
// connection is closed then.
func withDoor(h http.Handler, who authenticator.Request) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if !ok || c.client.Load() {
			h.ServeHTTP(w, r)
			return
		}
		switch client := authenticated(who, r); {
		case client == nil:
			c.refuse(h, w, r)
		case c.welcome(client):
			h.ServeHTTP(w, r)
		default:
			w.Header().Set("Connection", "close")
			turnAway(w, "too many connections")
		}
	})
}

// refuse answers a stranger.
func (c *conn) refuse(h http.Handler, w http.ResponseWriter, r *http.Request) {
	if c.requests.Add(1) > strangerRequests {
		c.Close()
		return
	}
	defer c.requests.Add(-1)
	w.Header().Set("Connection", "close")
	bare := r.WithContext(r.Context())
	bare.Body = http.NoBody
	h.ServeHTTP(w, bare)
	if r.ProtoMajor == 1 {
		// The server reads on, lest the client loses the answer.
		_ = c.SetReadDeadline(time.Now().Add(afterRefusal))
	} else {
		// Who does not take it is to wait here, where he is counted.
		_ = http.NewResponseController(w).Flush()
	}
}

// authenticated returns who a request shows that sends it; nil: nobody. It leaves the
// request as it is: authenticators take the credentials away.
func authenticated(who authenticator.Request, r *http.Request) user.Info {
	probe := r.WithContext(r.Context())
	probe.Header = r.Header.Clone()
	response, ok, err := who.AuthenticateRequest(probe)
	if !ok || err != nil || response.User.GetName() == user.Anonymous {
		return nil
	}
	return response.User
}
