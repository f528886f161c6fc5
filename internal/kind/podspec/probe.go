package podspec

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checker) livenessProbe(path *field.Path, p *corev1.Probe) {
	if p == nil {
		return
	}
	c.probe(path, p)
	if p.SuccessThreshold != 1 {
		c.invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1")
	}
}

func (c *checker) startupProbe(path *field.Path, p *corev1.Probe) { c.livenessProbe(path, p) }

func (c *checker) readinessProbe(path *field.Path, p *corev1.Probe) {
	if p == nil {
		return
	}
	c.probe(path, p)
	if p.TerminationGracePeriodSeconds != nil {
		c.invalid(path.Child("terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds,
			"must not be set for readinessProbes")
	}
}

func (c *checker) probe(path *field.Path, p *corev1.Probe) {
	c.handler(path, handler{exec: p.Exec, httpGet: p.HTTPGet, tcpSocket: p.TCPSocket, grpc: p.GRPC})
	c.nonNegative(path.Child("initialDelaySeconds"), int64(p.InitialDelaySeconds))
	c.nonNegative(path.Child("timeoutSeconds"), int64(p.TimeoutSeconds))
	c.nonNegative(path.Child("periodSeconds"), int64(p.PeriodSeconds))
	c.nonNegative(path.Child("successThreshold"), int64(p.SuccessThreshold))
	c.nonNegative(path.Child("failureThreshold"), int64(p.FailureThreshold))
	if s := p.TerminationGracePeriodSeconds; s != nil && *s <= 0 {
		c.invalid(path.Child("terminationGracePeriodSeconds"), *s, "must be greater than 0")
	}
}

// lifecycle checks the hooks of a container and the signal that stops it.
func (c *checker) lifecycle(path *field.Path, l *corev1.Lifecycle) {
	if h := l.PostStart; h != nil {
		c.handler(path.Child("postStart"), handler{exec: h.Exec, httpGet: h.HTTPGet, tcpSocket: h.TCPSocket, sleep: h.Sleep})
	}
	if h := l.PreStop; h != nil {
		c.handler(path.Child("preStop"), handler{exec: h.Exec, httpGet: h.HTTPGet, tcpSocket: h.TCPSocket, sleep: h.Sleep})
	}
	if l.StopSignal != nil {
		c.stopSignal(path.Child("stopSignal"), *l.StopSignal)
	}
}

// stopSignal needs to know the pod's operating system.
func (c *checker) stopSignal(path *field.Path, signal corev1.Signal) {
	switch os := c.spec.OS; {
	case os == nil:
		c.forbidden(path, "may not be set for containers with empty `spec.os.name`")
	case os.Name == corev1.Windows:
		oneOf(c, path, signal, corev1.SIGKILL, corev1.SIGTERM)
	case os.Name == corev1.Linux:
		oneOf(c, path, signal, linuxSignals()...)
	}
}

// linuxSignals lists all signals of Linux, sorted by name.
func linuxSignals() []corev1.Signal {
	signals := []corev1.Signal{
		corev1.SIGABRT, corev1.SIGALRM, corev1.SIGBUS, corev1.SIGCHLD, corev1.SIGCLD, corev1.SIGCONT, corev1.SIGFPE,
		corev1.SIGHUP, corev1.SIGILL, corev1.SIGINT, corev1.SIGIO, corev1.SIGIOT, corev1.SIGKILL, corev1.SIGPIPE,
		corev1.SIGPOLL, corev1.SIGPROF, corev1.SIGPWR, corev1.SIGQUIT, corev1.SIGSEGV, corev1.SIGSTKFLT,
		corev1.SIGSTOP, corev1.SIGSYS, corev1.SIGTERM, corev1.SIGTRAP, corev1.SIGTSTP, corev1.SIGTTIN,
		corev1.SIGTTOU, corev1.SIGURG, corev1.SIGUSR1, corev1.SIGUSR2, corev1.SIGVTALRM, corev1.SIGWINCH,
		corev1.SIGXCPU, corev1.SIGXFSZ, corev1.SIGRTMIN, corev1.SIGRTMAX,
	}
	for i := 1; i <= 15; i++ {
		signals = append(signals, corev1.Signal(fmt.Sprintf("SIGRTMIN+%d", i)))
	}
	for i := 1; i <= 14; i++ {
		signals = append(signals, corev1.Signal(fmt.Sprintf("SIGRTMAX-%d", i)))
	}
	slices.Sort(signals)
	return signals
}

// handler is what a probe or hook does: one of these.
type handler struct {
	exec      *corev1.ExecAction
	httpGet   *corev1.HTTPGetAction
	tcpSocket *corev1.TCPSocketAction
	grpc      *corev1.GRPCAction
	sleep     *corev1.SleepAction
}

func (c *checker) handler(path *field.Path, h handler) {
	found := 0
	for _, action := range []sourceCheck{
		source("exec", h.exec, path.Child("exec"), c.exec),
		source("httpGet", h.httpGet, path.Child("httpGet"), c.httpGet),
		source("tcpSocket", h.tcpSocket, path.Child("tcpSocket"), func(p *field.Path, a *corev1.TCPSocketAction) {
			c.portNumOrName(p.Child("port"), a.Port)
		}),
		source("grpc", h.grpc, path.Child("grpc"), func(p *field.Path, a *corev1.GRPCAction) {
			c.portNumOrName(p.Child("port"), intstr.FromInt32(a.Port))
		}),
		source("sleep", h.sleep, path.Child("sleep"), c.sleep),
	} {
		if action.check == nil {
			continue
		}
		if found++; found > 1 {
			c.forbidden(path.Child(action.name), "may not specify more than 1 handler type")
		} else {
			action.check()
		}
	}
	if found == 0 {
		c.required(path, "must specify a handler type")
	}
}

func (c *checker) exec(path *field.Path, a *corev1.ExecAction) {
	if len(a.Command) == 0 {
		c.required(path.Child("command"), "")
	}
}

func (c *checker) httpGet(path *field.Path, a *corev1.HTTPGetAction) {
	if a.Path == "" {
		c.required(path.Child("path"), "")
	}
	c.portNumOrName(path.Child("port"), a.Port)
	oneOf(c, path.Child("scheme"), a.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	for _, h := range a.HTTPHeaders {
		c.invalidEach(path.Child("httpHeaders"), h.Name, validation.IsHTTPHeaderName(h.Name))
	}
}

// sleep must end within the pod's grace period.
func (c *checker) sleep(path *field.Path, a *corev1.SleepAction) {
	grace := c.spec.TerminationGracePeriodSeconds
	if grace != nil && (a.Seconds < 0 || a.Seconds > *grace) {
		c.invalid(path, a.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace))
	}
}
