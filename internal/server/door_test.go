package server

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
)

// closed reports whether the other side closes c within d.
func closed(c net.Conn, d time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(d))
	defer c.SetReadDeadline(time.Time{})
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

func dial(t testing.TB, f *fixture) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dialTLS returns a connection after its handshake, as nobody or as config.
func dialTLS(t testing.TB, f *fixture, config *rest.Config, protocol string) *tls.Conn {
	t.Helper()
	settings := &tls.Config{InsecureSkipVerify: true}
	if config != nil {
		var err error
		if settings, err = rest.TLSConfigFor(config); err != nil {
			t.Fatal(err)
		}
		settings.ServerName = "localhost"
	}
	settings.NextProtos = []string{protocol}
	c := tls.Client(dial(t, f), settings)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func openAs(files uint64) func(*Options) { return func(o *Options) { o.OpenFiles = files } }

// Whoever opens connections and does nothing takes the places of his own kind:
// the oldest go, and clients are served.
func TestStrangersTakeNoPlace(t *testing.T) {
	t.Parallel()
	const many = 60
	hold := func(f *fixture) (gone int) {
		var conns []net.Conn
		for range many {
			conns = append(conns, dial(t, f))
		}
		resp, body := f.http(t, "", cms, "", nil)
		if resp.StatusCode != 200 {
			t.Errorf("a client: %d %s", resp.StatusCode, body)
		}
		for _, c := range conns {
			if closed(c, 20*time.Millisecond) {
				gone++
			}
		}
		return gone
	}
	f := setup(t, openAs(128))
	if got, want := hold(f), many-limitsFor(128).strangers; got < want {
		t.Errorf("%d of %d idle connections were closed, want %d", got, many, want)
	}
	if got := hold(setup(t, openAs(1<<20))); got != 0 {
		t.Errorf("%d were closed although there is room: the test shows nothing", got)
	}
}

// Strangers who send much are few: those who do first go, and whoever sends little stays.
func TestLoudStrangers(t *testing.T) {
	t.Parallel()
	f := setup(t, openAs(128), func(o *Options) { o.strangerLife = time.Hour })
	limit := limitsFor(128)
	send := func(head int) net.Conn {
		c := dialTLS(t, f, nil, "http/1.1")
		fmt.Fprintf(c, "GET /api HTTP/1.1\r\nHost: x\r\nX-A: %s", strings.Repeat("a", head))
		return c
	}
	quiet := []net.Conn{send(0), send(littleBytes / 4)}
	var loud []net.Conn
	for range 2 * limit.loud {
		loud = append(loud, send(2*littleBytes))
	}
	gone := 0
	for _, c := range loud {
		if closed(c, 100*time.Millisecond) {
			gone++
		}
	}
	if want := len(loud) - limit.loud; gone != want {
		t.Errorf("%d of %d were closed, want %d", gone, len(loud), want)
	}
	for _, c := range quiet {
		if closed(c, 20*time.Millisecond) {
			t.Error("one who has sent little was closed")
		}
	}
	if got := len(loud) + len(quiet); got > limit.strangers {
		t.Errorf("%d are too many in any case: the test shows nothing", got)
	}
}

// A client's connections are not given up for strangers', however many come.
func TestStrangersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	f := setup(t, openAs(128))
	c := dialTLS(t, f, f.config, "http/1.1")
	answers := bufio.NewReader(c)
	ask := func() {
		t.Helper()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", cms)
		resp, err := http.ReadResponse(answers, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	ask()
	for range 100 {
		dial(t, f)
	}
	ask()
}

// Every way to take one's time before saying who one is comes to its end.
func TestStrangersLife(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, f *fixture) net.Conn{
		"nothing": func(t *testing.T, f *fixture) net.Conn { return dial(t, f) },
		"half a handshake": func(t *testing.T, f *fixture) net.Conn {
			c := dial(t, f)
			c.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3})
			return c
		},
		"a handshake": func(t *testing.T, f *fixture) net.Conn { return dialTLS(t, f, nil, "http/1.1") },
		"half a request": func(t *testing.T, f *fixture) net.Conn {
			c := dialTLS(t, f, nil, "http/1.1")
			io.WriteString(c, "GET /api HTTP/1.1\r\nHost: x\r\nX-A: ")
			return c
		},
		"HTTP/2 and settings": func(t *testing.T, f *fixture) net.Conn {
			c := dialTLS(t, f, nil, "h2")
			preface(c)
			return c
		},
		"half a header block": func(t *testing.T, f *fixture) net.Conn {
			c := dialTLS(t, f, nil, "h2")
			fr := preface(c)
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			return c
		},
		"a client's certificate, and no request": func(t *testing.T, f *fixture) net.Conn {
			return dialTLS(t, f, f.config, "http/1.1")
		},
	}
	life := func(d time.Duration) func(*Options) { return func(o *Options) { o.strangerLife = d } }
	short, long := setup(t, life(200*time.Millisecond)), setup(t, life(time.Hour))
	for name, open := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c := open(t, long); closed(c, 400*time.Millisecond) {
				t.Fatal("it is closed anyway: the test shows nothing")
			}
			if c := open(t, short); !closed(c, 5*time.Second) {
				t.Error("the connection lasts")
			}
		})
	}
}

