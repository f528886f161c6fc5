package clients

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// python is Debian's, which has python3-kubernetes.
const python = "/usr/bin/python3"

// javascript returns a directory with the scripts and the library that they use.
func javascript(t *testing.T) string {
	t.Helper()
	npm.once.Do(func() {
		npm.dir, npm.err = filepath.Abs(filepath.Join("testdata", "javascript"))
		if _, err := os.Stat(filepath.Join(npm.dir, "node_modules", "@kubernetes", "client-node")); err == nil || npm.err != nil {
			return
		}
		cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund")
		cmd.Dir = npm.dir
		if npm.out, npm.err = cmd.CombinedOutput(); npm.err != nil {
			t.Logf("npm ci: %s", npm.out)
		}
	})
	if npm.err != nil {
		t.Fatalf("npm ci in %s: %v", npm.dir, npm.err)
	}
	return npm.dir
}

var npm struct {
	once sync.Once
	dir  string
	out  []byte
	err  error
}

// TestLibraries: what people do with the official libraries, printed as it should be.
func TestLibraries(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for _, c := range []struct{ library, out, want string }{
		{"python", e.run(python, filepath.Join("testdata", "python", "batch.py")), `log: hello from python
exec: 42
refused: 422 Invalid metadata.name
`},
		{"javascript", e.run("node", filepath.Join(javascript(t), "batch.js")), `log: hello from javascript
exec: 42 Failure 3
refused: 422 Invalid metadata.name
`},
	} {
		if c.out != c.want {
			t.Errorf("%s printed\n%s\nwant\n%s", c.library, c.out, c.want)
		}
	}
}

// TestArticle: the programs of an article for Kubernetes 1.24, unmodified.
func TestArticle(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "test-namespace"}}
	if _, err := e.api().CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	manifest, err := filepath.Abs(filepath.Join("..", "testdata", "manifests", "cronjob-hello-v1beta1.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := e.command(ctx, python, filepath.Join("testdata", "python", "seed.py"))
	cmd.Env = append(cmd.Env, "CRONJOB_FILE="+manifest)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "'api_version': 'batch/v1beta1'") || strings.Contains(string(out), "Exception") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := e.api().BatchV1().CronJobs("test-namespace").Get(t.Context(), "hello", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}
