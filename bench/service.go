package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/torture/program"
)

const (
	trafficImage = "sampan-bench-traffic"
	trafficPath  = "/traffic"
	trafficPort  = 8080
	changes      = 30 // of a Service's endpoints
)

// serviceWays measures what is between a client and a pod, beside a server on this machine's own
// loopback: with a Service, and with many.
func (b *bench) serviceWays(ctx context.Context, r *report) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	s := &services{bench: b, program: filepath.Join(b.dir, "traffic")}
	if err := program.GoBuild(ctx, s.program, "github.com/sampan-batch/sampan/bench"); err != nil {
		return err
	}
	archive := filepath.Join(b.dir, "traffic.tar")
	if err := program.WriteImage(archive, trafficImage, s.program, trafficPath); err != nil {
		return err
	}
	var err error
	if s.loopback, err = s.measureLoopback(ctx); err != nil {
		return err
	}
	var flags []string
	if s.routes = os.Geteuid() == 0; s.routes {
		flags = append(flags, "--pod-routes") // this machine has addresses of pods then
	}
	if s.engine, err = b.serveIn(ctx, nil, "sandbox", []string{archive}, flags...); err != nil {
		return err
	}
	defer s.engine.stop()
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.measure(ctx, r, 1); err != nil {
		return err
	}
	if err := s.more(ctx, b.services-1); err != nil {
		return err
	}
	return s.measure(ctx, r, b.services)
}

// services is an engine with a server behind Services.
type services struct {
	*bench
	engine   *engine
	program  string
	loopback traffic
	routes   bool
	pod      string // the server's address
	service  *corev1.Service
}

// measureLoopback measures the same two programs without anything between them.
func (s *services) measureLoopback(ctx context.Context) (t traffic, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := exec.CommandContext(ctx, s.program, serverCommand, "127.0.0.1:18090", "loopback")
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		return t, err
	}
	if err := server.Start(); err != nil {
		return t, err
	}
	defer func() { cancel(); server.Wait() }()
	if _, err := out.Read(make([]byte, 64)); err != nil { // it listens
		return t, fmt.Errorf("the server on the loopback: %w", err)
	}
	if t, err = s.fromHost(ctx, "127.0.0.1:18090", ""); err != nil {
		return t, err
	}
	names, err := s.fromHost(ctx, "127.0.0.1:18090", "-")
	t.NameP50, t.NameP99, t.NamesPerSecond = names.NameP50, names.NameP99, names.NamesPerSecond
	return t, err
}

// fromHost has a process of this machine ask.
func (s *services) fromHost(ctx context.Context, at, name string) (t traffic, err error) {
	cmd := exec.CommandContext(ctx, s.program, clientCommand, at, name)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return t, err
	}
	return t, json.Unmarshal(out, &t)
}

// fromPod has a pod ask.
func (s *services) fromPod(ctx context.Context, at, name string) (t traffic, err error) {
	pods := s.engine.client.CoreV1().Pods("default")
	pod := s.podOf(fmt.Sprintf("client-%d", s.engine.serial.Add(1)), clientCommand, at, name)
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return t, err
	}
	ended, err := s.await(ctx, pod.Name, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	if err != nil {
		return t, err
	}
	log, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{}).Stream(ctx)
	if err != nil {
		return t, err
	}
	defer log.Close()
	text, err := io.ReadAll(log)
	if err != nil {
		return t, err
	}
	if ended.Status.Phase == corev1.PodFailed {
		return t, fmt.Errorf("asking %s from a pod: %s", at, text)
	}
	return t, json.Unmarshal(text, &t)
}

func (s *services) podOf(name string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: ptr.To[int64](0),
			Containers: []corev1.Container{{Name: "c", Image: trafficImage, Command: append([]string{trafficPath}, args...)}},
		},
	}
}

// await waits for a pod.
func (s *services) await(ctx context.Context, name string, is func(*corev1.Pod) bool) (*corev1.Pod, error) {
	for {
		pod, err := s.engine.client.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil || is(pod) {
			return pod, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("pod %s is %s: %w", name, pod.Status.Phase, context.Cause(ctx))
		}
	}
}

// begin makes two servers, "one" and "other", and a Service for the first.
func (s *services) begin(ctx context.Context) error {
	for _, name := range []string{"one", "other"} {
		pod := s.podOf(name, serverCommand, fmt.Sprintf(":%d", trafficPort), name)
		pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(trafficPort)}},
			PeriodSeconds: 1,
		}
		if _, err := s.engine.client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return err
		}
		ready, err := s.await(ctx, name, func(p *corev1.Pod) bool {
			return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
		})
		if err != nil {
			return err
		}
		if name == "one" {
			s.pod = ready.Status.PodIP
		}
		if ready.Status.PodIP == ready.Status.HostIP {
			return errors.New("pods have no network of their own here: see `sampan doctor`")
		}
	}
	service := s.serviceOf("service")
	service.Spec.Type = corev1.ServiceTypeNodePort
	service.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack)
	var err error
	s.service, err = s.engine.client.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{})
	return err
}

func (s *services) serviceOf(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "one"},
			Ports: []corev1.ServicePort{
				{Name: "tcp", Port: trafficPort, TargetPort: intstr.FromInt32(trafficPort)},
			},
		},
	}
}

