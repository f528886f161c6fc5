package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// ports is how a kubelet is told of the ports that a client wants, which only the old
// WebSocket protocol has to say before it begins.
func ports(o *corev1.PodPortForwardOptions) url.Values {
	q := url.Values{}
	for _, port := range o.Ports {
		q.Add(portforward.PortHeader, strconv.Itoa(int(port)))
	}
	return q
}

func servePorts(w http.ResponseWriter, r *http.Request, pod *corev1.Pod, d *dialler) {
	o, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, d, pod.Name, string(pod.UID), o, idleTimeout, creationTimeout, portforward.SupportedProtocols)
}

// dialler connects a client's streams with ports.
type dialler struct {
	ctx     context.Context
	open    func(ctx context.Context, port uint16) (net.Conn, error)
	streams *openings
	now     atomic.Int64 // connections
}

// mostConnections is how many one client may have at a time.
const mostConnections = 256

var errManyConnections = fmt.Errorf("there are %d connections already", mostConnections)

// PortForward implements portforward.PortForwarder: it returns when the port has said
// everything, or the client is no longer there to hear it.
func (d *dialler) PortForward(_ context.Context, _, _ string, port int32, client io.ReadWriteCloser) error {
	d.streams.used.Add(2) // the data, and the errors
	defer d.now.Add(-1)
	if d.now.Add(1) > mostConnections {
		return errManyConnections
	}
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	conn, err := d.open(ctx, uint16(port)) // the library has seen that it is one
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, client)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // the port may have an answer all the same
			return
		}
		_ = conn.Close()
	}()
	_, err = io.Copy(client, conn)
	if errors.Is(err, net.ErrClosed) {
		return nil // the pod has ended
	}
	return err
}
