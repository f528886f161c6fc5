package main_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// sameAddress is an engine on an address that stays the same from start to start.
type sameAddress struct {
	bin, data, listen string
	cmd               *exec.Cmd
}

func (s *sameAddress) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(s.bin, "serve", "--data-dir", s.data, "--listen", s.listen, "--runtime=host")
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	if n, err := out.Read(line); err != nil || !strings.HasPrefix(string(line[:n]), "sampan is ready") {
		s.stop(t)
		t.Fatalf("serve: %q %v", line[:n], err)
	}
}

func (s *sameAddress) stop(t *testing.T) {
	t.Helper()
	s.cmd.Wait()
	s.sampan(t, "stop", "--data-dir", s.data)
}

func (s *sameAddress) sampan(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(s.bin, args...).CombinedOutput(); err != nil {
		t.Fatalf("sampan %s: %v %s", strings.Join(args, " "), err, out)
	}
}

// Clients that watch go through a restore of an older backup, twice, and end
// where a client that lists anew is: what the backup does not have is gone for them,
// what is written afterwards arrives, and no watch resumes behind writes that it missed.
func TestWatchAcrossRestores(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(buildTools(t).bin, "sampan")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	dir := t.TempDir()
	s := &sameAddress{bin: bin, data: filepath.Join(dir, "data"), listen: l.Addr().String()}
	s.start(t)
	t.Cleanup(func() { exec.Command(s.bin, "stop", "--data-dir", s.data).Run() })

	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.data, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(config) // this one, with its certificate, all the time
	configMaps := client.CoreV1().ConfigMaps("default")
	create := func(name string) *corev1.ConfigMap {
		t.Helper()
		cm, err := configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return cm
	}
	create("changed")
	create("deleted")
	informer := watchAll(t, client)
	backup := filepath.Join(dir, "backup.tar")
	s.sampan(t, "backup", "--data-dir", s.data, backup)

	var seen []string // revisions that clients have seen in lives that are over
	for round := range 2 {
		changed, err := configMaps.Get(t.Context(), "changed", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		changed.Data = map[string]string{"round": fmt.Sprint(round)}
		if changed, err = configMaps.Update(t.Context(), changed, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := configMaps.Delete(t.Context(), "deleted", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		last := create(fmt.Sprint("lost-", round))
		informer.await(t, client)
		seen = append(seen, changed.ResourceVersion, last.ResourceVersion)

		s.cmd.Process.Kill()
		s.stop(t)
		s.sampan(t, "restore", "--data-dir", s.data, "--replace", backup)
		s.start(t)
		for _, rev := range seen {
			if err := watchFrom(t, client, rev); !apierrors.IsResourceExpired(err) {
				t.Errorf("round %d: a watch from revision %s of before: %v", round, rev, err)
			}
		}
		kept := create(fmt.Sprint("kept-", round))
		for _, rev := range seen {
			if revision(t, rev) >= revision(t, kept.ResourceVersion) {
				t.Errorf("round %d: revision %s after %s", round, kept.ResourceVersion, rev)
			}
		}
		informer.await(t, client)
	}
}

func revision(t *testing.T, resourceVersion string) uint64 {
	t.Helper()
	rev, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// watchFrom begins a watch and returns the error that it is answered with.
func watchFrom(t *testing.T, client kubernetes.Interface, rev string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w, err := client.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{ResourceVersion: rev})
	if err != nil {
		return err
	}
	defer w.Stop()
	ev := <-w.ResultChan()
	return apierrors.FromObject(ev.Object)
}

// mirror is what an informer's handlers were told.
type mirror struct {
	mu      sync.Mutex
	objects map[string]string // name → resourceVersion
}

func watchAll(t *testing.T, client kubernetes.Interface) *mirror {
	t.Helper()
	m := &mirror{objects: map[string]string{}}
	set := func(obj any) {
		cm := obj.(*corev1.ConfigMap)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.objects[cm.Name] = cm.ResourceVersion
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace("default"))
	_, err := factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.objects, obj.(*corev1.ConfigMap).Name)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop); factory.Shutdown() })
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	return m
}

// await waits until the mirror shows what a list does.
func (m *mirror) await(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	var got, want map[string]string
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		list, err := client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want = map[string]string{}
		for _, cm := range list.Items {
			want[cm.Name] = cm.ResourceVersion
		}
		m.mu.Lock()
		got = maps.Clone(m.objects)
		m.mu.Unlock()
		if maps.Equal(got, want) {
			return
		}
	}
	t.Fatalf("the informer shows %v, a list %v", got, want)
}