// preface begins HTTP/2, with windows of nothing: whatever is sent is not taken.
func preface(c net.Conn) *http2.Framer {
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	return fr
}

// headers is a header block.
func headers(method, path string, more ...string) []byte {
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	pairs := append([]string{":method", method, ":scheme", "https", ":authority", "x", ":path", path}, more...)
	for i := 0; i < len(pairs); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return []byte(block.String())
}

// Who is nobody gets his answer at once, whatever he has still to send, and is
// disconnected.
func TestRefusedWithoutReading(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for name, head := range map[string]string{
		"chunked":         "POST " + cms + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a short body":    "POST " + cms + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"a long body":     "POST " + cms + " HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n",
		"asked to go on":  "POST " + cms + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
		"a forged token":  "POST " + cms + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 1000\r\n\r\n",
		"an unknown path": "POST /nosuch HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialTLS(t, f, nil, "http/1.1")
			io.WriteString(c, head)
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != 401 || !resp.Close {
				t.Fatalf("got %v, %v", resp, err)
			}
			for stop := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
					return
				}
				if time.Now().After(stop) {
					t.Fatal("the body is still read")
				}
			}
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		c := dialTLS(t, f, nil, "h2")
		io.WriteString(c, http2.ClientPreface)
		fr := http2.NewFramer(c, c)
		fr.WriteSettings()
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("POST", cms), EndHeaders: true})
		if status := answerOf(t, fr, 1); status != "401" {
			t.Errorf("got %s", status)
		}
		if !closed(c, 5*time.Second) {
			t.Error("the connection lasts")
		}
	})
}

// answerOf returns the status of a stream.
func answerOf(t *testing.T, fr *http2.Framer, stream uint32) (status string) {
	t.Helper()
	dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			status = f.Value
		}
	})
	for status == "" {
		frame, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := frame.(*http2.HeadersFrame); ok && h.StreamID == stream {
			dec.Write(h.HeaderBlockFragment())
		}
	}
	return status
}

// A stranger's answers that he does not take are few: he is disconnected, or his
// further requests are not looked at, as the first answer says that it is the last.
func TestStrangersRequests(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.strangerLife = time.Hour })
	// answers counts those that have begun, and cannot end.
	answers := func(config *rest.Config, path string) (n int) {
		c := dialTLS(t, f, config, "h2")
		fr := preface(c)
		for i := range 100 {
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: headers("GET", path), EndHeaders: true, EndStream: true})
		}
		for {
			c.SetReadDeadline(time.Now().Add(2 * time.Second))
			frame, err := fr.ReadFrame()
			if err != nil {
				return n
			}
			if frame.Header().Type == http2.FrameHeaders {
				n++
			}
		}
	}
	if got := answers(nil, "/api"); got > strangerRequests {
		t.Errorf("%d answers wait for a stranger", got)
	}
	if got := answers(f.config, "/api"); got <= strangerRequests {
		t.Errorf("only %d wait for a client: the test shows nothing", got)
	}
}

