package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func paced(p pace) func(*Options) { return func(o *Options) { o.pace = p } }

// impatient is a pace at which tests need not wait.
var impatient = pace{bodyGrace: 300 * time.Millisecond, bodyRate: 1 << 10, writeGrace: 300 * time.Millisecond}

// dribble sends a body of n bytes, each pause apart, and returns the answer.
func dribble(t *testing.T, f *fixture, proto, body string, pause time.Duration) *http.Response {
	t.Helper()
	c := dialTLS(t, f, f.config, proto)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if proto == "http/1.1" {
		go func() {
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", cms, len(body))
			for i := range body {
				if _, err := io.WriteString(c, body[i:i+1]); err != nil {
					return
				}
				time.Sleep(pause)
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.WriteSettings()
	go func() {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("POST", cms, "content-type", "application/json"), EndHeaders: true})
		for i := range body {
			if fr.WriteData(1, i == len(body)-1, []byte(body[i:i+1])) != nil {
				return
			}
			time.Sleep(pause)
		}
	}()
	resp := &http.Response{}
	fmt.Sscan(answerOf(t, fr, 1), &resp.StatusCode)
	return resp
}

// A body that does not get on ends; one that comes slowly but surely does not,
// although it takes longer altogether.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	body := func(name string) string { return cmBody(name, strings.Repeat("x", 200)) }
	quick, patient := setup(t, paced(impatient)), setup(t)
	fast := impatient
	fast.bodyRate = 8 // bytes per second: far below what comes
	lenient := setup(t, paced(fast))
	for _, proto := range []string{"http/1.1", "h2"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			name := "a-" + strings.ReplaceAll(proto, "/", "-")
			if resp := dribble(t, quick, proto, body(name), 10*time.Millisecond); resp.StatusCode != http.StatusRequestTimeout {
				t.Errorf("a slow one: %d", resp.StatusCode)
			}
			if resp := dribble(t, patient, proto, body(name), 5*time.Millisecond); resp.StatusCode != 201 {
				t.Errorf("the same, of a patient server: %d", resp.StatusCode)
			}
			if resp := dribble(t, lenient, proto, body(name), 5*time.Millisecond); resp.StatusCode != 201 {
				t.Errorf("one that gets on: %d", resp.StatusCode)
			}
		})
	}
}

// What a handler does not read of a body does not hold the connection.
func TestUnreadBody(t *testing.T) {
	t.Parallel()
	f := setup(t, paced(impatient))
	c := dialTLS(t, f, f.config, "http/1.1")
	fmt.Fprintf(c, "POST /nosuch HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
	if !closed(c, 5*time.Second) {
		t.Error("the server waits for the rest")
	}
}

// A watch, a list and a log that nobody takes end, and nothing is held for them;
// those that are taken go on although nothing comes for longer.
func TestUntakenAnswers(t *testing.T) {
	t.Parallel()
	f := setup(t, paced(impatient))
	for i := range 20 {
		f.run(t, []probe{{name: fmt.Sprint("create", i), method: "POST", path: cms, body: cmBody(fmt.Sprint("a", i), strings.Repeat("x", 100<<10)), code: 201}})
	}
	for name, path := range map[string]string{"list": cms, "watch": cms + "?watch=1"} {
		t.Run(name+" over HTTP/2", func(t *testing.T) {
			t.Parallel()
			c := dialTLS(t, f, f.config, "h2")
			fr := preface(c)
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers("GET", path), EndHeaders: true, EndStream: true})
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			for {
				frame, err := fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if frame.Header().Type == http2.FrameRSTStream {
					return
				}
			}
		})
	}
	t.Run("lists over HTTP/1", func(t *testing.T) {
		t.Parallel()
		c := dialTLS(t, f, f.config, "http/1.1")
		const lists = 20 // more than the kernel holds
		fmt.Fprint(c, strings.Repeat("GET "+cms+" HTTP/1.1\r\nHost: x\r\n\r\n", lists))
		time.Sleep(3 * impatient.writeGrace)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, _ := io.Copy(io.Discard, c); n >= lists*20*100<<10 {
			t.Errorf("%d bytes came in the end", n)
		}
	})
	t.Run("an idle watch", func(t *testing.T) {
		t.Parallel()
		c := dialTLS(t, f, f.config, "http/1.1")
		fmt.Fprintf(c, "GET /api/v1/namespaces/default/secrets?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * impatient.writeGrace)
		f.run(t, []probe{{name: "create", method: "POST", path: "/api/v1/namespaces/default/secrets",
			body: `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}`, code: 201}})
		line, err := bufio.NewReader(resp.Body).ReadBytes('\n')
		if err != nil || !bytes.Contains(line, []byte("ADDED")) {
			t.Errorf("got %s, %v", line, err)
		}
	})
}
