package server

import (
	"context"
	"errors"
	"net"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// A client in this process needs no network: here it is told of an address where nobody listens.
func TestInside(t *testing.T) {
	t.Parallel()
	f := setup(t)
	config := f.InsideConfig()
	config.Host = "https://127.0.0.1:1"
	client := kubernetes.NewForConfigOrDie(config)
	watch, err := client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"k": string(make([]byte, 1<<19))}}
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if event := <-watch.ResultChan(); event.Object.(*corev1.ConfigMap).Name != "c" {
		t.Errorf("got %v", event)
	}
	// The way is nobody's credentials.
	config.BearerToken = "nobody's"
	if _, err := kubernetes.NewForConfigOrDie(config).CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("who has no credentials is let in")
	}
}

func TestInsideEnds(t *testing.T) {
	t.Parallel()
	i := newInside(&net.TCPAddr{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.dial(ctx, "", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("whose time is over: %v", err)
	}
	if err := errors.Join(i.Close(), i.Close()); err != nil {
		t.Error(err)
	}
	if _, err := i.dial(t.Context(), "", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialed after the end: %v", err)
	}
	if _, err := i.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepted after the end: %v", err)
	}
}
