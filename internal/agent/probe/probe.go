// Package probe asks containers how they are: startup, liveness and readiness
// probes, by a command, HTTP, TCP or gRPC. It also runs lifecycle hooks, which
// reach a container in the same ways.
package probe

import (
	"context"
	"fmt"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sampan-batch/sampan/internal/reason"
	"github.com/sampan-batch/sampan/internal/runner"
)

// Kind is what a probe is for.
type Kind string

const (
	Startup   Kind = "startup"
	Liveness  Kind = "liveness"
	Readiness Kind = "readiness"
)

// title is the kind at the beginning of a sentence.
func (k Kind) title() string { return string(k[0]-'a'+'A') + string(k[1:]) }

// Target is how a container is reached.
type Target struct {
	// IP is where it listens, unless a probe names another host.
	IP    string
	Ports []corev1.ContainerPort
	// Dial connects to a TCP address; nil: as this process does.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Exec runs a command inside the container.
	Exec func(ctx context.Context, args []string, timeout time.Duration) (runner.ExecResult, error)
}

func (t Target) dial(ctx context.Context, address string) (net.Conn, error) {
	if t.Dial != nil {
		return t.Dial(ctx, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// port returns the number of a port that may be given by its name.
func (t Target) port(p intstr.IntOrString) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, port := range t.Ports {
			if port.Name == p.StrVal {
				n = int(port.ContainerPort)
			}
		}
	}
	if n <= 0 || n > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", p.String())
	}
	return n, nil
}

// Result is what one probe found.
type Result uint8

const (
	Success Result = iota
	Failure
	Unknown // the probe could not be made; it does not count
)

// Once probes once. The text says what was found, for people.
func Once(ctx context.Context, p *corev1.Probe, t Target) (Result, string) {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	switch {
	case p.Exec != nil:
		return execute(ctx, p.Exec.Command, t, timeout)
	case p.HTTPGet != nil:
		return httpGet(ctx, p.HTTPGet, t, timeout)
	case p.TCPSocket != nil:
		return connect(ctx, p.TCPSocket, t, timeout)
	case p.GRPC != nil:
		return askHealth(ctx, p.GRPC, t, timeout)
	}
	return Unknown, "missing probe handler"
}

// retries is how often a probe that could not be made is repeated at once.
const retries = 3

// Run probes until ctx ends. It calls verdict when enough probes in a row agree
// on something new; the first verdict of a startup or readiness probe is what
// differs from failure, that of a liveness probe what differs from success. A
// failed startup or liveness probe is reported again at each further failure
// until ctx ends. record is told what every failed probe found.
func Run(ctx context.Context, kind Kind, p *corev1.Probe, started time.Time, t Target,
	record func(reason, message string), verdict func(ok bool)) {
	delay := time.Duration(p.InitialDelaySeconds)*time.Second - time.Since(started)
	if p.InitialDelaySeconds == 0 || delay < 0 {
		delay = 0
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	period := time.Duration(max(p.PeriodSeconds, 1)) * time.Second
	count := counter{ok: kind == Liveness, success: max(p.SuccessThreshold, 1), failure: max(p.FailureThreshold, 1)}
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		timer.Reset(period)
		result, text := try(ctx, p, t)
		if ctx.Err() != nil {
			return
		}
		switch result {
		case Failure:
			record(reason.Unhealthy, fmt.Sprintf("%s probe failed: %s", kind.title(), text))
		case Unknown:
			record(reason.Unhealthy, fmt.Sprintf("%s probe errored and resulted in unknown state: %s", kind.title(), text))
			continue
		}
		if count.add(result == Success, kind != Readiness) {
			verdict(count.ok)
		}
	}
}

func try(ctx context.Context, p *corev1.Probe, t Target) (result Result, text string) {
	for range retries {
		if result, text = Once(ctx, p, t); result != Unknown || ctx.Err() != nil {
			break
		}
	}
	return result, text
}

// counter turns results into verdicts.
type counter struct {
	ok               bool // the verdict
	last             bool // the last result
	n                int32
	success, failure int32
}

// add counts a result and reports whether there is a verdict to be told: a new
// one, or, if insist, a failure again.
func (c *counter) add(ok, insist bool) bool {
	if c.n == 0 || ok != c.last {
		c.last, c.n = ok, 0
	}
	c.n++
	if ok && c.n < c.success || !ok && c.n < c.failure {
		return false
	}
	changed := ok != c.ok || !ok && insist
	c.ok = ok
	return changed
}
