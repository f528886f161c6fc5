package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/image"
)

// nodeImages gives the node its images, and keeps the layers of those in use
// from being pruned.
type nodeImages struct {
	open func() (*image.Store, error)
	// keep says that the images are not this engine's to remove: it is private, and
	// uses those of the user.
	keep bool
	// pulls is held shared by pulls, so that layers that no name leads to yet are
	// not reclaimed.
	pulls sync.RWMutex

	mu     sync.Mutex
	pods   map[string]map[string]bool // pod uid → layers
	layers map[string]*heldLayer
	places map[place]string // what Place has found
}

// place is a path in an image.
type place struct{ image, path string }

// maxPlaces is how many are kept: a few of each image that is in use.
const maxPlaces = 1000

// heldLayer is a layer's directory under a shared lock, as image.Prune
// respects it.
type heldLayer struct {
	dir  *os.File
	pods int
}

func newNodeImages(open func() (*image.Store, error), keep bool) *nodeImages {
	return &nodeImages{open: open, keep: keep, pods: map[string]map[string]bool{}, layers: map[string]*heldLayer{}, places: map[place]string{}}
}

var _ agent.Images = (*nodeImages)(nil)

// Ensure implements agent.Images.
func (n *nodeImages) Ensure(ctx context.Context, req agent.ImageRequest) (*agent.Image, error) {
	store, err := n.open()
	if err != nil {
		return nil, imageError(err)
	}
	img, ok, err := store.Get(req.Ref)
	if err != nil {
		return nil, imageError(err)
	}
	secrets := sync.OnceValues(func() ([]image.Credentials, error) { return credentials(req.Secrets(ctx)) })
	if ok && !img.Loaded && img.Private() && req.Policy != corev1.PullAlways {
		// That it is here is not told to who may not have it.
		shown, err := secrets()
		if err == nil {
			ok, err = store.MayUse(ctx, img, shown)
		}
		if err != nil {
			return nil, pullSecretError(err)
		}
	}
	if ok && (img.Loaded || req.Policy != corev1.PullAlways) {
		return n.use(req, img)
	}
	if req.Policy == corev1.PullNever {
		return nil, &agent.ImageError{
			Reason:  agent.ErrImageNeverPull,
			Message: fmt.Sprintf("Container image %q is not present with pull policy of Never", req.Ref),
		}
	}
	if req.Pulling != nil {
		req.Pulling()
	}
	shown, err := secrets()
	if err != nil {
		return nil, pullSecretError(err)
	}
	began := time.Now()
	n.pulls.RLock()
	defer n.pulls.RUnlock()
	if img, err = store.Pull(ctx, req.Ref, image.PullOptions{Secrets: shown, Progress: progressOf(req)}); err != nil {
		return nil, imageError(err)
	}
	out, err := n.use(req, img)
	if err == nil {
		out.Pulled, out.PullTime = true, time.Since(began)
	}
	return out, err
}

func progressOf(req agent.ImageRequest) func(image.Progress) {
	if req.Progress == nil {
		return nil
	}
	return func(p image.Progress) { req.Progress(p.Done, p.Total) }
}

// LookupUser implements agent.Images.
func (n *nodeImages) LookupUser(_ context.Context, img *agent.Image, user string) (runspec.User, error) {
	u, err := (&image.Image{Layers: img.Layers}).ResolveUser(user)
	if err != nil {
		return runspec.User{}, err
	}
	return runspec.User{UID: u.UID, GID: u.GID, Groups: u.Groups, Home: u.Home}, nil
}

// Place implements agent.Images. Images do not change, and their containers ask for the
// same paths again and again.
func (n *nodeImages) Place(img *agent.Image, path string) (string, error) {
	key := place{img.ID, path}
	n.mu.Lock()
	known, ok := n.places[key]
	n.mu.Unlock()
	if ok {
		return known, nil
	}
	found, err := (&image.Image{Layers: img.Layers}).Place(path)
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.places) >= maxPlaces {
		clear(n.places)
	}
	n.places[key] = found
	return found, nil
}

// Reclaim implements agent.Images: images that were pulled and that no container
// uses go, with all that no name leads to. Those that were loaded by hand stay:
// no registry has them, or not as they are here.
func (n *nodeImages) Reclaim(context.Context) error {
	if n.keep || !n.pulls.TryLock() {
		return nil
	}
	defer n.pulls.Unlock()
	store, err := n.open()
	if err == nil {
		_, err = store.Prune(image.PruneOptions{Unused: true})
	}
	return err
}

// Release implements agent.Images.
func (n *nodeImages) Release(podUID string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for path := range n.pods[podUID] {
		held := n.layers[path]
		if held.pods--; held.pods == 0 {
			held.dir.Close()
			delete(n.layers, path)
		}
	}
	delete(n.pods, podUID)
}

// use holds the image's layers for the pod.
func (n *nodeImages) use(req agent.ImageRequest, img *image.Image) (*agent.Image, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, path := range img.Layers {
		if err := n.holdLocked(req.PodUID, path); err != nil {
			return nil, &agent.ImageError{Reason: agent.ImageInspectError, Message: fmt.Sprintf("image %q: %v", req.Ref, err)}
		}
	}
	out := &agent.Image{
		Ref: req.Ref, ID: img.ID, Layers: img.Layers, Size: img.Size, ByHand: img.Loaded,
		Entrypoint: img.Config.Entrypoint, Cmd: img.Config.Cmd, Env: img.Config.Env,
		WorkingDir: img.Config.WorkingDir, User: img.Config.User, StopSignal: img.Config.StopSignal,
	}
	if img.Repo != "" {
		out.Digest = img.Repo + "@" + img.Digest
	}
	return out, nil
}

func (n *nodeImages) holdLocked(podUID, path string) error {
	if n.pods[podUID][path] {
		return nil
	}
	held := n.layers[path]
	if held == nil {
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
			dir.Close()
			return fmt.Errorf("layer %s is being removed: %w", path, err)
		}
		if !stillAt(path, dir) {
			dir.Close()
			return fmt.Errorf("layer %s was removed in this moment", path)
		}
		held = &heldLayer{dir: dir}
		n.layers[path] = held
	}
	held.pods++
	if n.pods[podUID] == nil {
		n.pods[podUID] = map[string]bool{}
	}
	n.pods[podUID][path] = true
	return nil
}

// stillAt tells whether an open file is the one that has the name. One whose lock
// was got may have been removed before, and the lock keeps nothing then.
func stillAt(path string, f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, named)
}

// credentials reads the pull secrets of a pod.
func credentials(secrets []*corev1.Secret) ([]image.Credentials, error) {
	var all []image.Credentials
	for _, s := range secrets {
		data := s.Data[corev1.DockerConfigJsonKey]
		if s.Type == corev1.SecretTypeDockercfg {
			data = s.Data[corev1.DockerConfigKey]
		}
		creds, err := image.ParseCredentials(data)
		if err != nil {
			return nil, fmt.Errorf("imagePullSecret %s: %w", s.Name, err)
		}
		all = append(all, creds)
	}
	return all, nil
}

func pullSecretError(err error) error {
	return &agent.ImageError{Reason: agent.ErrImagePull, Message: err.Error()}
}

func imageError(err error) error {
	var e *image.Error
	if errors.As(err, &e) {
		return &agent.ImageError{Reason: e.Reason, Message: e.Message}
	}
	return &agent.ImageError{Reason: agent.ImageInspectError, Message: err.Error()}
}
