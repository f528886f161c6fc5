package extensions

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The modules of others.
const (
	kueue  = "sigs.k8s.io/kueue"
	jobset = "sigs.k8s.io/jobset"
)

// built holds the programs, which are built once.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// programs returns the directory with sampan, kubectl and the managers.
func programs(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "sampan-extensions-*"); built.err != nil {
			return
		}
		for _, p := range []struct{ name, module, pkg string }{
			{"sampan", "..", "./cmd/sampan"},
			{"kubectl", filepath.Join("..", "tools", "kubectl"), "."},
			{"kueue", tool(kueue), kueue + "/cmd/kueue"},
			{"jobset", tool(jobset), jobset},
		} {
			cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(built.dir, p.name), p.pkg)
			cmd.Dir = p.module
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				built.err = fmt.Errorf("go build %s: %w\n%s", p.pkg, err, out)
				return
			}
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

// tool is the directory of the module that has one of the programs of others: each its own, since
// they are of different versions of the same libraries.
func tool(module string) string { return filepath.Join("..", "tools", path.Base(module)) }

// moduleDir returns where a module is that a tool is made of, with its manifests.
func moduleDir(t *testing.T, of, module string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = tool(of)
	out, err := cmd.Output()
	var found struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &found)
	}
	if err != nil || found.Dir == "" {
		t.Fatalf("go mod download %s: %v\n%s", module, err, out)
	}
	return found.Dir
}

// asked are the images that containers ask for.
var asked = regexp.MustCompile(`(?m)\bimage: *"?([^\s",]+)`)

// image makes an image of a program, which is /manager in those of the managers, and loads it under
// all names that the containers in a file ask for: no registry is asked.
func image(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: image program file")
	}
	var names []string
	for _, m := range asked.FindAllStringSubmatch(ts.ReadFile(args[1]), -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	if len(names) == 0 {
		ts.Fatalf("%s names no image", args[1])
	}
	path, inside := filepath.Join(of(ts).bin, args[0]), "manager"
	if args[0] == "busybox" {
		path, inside = "/bin/busybox", "busybox"
	}
	program, err := os.ReadFile(path)
	ts.Check(err)
	tar := filepath.Join(ts.Getenv("WORK"), args[0]+".tar")
	ts.Check(os.WriteFile(tar, archive(ts, file{inside, program, 0o755}, names), 0o600))
	ts.Check(ts.Exec("sampan", "image", "load", "--data-dir", of(ts).data, tar))
}

// archive is an image as `docker save` writes it.
func archive(ts *testscript.TestScript, program file, names []string) []byte {
	layer := pack(ts, program, file{"tmp/", nil, 0o1777})
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/" + program.name}, "User": "65532:65532", "WorkingDir": "/"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	ts.Check(err)
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": names, "Layers": []string{"layer.tar"}}})
	ts.Check(err)
	return pack(ts, file{"layer.tar", layer, 0o644}, file{"config.json", config, 0o644}, file{"manifest.json", manifest, 0o644})
}

type file struct {
	name string
	body []byte
	mode int64
}

func pack(ts *testscript.TestScript, files ...file) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		ts.Check(w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body))}))
		_, err := w.Write(f.body)
		ts.Check(err)
	}
	ts.Check(w.Close())
	return out.Bytes()
}
