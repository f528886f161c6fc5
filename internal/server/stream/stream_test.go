package stream

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/stdio"
)

// A client that leaves before it has opened its streams leaves nothing behind: its
// session ends then, not when it would have been too late to go on.
func TestLeftBeforeItBegins(t *testing.T) {
	o := &corev1.PodExecOptions{Stdin: true, Stdout: true}
	session := Session{Pod: &corev1.Pod{}, Stop: t.Context()}
	web := httptest.NewServer(session.Exec(o, func(context.Context, stdio.Streams) (int, error) { return 0, nil }))
	defer web.Close()
	before := descriptors(t)
	const clients = 20
	for range clients {
		leave(t, web.Listener.Addr().String())
	}
	for deadline := time.Now().Add(creationTimeout / 2); descriptors(t) > before+clients/2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are open, %d were before", descriptors(t), before)
		}
	}
}

// leave connects, has the protocol changed, and closes the connection.
func leave(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