// Too many clients are told so, and the next is served when one has gone.
func TestTooManyClients(t *testing.T) {
	t.Parallel()
	f := setup(t, openAs(64))
	ask := func(c net.Conn) int {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", cms)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	var conns []net.Conn
	for { // the fixture's own connections count, too
		c := dialTLS(t, f, f.config, "http/1.1")
		code := ask(c)
		if code == http.StatusTooManyRequests {
			break
		}
		if conns = append(conns, c); code != 200 || len(conns) > limitsFor(64).clients {
			t.Fatalf("connection %d: %d", len(conns), code)
		}
	}
	if n := limitsFor(64).clients / 2; len(conns) > n || len(conns) < n-4 {
		t.Errorf("he has %d", len(conns))
	}
	conns[0].Close()
	for stop := time.Now().Add(5 * time.Second); ask(dialTLS(t, f, f.config, "http/1.1")) != 200; {
		if time.Now().After(stop) {
			t.Fatal("the place of a connection that was closed stays taken")
		}
	}
}

// Who opens connections without end, as every pod can with its token, leaves some to others, by as many
// accounts of a namespace as there are, and some to administrators in any case.
func TestConnectionsAreShared(t *testing.T) {
	t.Parallel()
	d := newDoor(nil, Options{OpenFiles: 1024, strangerLife: time.Hour}) // 256 clients
	var all []*conn
	enters := func(groups []string, names ...string) (n int) {
		for i := 0; ; i++ {
			near, far := net.Pipe()
			t.Cleanup(func() { far.Close() })
			c := d.enter(near)
			if !c.welcome(&user.DefaultInfo{Name: names[i%len(names)], Groups: groups}) {
				c.Close()
				return n
			}
			all = append(all, c)
			n++
		}
	}
	for _, test := range []struct {
		groups []string
		names  []string
		want   int
	}{
		{nil, []string{"system:serviceaccount:eve:a", "system:serviceaccount:eve:b"}, 120},
		{nil, []string{"system:serviceaccount:eve:c"}, 0}, {nil, []string{"ann"}, 60}, {nil, []string{"bob"}, 30},
		{[]string{"system:masters"}, []string{"admin"}, 23},
	} {
		if got := enters(test.groups, test.names...); got != test.want {
			t.Errorf("%v: %d connections, want %d", test.names, got, test.want)
		}
	}
	for _, c := range all {
		c.Close()
	}
	if d.clients != 0 || len(d.of) != 0 || d.strangers.Len() != 0 {
		t.Errorf("left are %d: %v, and %d strangers", d.clients, d.of, d.strangers.Len())
	}
}

// The limits leave most of the files to the rest of the process.
func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	for files, want := range map[uint64]limits{
		0: {16, 16, 8}, 256: {64, 64, 16}, 1024: {256, 256, 64}, 20000: {4096, 4096, 512}, 1 << 20: {4096, 4096, 512}, 1<<64 - 1: {4096, 4096, 512},
	} {
		if got := limitsFor(files); got != want {
			t.Errorf("%d files: got %+v, want %+v", files, got, want)
		}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur != limit.Max || openFiles() != limit.Cur {
		t.Errorf("the limit is %+v, %v; it should have been raised", limit, err)
	}
}

// failing is a listener whose every accept fails, but for the last.
type failing struct {
	net.Listener
	errs  []error
	calls int
}

func (l *failing) Accept() (net.Conn, error) {
	if l.calls++; l.calls <= len(l.errs) {
		return nil, &net.OpError{Op: "accept", Err: l.errs[l.calls-1]}
	}
	c, _ := net.Pipe()
	return c, nil
}

// No error of accept but one ends the API, and none makes it spin.
func TestAcceptErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &failing{}
		for range 10 {
			l.errs = append(l.errs, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM, syscall.EPROTO, syscall.ECONNABORTED)
		}
		start := time.Now()
		c, err := newDoor(l, Options{Logger: slog.New(slog.DiscardHandler), strangerLife: time.Minute}).Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if took := time.Since(start); took < 60*time.Second {
			t.Errorf("70 errors in %s: it spins", took)
		}
		l.errs, l.calls = []error{net.ErrClosed}, 0
		if _, err := newDoor(l, Options{}).Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// Floods of frames that cost nothing to send end with the connection that they
// come on, or do no harm; the server answers others meanwhile.
func TestFloods(t *testing.T) {
	t.Parallel()
	f := setup(t)
	floods := map[string]func(fr *http2.Framer, i uint32) error{
		"settings": func(fr *http2.Framer, i uint32) error {
			return fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: i})
		},
		"pings": func(fr *http2.Framer, _ uint32) error { return fr.WritePing(false, [8]byte{}) },
		"streams that are reset": func(fr *http2.Framer, i uint32) error {
			id := 2*i + 1
			err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers("GET", cms), EndHeaders: true, EndStream: true})
			return errors.Join(err, fr.WriteRSTStream(id, http2.ErrCodeCancel))
		},
		"headers without end": func(fr *http2.Framer, i uint32) error {
			if i == 0 {
				return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("GET", cms)})
			}
			return fr.WriteContinuation(1, false, headers("GET", cms, "x-a", strings.Repeat("a", 4000)))
		},
		"empty data": func(fr *http2.Framer, i uint32) error {
			if i == 0 {
				return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("POST", cms, "content-type", "application/json"), EndHeaders: true})
			}
			return fr.WriteData(1, false, nil)
		},
		"priorities": func(fr *http2.Framer, i uint32) error {
			return fr.WritePriority(2*i+1, http2.PriorityParam{StreamDep: 2*i + 3})
		},
	}
	for name, send := range floods {
		for who, config := range map[string]*rest.Config{"a stranger": nil, "a client": f.config} {
			t.Run(name+" of "+who, func(t *testing.T) {
				t.Parallel()
				c := dialTLS(t, f, config, "h2")
				fr := preface(c) // and never reads
				c.SetWriteDeadline(time.Now().Add(3 * time.Second))
				for i := uint32(0); i < 20000 && send(fr, i) == nil; i++ {
				}
				resp, body := f.http(t, "", "/healthz", "", nil)
				if resp.StatusCode != 200 {
					t.Errorf("%d %s", resp.StatusCode, body)
				}
			})
		}
	}
}

// What is not TLS, or an old one, gets no further than the handshake.
func TestHandshakes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := dial(t, f)
	io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(answer), "HTTP/1.0 400 Bad Request") {
		t.Errorf("plain HTTP: %q", answer)
	}
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		err := tls.Client(dial(t, f), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}).Handshake()
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

// Headers have a limit, far above a long selector.
func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for size, want := range map[int]int{200 << 10: 200, 2 << 20: 431} {
		resp, err := func() (*http.Response, error) {
			c := dialTLS(t, f, f.config, "http/1.1")
			fmt.Fprintf(c, "GET %s?labelSelector=%s HTTP/1.1\r\nHost: x\r\n\r\n", cms, "a+in+("+strings.Repeat("a,", size/2)+"a)")
			return http.ReadResponse(bufio.NewReader(c), nil)
		}()
		if err != nil || resp.StatusCode != want {
			t.Errorf("%d bytes: %v, %v", size, resp, err)
		}
	}
}
