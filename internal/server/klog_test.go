package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestKlogWarnings(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(warnings{slog.NewTextHandler(&out, nil)})
	log.Info("chatter")
	log.Error("Couldn't parse request", "err", errors.New("nonsense"))
	log.Error("Failed to encode watch event", "err", errors.New("http2: stream closed"))
	log.Error("Failed to encode watch event", "err", errors.New("unable to encode watch object"))
	log.Warn("a warning")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "unable to encode") || !strings.Contains(lines[1], "a warning") {
		t.Errorf("got %q", lines)
	}
}

// TestLeavers: clients that leave in the middle of a large answer, or of a
// handshake, or talk nonsense, are debugging (see TestMain).
func TestLeavers(t *testing.T) {
	t.Parallel()
	log := &syncBuffer{}
	f := setup(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	for i := range 20 {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("c", i), Namespace: "default"}, Data: map[string]string{"k": strings.Repeat("x", 500<<10)}}
		f.put(t, cm)
	}
	for _, path := range []string{cms, cms + "?watch=1", "/openapi/v2", "/apis"} {
		for _, proto := range []string{"http/1.1", "h2"} {
			for range 3 {
				leave(t, f, proto, path)
			}
		}
	}
	for _, hello := range []string{"", "\x16\x03\x01", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\xff", 1<<10)} {
		c := dial(t, f)
		io.WriteString(c, hello)
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	for _, proto := range []string{"http/1.1", "h2"} {
		c := dialTLS(t, f, nil, proto)
		io.WriteString(c, "PRI * NONSENSE\r\n\r\n\x00\x01")
		c.Close()
	}
	f.http(t, "", "/api/v1/namespaces?a;b", "", nil)
	time.Sleep(100 * time.Millisecond) // what the server still has to say
	if got := log.String(); got != "" {
		t.Errorf("the engine's log:\n%s", got)
	}
}

// leave asks for something and resets the connection when the answer begins.
func leave(t *testing.T, f *fixture, proto, path string) {
	t.Helper()
	c := dialTLS(t, f, f.config, proto)
	raw := c.NetConn().(*net.TCPConn)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if proto == "h2" {
		io.WriteString(c, http2.ClientPreface)
		fr := http2.NewFramer(c, c)
		fr.WriteSettings()
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("GET", path), EndHeaders: true, EndStream: true})
	} else {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	}
	if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	raw.SetLinger(0)
	raw.Close()
}

// TestSparing: lines that are alike do not fill the disk, and hide no others.
func TestSparing(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	h := newSparing(slog.NewTextHandler(&out, nil)).WithAttrs([]slog.Attr{slog.String("a", "b")})
	begin := time.Unix(0, 0)
	say := func(after time.Duration, message, err string) {
		r := slog.NewRecord(begin.Add(after), slog.LevelError, message, 0)
		r.AddAttrs(slog.String("err", err))
		if err := h.Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100000 {
		say(time.Duration(i)*time.Microsecond, "Unhandled Error", fmt.Sprintf("cannot write: %d", i))
	}
	say(time.Second, "Unhandled Error", "something else: 1")
	say(time.Second, "a panic", "cannot write: 1")
	say(time.Hour, "Unhandled Error", "cannot write: 1")
	say(time.Hour, "Unhandled Error", "cannot write: 1")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != spareMost+4 {
		t.Fatalf("%d lines:\n%s", len(lines), &out)
	}
	if n := strings.Count(out.String(), "alikeNotLogged=99990"); n != 1 || !strings.Contains(lines[spareMost+2], "alikeNotLogged=99990") {
		t.Errorf("what was not logged is not counted:\n%s", &out)
	}
	for i := range 10 * spareKinds {
		say(2*time.Hour, fmt.Sprint("kind ", i), "x")
	}
	if n := len(h.(sparing).tally.kinds); n > spareKinds {
		t.Errorf("%d kinds are remembered", n)
	}
}