// more makes that many more Services, each with the same server behind it, and waits until the last
// leads there.
func (s *services) more(ctx context.Context, n int) error {
	group, of := errgroup.WithContext(ctx)
	group.SetLimit(s.clients)
	for i := range n {
		group.Go(func() error {
			_, err := s.engine.client.CoreV1().Services("default").Create(of, s.serviceOf(fmt.Sprint("service-", i)), metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for {
		slices, err := s.engine.client.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(slices.Items) > n {
			time.Sleep(2 * time.Second) // the node has them some milliseconds later; and the engine is to be idle
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// measure measures every way there is, with n Services.
func (s *services) measure(ctx context.Context, r *report, n int) error {
	with := fmt.Sprintf(", %d Services", n)
	port := func(ip string, p int32) string { return net.JoinHostPort(ip, fmt.Sprint(p)) }
	one := s.service.Spec.Ports[0]
	type way struct {
		what, at string
		from     func(context.Context, string, string) (traffic, error)
	}
	var ways []way
	if n == 1 {
		ways = append(ways, way{"pod to pod", port(s.pod, trafficPort), s.fromPod})
		if s.routes {
			ways = append(ways, way{"host to pod", port(s.pod, trafficPort), s.fromHost})
		}
	}
	ways = append(ways, way{"pod to ClusterIP" + with, port(s.service.Spec.ClusterIP, one.Port), s.fromPod})
	if s.routes {
		ways = append(ways, way{"host to ClusterIP" + with, port(s.service.Spec.ClusterIP, one.Port), s.fromHost})
	}
	for _, ip := range s.service.Spec.ClusterIPs[1:] {
		ways = append(ways, way{"pod to ClusterIP of IPv6" + with, port(ip, one.Port), s.fromPod})
	}
	ways = append(ways, way{"host to NodePort" + with, port("127.0.0.1", one.NodePort), s.fromHost})
	for _, w := range ways {
		t, err := w.from(ctx, w.at, "")
		if err != nil {
			return fmt.Errorf("%s: %w", w.what, err)
		}
		r.add(w.what+": connection, message and answer, p50 and p99", both(t.ConnectP50, t.ConnectP99), both(s.loopback.ConnectP50, s.loopback.ConnectP99), "the machine's own loopback")
		r.add(w.what+": message and answer, p50 and p99", both(t.MessageP50, t.MessageP99), both(s.loopback.MessageP50, s.loopback.MessageP99), "")
		r.add(w.what+": a stream, per second", mb(int64(t.BytesPerSecond)), mb(int64(s.loopback.BytesPerSecond)), "")
	}
	names, err := s.fromPod(ctx, "resolver", "service.default.svc.cluster.local.")
	if err != nil {
		return err
	}
	r.add("name of a Service from a pod"+with+", p50 and p99", both(names.NameP50, names.NameP99), both(s.loopback.NameP50, s.loopback.NameP99), "a packet and its echo, on the loopback")
	r.add("names from a pod"+with+", per second", fmt.Sprintf("%.0f", names.NamesPerSecond), fmt.Sprintf("%.0f", s.loopback.NamesPerSecond), fmt.Sprintf("%d at a time", askers))
	seen, took, err := s.change(ctx)
	if err != nil {
		return err
	}
	r.add("change of endpoints until it is in effect"+with+", median and last", both(took[len(took)/2], took[len(took)-1]), both(seen[len(seen)/2], seen[len(seen)-1]),
		"since it was sent to the API, for new connections; until a watch shows the EndpointSlice")
	return nil
}

// change has the Service lead to the other server, and back. It returns how long it takes until a watch
// shows that, and until connections go there, the shortest first.
func (s *services) change(ctx context.Context) (seen, took []time.Duration, err error) {
	api := s.engine.client.CoreV1().Services("default")
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(s.service.Spec.Ports[0].NodePort)).String()
	w, err := s.engine.client.DiscoveryV1().EndpointSlices("default").Watch(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + s.service.Name,
	})
	if err != nil {
		return nil, nil, err
	}
	defer w.Stop()
	for i := range changes {
		to := [...]string{"other", "one"}[i%2]
		service, err := api.Get(ctx, s.service.Name, metav1.GetOptions{})
		if err != nil {
			return nil, nil, err
		}
		service.Spec.Selector = map[string]string{"app": to}
		began := time.Now()
		shown := make(chan time.Duration, 1)
		go func() {
			for ev := range w.ResultChan() {
				slice, ok := ev.Object.(*discoveryv1.EndpointSlice)
				if ok && len(slice.Endpoints) > 0 && slice.Endpoints[0].TargetRef.Name == to {
					shown <- time.Since(began)
					return
				}
			}
			close(shown)
		}()
		if _, err := api.Update(ctx, service, metav1.UpdateOptions{}); err != nil {
			return nil, nil, err
		}
		for who := ""; who != to; time.Sleep(500 * time.Microsecond) {
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			if who, err = whoAnswers(at); err != nil {
				who = "" // for a moment nobody may be there
			}
		}
		took = append(took, time.Since(began))
		seen = append(seen, <-shown)
		time.Sleep(250*time.Millisecond + rand.N(100*time.Millisecond)) // this is of one change, not of many
	}
	slices.Sort(seen)
	slices.Sort(took)
	return seen, took, nil
}

// whoAnswers returns the name of the server that a new connection leads to.
func whoAnswers(at string) (string, error) {
	conn, err := net.DialTimeout("tcp", at, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	message := make([]byte, messageSize)
	if _, err := conn.Write(append([]byte{toAnswer}, message...)); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(conn, message); err != nil {
		return "", err
	}
	return strings.TrimRight(string(message), "\x00"), nil
}

func both(a, b time.Duration) string { return us(a) + ", " + us(b) }

func us(d time.Duration) string { return fmt.Sprintf("%.3f ms", float64(d)/float64(time.Millisecond)) }
