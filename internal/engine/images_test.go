package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent"
	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/image/imagetest"
)

// TestPrivateImagesThatAreHere: an image that was pulled by the secret of a pod is not the next
// pod's, which has none, because it is here; nor is that told. Who has the secret needs no registry.
func TestPrivateImagesThatAreHere(t *testing.T) {
	t.Parallel()
	layer := imagetest.Tar(t, imagetest.File{Name: "x", Body: []byte("x")})
	ref := imagetest.Registry(t, "team/private:v1", imagetest.Image(t, v1.Config{}, layer), "right")
	public := imagetest.Registry(t, "team/public:v1", imagetest.Image(t, v1.Config{Cmd: []string{"public"}}, layer), "")
	host, _, _ := strings.Cut(ref, "/")
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := newNodeImages(func() (*image.Store, error) { return store, nil }, false)
	var digest string
	for i, tc := range []struct {
		ref, password string
		policy        corev1.PullPolicy
		want          string // a reason, or "pulled" or "here"
	}{
		{ref, "", corev1.PullIfNotPresent, agent.ErrImagePull},
		{ref, "right", corev1.PullIfNotPresent, "pulled"},
		{ref, "right", corev1.PullIfNotPresent, "here"},
		{ref, "right", corev1.PullNever, "here"},
		{ref, "", corev1.PullIfNotPresent, agent.ErrImagePull},
		{ref, "wrong", corev1.PullIfNotPresent, agent.ErrImagePull},
		{ref, "", corev1.PullNever, agent.ErrImageNeverPull},
		{"digest", "", corev1.PullNever, agent.ErrImageNeverPull},
		{"digest", "right", corev1.PullNever, "here"},
		{public, "", corev1.PullIfNotPresent, "pulled"},
		{public, "", corev1.PullNever, "here"},
		{public, "wrong", corev1.PullIfNotPresent, "here"},
	} {
		if tc.ref == "digest" {
			tc.ref = digest
		}
		asked := 0
		img, err := n.Ensure(t.Context(), agent.ImageRequest{Ref: tc.ref, Policy: tc.policy, PodUID: "uid", Secrets: func(context.Context) []*corev1.Secret {
			if asked++; tc.password == "" {
				return nil
			}
			return []*corev1.Secret{{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
				corev1.DockerConfigJsonKey: []byte(`{"auths":{"` + host + `":{"username":"u","password":"` + tc.password + `"}}}`)}}}
		}})
		var refused *agent.ImageError
		got := "here"
		switch {
		case errors.As(err, &refused):
			got = refused.Reason
		case err != nil:
			t.Fatal(err)
		case img.Pulled:
			got = "pulled"
		}
		if got != tc.want || asked > 1 {
			t.Errorf("%d: %s by %q with %s: %s, %v; want %s; it asked %d times", i, tc.ref, tc.password, tc.policy, got, err, tc.want, asked)
		}
		if tc.want == agent.ErrImageNeverPull && !strings.Contains(err.Error(), "is not present with pull policy of Never") {
			t.Errorf("%d: %v", i, err)
		}
		if img != nil && tc.ref == ref {
			digest = img.Digest
		}
	}
}

// TestHoldingALayer: the lock of a directory that has been removed, and perhaps made
// again, keeps nothing.
func TestHoldingALayer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "layer")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !stillAt(path, f) {
		t.Error("it is there")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if stillAt(path, f) {
		t.Error("it is gone")
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if stillAt(path, f) {
		t.Error("it is another one")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil { // who removes it has the lock
		t.Fatal(err)
	}
	n := newNodeImages(nil, false)
	if err := n.holdLocked("uid", path); err != nil {
		t.Errorf("the one that is there: %v", err)
	}
	g, err := os.Open(path + "/../layer")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if unix.Flock(int(g.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		t.Error("it is not held")
	}
	other := path + "2"
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	o, err := os.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := unix.Flock(int(o.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := n.holdLocked("uid", other); err == nil || !strings.Contains(err.Error(), "is being removed") {
		t.Errorf("one that is being removed: %v", err)
	}
}
