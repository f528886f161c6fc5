package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/address"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/quota"
	"github.com/sampan-batch/sampan/internal/store"
)

// childDir makes the test binary a server on its own: the benchmarks measure
// the CPU time of a process that does nothing else.
const (
	childDir  = "SAMPAN_BENCH_SERVER_DIR"
	childJobs = "SAMPAN_BENCH_SERVER_JOBS"     // how many it has stored
	childFree = "SAMPAN_BENCH_SERVER_UNJUDGED" // anything: nobody admits what is written
)

// serveBench is the child: a server with a namespace "default".
func serveBench(dir string) error {
	start := time.Now()
	kinds := kind.Builtin()
	unjudged := os.Getenv(childFree) != ""
	account := store.InTurn(kind.NamespaceLifecycle, address.Account, quota.Account)
	if unjudged {
		account = store.InTurn(address.Account, quota.Account)
	}
	st, err := store.Open(store.Options{Path: filepath.Join(dir, "store.db"), Codec: kind.NewCodec(kinds), Index: kinds.Index, Account: account})
	if err != nil {
		return err
	}
	defer st.Close()
	var set change.Set
	set.Create(change.Key{Resource: "namespaces", Name: "default"}, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "ns", CreationTimestamp: metav1.Now()},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	})
	stored, _ := strconv.Atoi(os.Getenv(childJobs))
	for i := range stored {
		job := benchJob()
		job.Namespace, job.Name, job.UID = "default", fmt.Sprintf("job-%05d", i), types.UID(fmt.Sprint(i))
		set.Create(change.Key{Resource: "jobs.batch", Namespace: "default", Name: job.Name}, job)
	}
	if _, err := st.Apply(context.Background(), set); err != nil {
		return err
	}
	s, err := New(Options{Store: st, Kinds: kinds, Listen: "127.0.0.1:0", CertDir: dir, unjudged: unjudged})
	if err != nil {
		return err
	}
	kubeconfig, err := s.Kubeconfig()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "kubeconfig"), kubeconfig, 0o600); err != nil {
		return err
	}
	if path := os.Getenv("SAMPAN_BENCH_PROFILE"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		<-s.Ready()
		fmt.Println("ready", time.Since(start).Microseconds())
	}()
	return s.Run(ctx)
}

// child is a server in a process of its own.
type child struct {
	pid    int
	ready  time.Duration // from the start of the process until it answers
	config *rest.Config
}

func startChild(b *testing.B, jobs int, env ...string) *child {
	b.Helper()
	dir := b.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), childDir+"="+dir, fmt.Sprint(childJobs, "=", jobs)), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	if !bufio.NewScanner(out).Scan() {
		b.Fatal("the server did not start")
	}
	c := &child{pid: cmd.Process.Pid, ready: time.Since(start)}
	if c.config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "kubeconfig")); err != nil {
		b.Fatal(err)
	}
	return c
}

// cpu is the processor time that the child has used.
func (c *child) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	if err != nil {
		b.Skip("no /proc: ", err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// rss is the child's memory in MB.
func (c *child) rss(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		b.Skip("no /proc: ", err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kb, _ := strconv.Atoi(strings.Fields(after)[0])
	return float64(kb) / 1024
}

func benchJob() *batchv1.Job {
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-", Labels: map[string]string{"app": "bench"}},
		Spec: batchv1.JobSpec{
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever,
				Containers:    []corev1.Container{{Name: "main", Image: "busybox", Command: []string{"true"}}},
			}},
			BackoffLimit: ptr.To[int32](4),
		},
	}
}

// BenchmarkCreateJob measures a Job's creation over HTTP/2 and TLS, as JSON and
// as protobuf, by 16 clients: how many per second, and what each costs the
// server. The clients share the machine.
func BenchmarkCreateJob(b *testing.B) {
	scheme, err := kind.NewScheme(kind.Table())
	if err != nil {
		b.Fatal(err)
	}
	codecs := serializer.NewCodecFactory(scheme)
	for _, mediaType := range []string{runtime.ContentTypeJSON, runtime.ContentTypeProtobuf} {
		b.Run(strings.TrimPrefix(mediaType, "application/"), func(b *testing.B) {
			info, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), mediaType)
			body, err := runtime.Encode(codecs.EncoderForVersion(info.Serializer, batchv1.SchemeGroupVersion), benchJob())
			if err != nil {
				b.Fatal(err)
			}
			c := startChild(b, 0)
			post := c.requester(b, http.MethodPost, "/apis/batch/v1/namespaces/default/jobs?fieldManager=bench", mediaType, body)
			for range 50 {
				if err := post(); err != nil { // the first one builds the types
					b.Fatal(err)
				}
			}
			before := c.cpu(b)
			b.ResetTimer()
			c.run(b, 16, post)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
			b.ReportMetric((c.cpu(b)-before).Seconds()*1000/float64(b.N), "server-cpu-ms/op")
			b.ReportMetric(c.rss(b), "server-MB")
		})
	}
}

