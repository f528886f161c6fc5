package server

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport/spdy"
	streamhttp "k8s.io/streaming/pkg/httpstream"
)

// forwarding begins a session of a user, as whom the administrator speaks.
func (f *fixture) forwarding(user string) (streamhttp.Connection, error) {
	config := rest.CopyConfig(f.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters"}}
	u := f.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("p").SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	conn, _, err := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", u).Dial("portforward.k8s.io")
	return conn, err
}

// Streams to pods last, and each takes of what others need: a user, and all users together, have
// so many at a time. Who has too many is told to come again, and when.
func TestSessionsAreCounted(t *testing.T) {
	t.Parallel()
	f, _ := shellFixture(t, func(o *Options) { o.sessions = sessionLimits{all: 3, user: 2} })
	var open []streamhttp.Connection
	for _, user := range []string{"ann", "ann", "bob"} {
		conn, err := f.forwarding(user)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	for _, user := range []string{"ann", "bob", "eve"} { // ann has two, all have three
		if conn, err := f.forwarding(user); err == nil {
			conn.Close()
			t.Errorf("%s has a session too many", user)
		}
	}
	upgrade := map[string]string{"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
	config := rest.CopyConfig(f.config)
	config.NextProtos = []string{"http/1.1"}
	for _, path := range []string{"/portforward", "/exec?command=sleep&stdout=true", "/attach?stdout=true"} {
		resp, body := f.httpAs(t, config, http.MethodPost, pods+"/p"+path, "", upgrade)
		p := probe{code: http.StatusTooManyRequests, reason: "TooManyRequests", message: "too many clients have streams to pods, please try again later"}
		if p.check(t, resp, body); resp.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %v", path, resp.Header)
		}
	}
	open[0].Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // until the server knows
		conn, err := f.forwarding("eve")
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// The library waits for the other stream of each pair, and forgets none that it no longer waits
// for: a client that opens no others is cut off, one that opens pairs is not.
func TestUnpairedStreams(t *testing.T) {
	t.Parallel()
	const many = 700
	for _, lone := range []string{corev1.StreamTypeData, corev1.StreamTypeError} {
		t.Run("no other than "+lone, func(t *testing.T) {
			t.Parallel()
			f, _ := shellFixture(t)
			conn, err := f.forwarding("ann")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() { // the last one waits for an answer
				for i := range many {
					header := http.Header{corev1.StreamType: {lone}, corev1.PortHeader: {"80"}, corev1.PortForwardRequestIDHeader: {fmt.Sprint(i)}}
					if _, err := conn.CreateStream(header); err != nil {
						return
					}
				}
			}()
			select {
			case <-conn.CloseChan():
			case <-time.After(20 * time.Second):
				t.Errorf("%d streams are open of which none is paired", many)
			}
		})
	}
	t.Run("pairs", func(t *testing.T) {
		t.Parallel()
		f, node := shellFixture(t)
		node.dial = func(uint16) (net.Conn, error) {
			near, far := net.Pipe()
			return near, far.Close()
		}
		conn, err := f.forwarding("ann")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for i := range many {
			for _, sort := range []string{corev1.StreamTypeError, corev1.StreamTypeData} {
				header := http.Header{corev1.StreamType: {sort}, corev1.PortHeader: {"80"}, corev1.PortForwardRequestIDHeader: {fmt.Sprint(i)}}
				if _, err := conn.CreateStream(header); err != nil {
					t.Fatalf("pair %d: %v", i, err)
				}
			}
		}
	})
}

// Who opens sessions without end, by as many accounts as he likes, leaves some to others, and to administrators.
func TestSessionsAreShared(t *testing.T) {
	t.Parallel()
	s := newSessions(defaultSessions())
	var all []visitor
	enter := func(groups []string, names ...string) (n int) {
		for ; ; n++ {
			who := visitorOf(&user.DefaultInfo{Name: names[n%len(names)], Groups: groups})
			if !s.enter(who) {
				return n
			}
			all = append(all, who)
		}
	}
	for _, test := range []struct {
		groups []string
		names  []string
		want   int
	}{
		{nil, []string{"system:serviceaccount:eve:a", "system:serviceaccount:eve:b"}, 240},
		{nil, []string{"system:serviceaccount:eve:c"}, 0}, {nil, []string{"ann"}, 120}, {nil, []string{"bob"}, 60},
		{[]string{"system:masters"}, []string{"admin"}, 46},
	} {
		if got := enter(test.groups, test.names...); got != test.want {
			t.Errorf("%v: %d sessions, want %d", test.names, got, test.want)
		}
	}
	for _, who := range all {
		s.leave(who)
	}
	if s.all != 0 || len(s.users) != 0 {
		t.Errorf("left are %d: %v", s.all, s.users)
	}
}
