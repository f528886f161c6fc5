package main_test

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sampan-batch/sampan/internal/image/imagetest"
)

// server is an image with real programs: Debian's, from the packages of this machine, and
// files of testdata.
type server struct {
	ref      string
	config   v1.Config
	packages []string
	files    []imagetest.File
	programs []string // files of testdata, which the image has in its root directory
}

const pathOfImages = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// servers are the images that the seeds take from public registries, or let their readers
// build, under the names that they have there.
var servers = map[string]server{
	"redis": {
		ref: "redis", packages: []string{"redis-server", "redis-tools", "dash"},
		config: v1.Config{Cmd: []string{"redis-server", "--protected-mode", "no"}},
	},
	"rabbitmq": {
		ref: "rabbitmq", packages: []string{"rabbitmq-server", "dash", "coreutils", "sed", "grep", "python3-", "socat-"},
		// As in the public image, guest may come from other machines.
		files:  []imagetest.File{{Name: "etc/rabbitmq/rabbitmq.conf", Body: []byte("loopback_users.guest = false\n")}},
		config: v1.Config{Env: []string{"HOME=/var/lib/rabbitmq"}, Cmd: []string{"/usr/lib/rabbitmq/bin/rabbitmq-server"}},
	},
	// What the reader installs into it with apt-get is there: a test has no network.
	"ubuntu": {
		ref: "ubuntu:14.04", packages: []string{"bash", "dash", "coreutils", "grep", "amqp-tools", "bind9-dnsutils"},
		config: v1.Config{Cmd: []string{"/bin/bash"}},
	},
	"job-wq-1": {
		ref: "gcr.io/myproject/job-wq-1", packages: []string{"dash", "coreutils", "amqp-tools", "python3"},
		files:    []imagetest.File{python},
		programs: []string{"job-wq-1/worker.py"},
		config:   v1.Config{Cmd: []string{"/bin/sh", "-c", "/usr/bin/amqp-consume --url=$BROKER_URL -q $QUEUE -c 1 /worker.py"}},
	},
	"job-wq-2": {
		ref: "gcr.io/myproject/job-wq-2", packages: []string{"dash", "python3-redis"},
		files:    []imagetest.File{python},
		programs: []string{"job-wq-2/worker.py", "job-wq-2/rediswq.py"},
		config:   v1.Config{Env: []string{"PYTHONUNBUFFERED=1"}, Cmd: []string{"/bin/sh", "-c", "python worker.py"}},
	},
	"python": {
		ref: "python", packages: []string{"dash", "python3-kubernetes"}, files: []imagetest.File{python},
		config: v1.Config{Cmd: []string{"python"}},
	},
}

// python is the name under which the seeds call it.
var python = imagetest.File{Name: "usr/bin/python", Type: tar.TypeSymlink, Link: "python3"}

// image returns the archive of an image. Those of servers are made when they are first
// asked for, as not every test needs them.
func (tl *tools) image(t testing.TB, name string) string {
	t.Helper()
	tl.mu.Lock()
	defer tl.mu.Unlock()
	file := filepath.Join(tl.images, name+".tar")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	s, ok := servers[name]
	if !ok {
		t.Fatalf("there is no image %q", name)
	}
	files := append(imagetest.Debian(t, s.packages...), s.files...)
	for _, path := range s.programs {
		files = append(files, imagetest.FromDisk(t, filepath.Join("..", "..", "testdata", path), filepath.Base(path)))
	}
	s.config.Env = append([]string{pathOfImages}, s.config.Env...)
	tl.save(t, name, s.ref, imagetest.Image(t, s.config, imagetest.Tar(t, files...)))
	return file
}

func (tl *tools) save(t testing.TB, name, ref string, img v1.Image) {
	t.Helper()
	if err := os.Rename(imagetest.Save(t, ref, img), filepath.Join(tl.images, name+".tar")); err != nil {
		t.Fatal(err)
	}
}