// BenchmarkAdmission measures what a Job's creation costs the server when all who may judge it are asked, of
// whom none has anything to judge by, and when nobody is. The two servers take turns, so that what else the
// machine does falls on both.
func BenchmarkAdmission(b *testing.B) {
	const turn = 500
	body, err := json.Marshal(benchJob())
	if err != nil {
		b.Fatal(err)
	}
	type side struct {
		*child
		post   func() error
		before time.Duration
	}
	var sides [2]side
	for i, env := range []string{"", childFree + "=1"} {
		c := startChild(b, 0, env)
		sides[i] = side{child: c, post: c.requester(b, http.MethodPost, "/apis/batch/v1/namespaces/default/jobs?fieldManager=bench", runtime.ContentTypeJSON, body)}
		for range turn {
			if err := sides[i].post(); err != nil {
				b.Fatal(err)
			}
		}
		sides[i].before = c.cpu(b)
	}
	for b.Loop() {
		for i := range sides {
			for range turn {
				if err := sides[i].post(); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	each := func(s side) float64 { return (s.cpu(b) - s.before).Seconds() * 1e6 / float64(b.N*turn) }
	b.ReportMetric(each(sides[0]), "admitted-us/create")
	b.ReportMetric(each(sides[1]), "bypassed-us/create")
	b.ReportMetric(100*(each(sides[0])/each(sides[1])-1), "%more")
}

// run calls do b.N times, by workers at a time.
func (c *child) run(b *testing.B, workers int, do func() error) {
	var group sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	for range workers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// requester returns a function that sends a request, with as little work of
// the client's own as possible.
func (c *child) requester(b *testing.B, method, path, mediaType string, body []byte) func() error {
	b.Helper()
	tlsConfig, err := rest.TLSConfigFor(c.config)
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DisableCompression: true}}
	return func() error {
		req, err := http.NewRequest(method, c.config.Host+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", mediaType)
		req.Header.Set("Accept", mediaType)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			answer, _ := io.ReadAll(resp.Body)
			return fmt.Errorf("%s: %s", resp.Status, answer)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}

// BenchmarkListJobs measures a list of 10,000 Jobs in each form: what it costs
// the server, and the server's memory before and after.
func BenchmarkListJobs(b *testing.B) {
	for name, accept := range map[string]string{
		"json":     runtime.ContentTypeJSON,
		"protobuf": runtime.ContentTypeProtobuf,
		"table":    "application/json;as=Table;v=v1;g=meta.k8s.io",
		"page":     runtime.ContentTypeJSON,
	} {
		b.Run(name, func(b *testing.B) {
			path := "/apis/batch/v1/jobs"
			if name == "page" {
				path += "?limit=500"
			}
			c := startChild(b, 10000)
			list := c.requester(b, http.MethodGet, path, accept, nil)
			if err := list(); err != nil {
				b.Fatal(err)
			}
			before := c.cpu(b)
			b.ResetTimer()
			c.run(b, 1, list)
			b.StopTimer()
			b.ReportMetric((c.cpu(b)-before).Seconds()*1000/float64(b.N), "server-cpu-ms/op")
			b.ReportMetric(c.rss(b), "server-MB")
		})
	}
}

// BenchmarkWatchers measures creates while 1,000 watches of the same resource
// are open.
func BenchmarkWatchers(b *testing.B) {
	const watchers = 1000
	c := startChild(b, 0)
	client := kubernetes.NewForConfigOrDie(c.config)
	for range watchers {
		w, err := client.BatchV1().Jobs("default").Watch(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		defer w.Stop()
		go func() {
			for range w.ResultChan() {
			}
		}()
	}
	body, err := json.Marshal(benchJob())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(c.rss(b), "watching-MB")
	before := c.cpu(b)
	b.ResetTimer()
	c.run(b, 16, c.requester(b, http.MethodPost, "/apis/batch/v1/namespaces/default/jobs", runtime.ContentTypeJSON, body))
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
	b.ReportMetric((c.cpu(b)-before).Seconds()*1e6/float64(b.N)/watchers, "server-cpu-us/event")
}

// BenchmarkStart measures the time from the start of a process until the API
// answers, with certificates to be made, and its memory then.
func BenchmarkStart(b *testing.B) {
	var total time.Duration
	var mb float64
	for b.Loop() {
		c := startChild(b, 0)
		total += c.ready
		mb = c.rss(b)
	}
	b.ReportMetric(total.Seconds()*1000/float64(b.N), "ready-ms/op")
	b.ReportMetric(mb, "server-MB")
}
