package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// userAgent is how Kubernetes' probes introduce themselves.
const userAgent = "kube-probe/1.37"

// maxBody is how much of an answer is read.
const maxBody = 10 << 10

func execute(ctx context.Context, args []string, t Target, timeout time.Duration) (Result, string) {
	res, err := t.Exec(ctx, args, timeout)
	switch {
	case err != nil:
		return Unknown, err.Error()
	case res.TimedOut:
		return Failure, fmt.Sprintf("command timed out: %q timed out after %v", strings.Join(args, " "), timeout)
	case res.ExitCode != 0:
		return Failure, string(res.Output)
	}
	return Success, string(res.Output)
}

func httpGet(ctx context.Context, get *corev1.HTTPGetAction, t Target, timeout time.Duration) (Result, string) {
	req, err := request(ctx, get, t)
	if err != nil {
		return Unknown, err.Error()
	}
	resp, err := t.client(timeout).Do(req)
	if err != nil {
		return Failure, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return Failure, err.Error()
	}
	if resp.StatusCode >= http.StatusOK && resp.StatusCode < http.StatusBadRequest {
		return Success, string(body)
	}
	return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode)
}

// request returns the request that an httpGet action describes.
func request(ctx context.Context, get *corev1.HTTPGetAction, t Target) (*http.Request, error) {
	port, err := t.port(get.Port)
	if err != nil {
		return nil, err
	}
	host := get.Host
	if host == "" {
		host = t.IP
	}
	u, err := url.Parse(get.Path)
	if err != nil {
		u = &url.URL{Path: get.Path}
	}
	u.Scheme = strings.ToLower(string(get.Scheme))
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range get.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", userAgent)
	}
	if _, ok := req.Header["Accept"]; !ok {
		req.Header.Set("Accept", "*/*")
	}
	return req, nil
}

// client returns a client for one request. It does not verify certificates, and
// takes a redirect to another host for an answer.
func (t Target) client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:        func(ctx context.Context, _, address string) (net.Conn, error) { return t.dial(ctx, address) },
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:  true,
			DisableCompression: true,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
}

func connect(ctx context.Context, tcp *corev1.TCPSocketAction, t Target, timeout time.Duration) (Result, string) {
	port, err := t.port(tcp.Port)
	if err != nil {
		return Unknown, err.Error()
	}
	host := tcp.Host
	if host == "" {
		host = t.IP
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := t.dial(ctx, net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failure, err.Error()
	}
	conn.Close()
	return Success, ""
}

// askHealth asks gRPC's standard health service.
func askHealth(ctx context.Context, action *corev1.GRPCAction, t Target, timeout time.Duration) (Result, string) {
	addr := net.JoinHostPort(t.IP, strconv.Itoa(int(action.Port)))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithContextDialer(t.dial), grpc.WithUserAgent(userAgent), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return Failure, fmt.Sprintf("error: failed to connect service at %q: %v", addr, err)
	}
	defer conn.Close()
	req := &healthpb.HealthCheckRequest{}
	if action.Service != nil {
		req.Service = *action.Service
	}
	resp, err := healthpb.NewHealthClient(conn).Check(metadata.NewOutgoingContext(ctx, metadata.MD{}), req)
	switch code := status.Code(err); {
	case code == codes.Unimplemented:
		return Failure, fmt.Sprintf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
	case code == codes.DeadlineExceeded:
		return Failure, fmt.Sprintf("timeout: health rpc did not complete within %v", timeout)
	case err != nil:
		return Failure, "error: health rpc probe failed: " + err.Error()
	case resp.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return Failure, fmt.Sprintf("service unhealthy (responded with %q)", resp.GetStatus().String())
	}
	return Success, "service healthy"
}

// Hook runs a lifecycle hook to its end.
func Hook(ctx context.Context, h *corev1.LifecycleHandler, t Target) error {
	switch {
	case h.Exec != nil:
		res, err := t.Exec(ctx, h.Exec.Command, 0)
		if err == nil && res.ExitCode != 0 {
			err = fmt.Errorf("command '%s' exited with %d: %s", strings.Join(h.Exec.Command, " "), res.ExitCode, res.Output)
		}
		return err
	case h.HTTPGet != nil:
		req, err := request(ctx, h.HTTPGet, t)
		if err != nil {
			return err
		}
		resp, err := t.client(0).Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close() // any answer will do
	case h.Sleep != nil:
		timer := time.NewTimer(kind.Seconds(h.Sleep.Seconds))
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("invalid handler: neither exec, httpGet nor sleep")
}
