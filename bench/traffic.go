package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// The same program serves and asks, on this machine and in pods, so that nothing but the way between
// the two differs.
const (
	serverCommand = "traffic-server"
	clientCommand = "traffic-client"
)

// What a connection is for, which its first byte says.
const (
	toAnswer = 'a' // each message of messageSize bytes is answered by as many, with the server's name in front
	toDrop   = 'd' // all is read, and how much it was is said at the end
)

const (
	messageSize = 64
	// trafficTime is how long each figure is measured.
	trafficTime = time.Second
	askers      = 8 // lookups at a time
)

// serve answers on a port, by TCP and UDP, until it is killed. name is what it calls itself.
func serve(at, name string) error {
	packets, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	go echo(packets)
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go answer(conn, name)
	}
}

func echo(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(buf[:n], from)
	}
}

func answer(conn net.Conn, name string) {
	defer conn.Close()
	var what [1]byte
	if _, err := io.ReadFull(conn, what[:]); err != nil {
		return
	}
	if what[0] == toDrop {
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 256<<10))
		fmt.Fprintln(conn, n)
		return
	}
	message := make([]byte, messageSize)
	for {
		if _, err := io.ReadFull(conn, message); err != nil {
			return
		}
		copy(message, name)
		if _, err := conn.Write(message); err != nil {
			return
		}
	}
}

// traffic is what was measured of one way.
type traffic struct {
	ConnectP50, ConnectP99 time.Duration // a connection, a message, its answer
	MessageP50, MessageP99 time.Duration // a message and its answer, on a connection that there is
	BytesPerSecond         float64       // of a stream
	// NameP50 and NameP99 are of a lookup, or of a packet and its echo; NamesPerSecond of askers at a time.
	NameP50, NameP99 time.Duration
	NamesPerSecond   float64
}

// ask measures the way to a server. Only the names are asked for if there is a name.
func ask(at, name string) (t traffic, err error) {
	if name != "" {
		return t, t.names(at, name)
	}
	message := make([]byte, messageSize)
	exchange := func(conn net.Conn) error {
		if _, err := conn.Write(message); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, message)
		return err
	}
	begin := func(what byte) (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", at, 10*time.Second)
		if err == nil {
			_, err = conn.Write([]byte{what})
		}
		return conn, err
	}
	t.ConnectP50, t.ConnectP99, err = repeat(func() error {
		conn, err := begin(toAnswer)
		if err != nil {
			return err
		}
		defer conn.Close()
		return exchange(conn)
	})
	if err != nil {
		return t, err
	}
	conn, err := begin(toAnswer)
	if err != nil {
		return t, err
	}
	defer conn.Close()
	if t.MessageP50, t.MessageP99, err = repeat(func() error { return exchange(conn) }); err != nil {
		return t, err
	}
	stream, err := begin(toDrop)
	if err != nil {
		return t, err
	}
	defer stream.Close()
	t.BytesPerSecond, err = pour(stream.(*net.TCPConn))
	return t, err
}

// repeat does something for a while, and returns how long it takes mostly, and rarely.
func repeat(once func() error) (p50, p99 time.Duration, err error) {
	var all []time.Duration
	const warm, most = 20, 10000 // fewer than there are ports for connections that have just ended
	for began := time.Now(); len(all) < most && time.Since(began) < trafficTime || len(all) < 2*warm; {
		start := time.Now()
		if err := once(); err != nil {
			return 0, 0, err
		}
		all = append(all, time.Since(start))
	}
	all = all[warm:]
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100], nil
}

// pour sends as much as is taken, and returns how much that was in a second, by what the other side
// has had of it.
func pour(conn *net.TCPConn) (float64, error) {
	buf := make([]byte, 256<<10)
	began := time.Now()
	for time.Since(began) < trafficTime {
		if _, err := conn.Write(buf); err != nil {
			return 0, err
		}
	}
	if err := conn.CloseWrite(); err != nil {
		return 0, err
	}
	var n int64
	if _, err := fmt.Fscan(conn, &n); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// names asks for the address of a name, one time after the other, then several at a time. "-" is what
// an echo is asked.
func (t *traffic) names(at, name string) (err error) {
	query := []byte("echo")
	if name != "-" {
		if query, err = queryOf(name); err != nil {
			return err
		}
	}
	lookup := func() (func() error, error) {
		conn, err := net.Dial("udp", at)
		buf := make([]byte, 512)
		return func() error {
			if _, err := conn.Write(query); err != nil {
				return err
			}
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				return err
			}
			n, err := conn.Read(buf)
			if err != nil || name == "-" {
				return err
			}
			var answer dnsmessage.Message
			if err := answer.Unpack(buf[:n]); err != nil {
				return err
			}
			if len(answer.Answers) == 0 {
				return fmt.Errorf("%s has no address: %v", name, answer.RCode)
			}
			return nil
		}, err
	}
	one, err := lookup()
	if err != nil {
		return err
	}
	if t.NameP50, t.NameP99, err = repeat(one); err != nil {
		return err
	}
	var count atomic.Int64
	var group sync.WaitGroup
	var failed [askers]error
	began := time.Now()
	for i := range askers {
		group.Go(func() {
			one, err := lookup()
			for err == nil && time.Since(began) < trafficTime {
				if err = one(); err == nil {
					count.Add(1)
				}
			}
			failed[i] = err
		})
	}
	group.Wait()
	t.NamesPerSecond = float64(count.Load()) / time.Since(began).Seconds()
	return errors.Join(failed[:]...)
}

func queryOf(name string) ([]byte, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

// trafficMain is one of the two commands: the server at an address, with a name; or the client of
// one, which prints what it has measured. Port 53 of "resolver" is the machine's or the pod's own.
func trafficMain(args []string) int {
	err := func() error {
		if args[0] == serverCommand {
			return serve(args[1], args[2])
		}
		at := args[1]
		if at == "resolver" {
			text, err := os.ReadFile("/etc/resolv.conf")
			if err != nil {
				return err
			}
			_, rest, _ := strings.Cut(string(text), "nameserver ")
			at = net.JoinHostPort(strings.Fields(rest + " none")[0], "53")
		}
		t, err := ask(at, args[2])
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(t)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
