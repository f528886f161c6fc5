package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/address"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/quota"
	"github.com/sampan-batch/sampan/internal/store"
)

// TestMain holds all tests, those that attack the server among them, to this: what
// clients do is nothing that the engine's log complains of.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := serveBench(dir); err != nil {
			slog.Error(err.Error())
			os.Exit(1)
		}
		return
	}
	RouteKlog(slog.New(slog.NewTextHandler(&complaints, nil)))
	code := m.Run()
	log := slices.DeleteFunc(strings.SplitAfter(complaints.String(), "\n"), func(line string) bool {
		return line == "" || strings.Contains(line, "failed calling webhook") // of a webhook that is ignored, whoever runs the engine has to know
	})
	if len(log) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "FAIL: clients have made the libraries log this:\n%s", strings.Join(log, ""))
		code = 1
	}
	os.Exit(code)
}

// complaints is what the libraries have logged.
var complaints syncBuffer

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// fixture is a running server with an administrator's clients.
type fixture struct {
	*Server
	store   *store.Store
	kinds   *kind.Kinds
	config  *rest.Config
	client  *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
	dir     string
}

// setup starts a server over a fresh store with the namespace "default".
func setup(t testing.TB, options ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{dir: t.TempDir(), kinds: kind.Builtin()}
	var err error
	f.store, err = store.Open(store.Options{
		Path: filepath.Join(f.dir, "store.db"), Codec: kind.NewCodec(f.kinds), Index: f.kinds.Index, Account: store.InTurn(kind.NamespaceLifecycle, address.Account, quota.Account),
	})
	if err != nil {
		t.Fatal(err)
	}
	opened := f.store
	t.Cleanup(func() { opened.Close() })
	o := Options{
		Store: f.store, Kinds: f.kinds, Listen: "127.0.0.1:0",
		CertDir: filepath.Join(f.dir, "pki"), Version: "0.0.1",
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	for _, option := range options {
		option(&o)
	}
	f.store = o.Store // an option may have put another
	if f.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-stopped:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the server does not stop")
		}
	})
	<-f.Ready()

	kubeconfig, err := f.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	if f.config, err = clientcmd.RESTConfigFromKubeConfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	f.config.QPS = -1
	f.client = kubernetes.NewForConfigOrDie(f.config)
	f.dynamic = dynamic.NewForConfigOrDie(f.config)
	f.namespace(t, "default")
	return f
}

// namespace creates a namespace.
func (f *fixture) namespace(t testing.TB, name string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := f.client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// put stores objects without asking anybody, as the controllers do, in namespaces that are made where
// there are none.
func (f *fixture) put(t testing.TB, objects ...change.Object) {
	t.Helper()
	var set change.Set
	view, made := f.store.View(), map[string]bool{"": true}
	for _, obj := range objects {
		key := kind.Namespaces.Key("", obj.GetNamespace())
		if _, ok := view.Get(key); !ok && !made[key.Name] {
			made[key.Name] = true
			set.Create(key, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: key.Name}})
		}
		gvks, _, err := f.scheme.ObjectKinds(obj)
		if err != nil {
			t.Fatal(err)
		}
		set.Create(f.kinds.ByGVK(gvks[0]).KeyOf(obj), obj)
	}
	if _, err := f.store.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

func TestServer(t *testing.T) {
	t.Parallel()
	f := setup(t)
	cms := f.client.CoreV1().ConfigMaps("default")
	cm, err := cms.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "a"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if cm.UID == "" || cm.ResourceVersion == "" || len(cm.ManagedFields) == 0 {
		t.Errorf("got %+v", cm)
	}
	list, err := cms.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Data["k"] != "v" {
		t.Fatalf("got %+v, %v", list, err)
	}
}
