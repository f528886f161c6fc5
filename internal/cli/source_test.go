package cli

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// namedJob is a manifest that says no more than that.
func namedJob(name string) string {
	return "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: " + name + "\n"
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, body string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("many/b.yaml", namedJob("b")+"---\n# only a comment\n---\n"+namedJob("c"))
	write("many/a.json", `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"a"}}`)
	write("many/readme.md", "no")
	write("many/sub/d.yaml", namedJob("d"))
	write("deep/er/e.yaml", namedJob("e"))
	write("empty/readme.md", "no")
	write("kustom/kustomization.yaml", "resources: [x.yaml]")
	write("chart/Chart.yaml", "name: x")
	write("chart/values.yaml", "x: 1")
	for _, c := range []struct {
		name      string
		paths     []string
		recursive bool
		stdin     string
		want      string
		wrong     string // a part of it
	}{
		{name: "a directory", paths: []string{"many"}, want: "a b c"},
		{name: "and those below", paths: []string{"many"}, recursive: true, want: "a b c d"},
		{name: "a pattern", paths: []string{"*/*.yaml"}, want: "b c", wrong: "Helm chart"},
		{name: "stdin and a file", paths: []string{"-", "many/a.json"}, stdin: namedJob("z"), want: "z a"},
		{name: "stdin twice", paths: []string{"-", "-"}, stdin: namedJob("z"), want: "z", wrong: "standard input can be read once"},
		{name: "nothing there", paths: []string{"none.yaml", "many/a.json"}, want: "a", wrong: `none.yaml" does not exist`},
		{name: "an empty directory", paths: []string{"empty"}, wrong: `empty" has no .yaml, .yml or .json file`},
		{name: "a deep directory", paths: []string{"deep"}, wrong: "-R looks into the directories below, too"},
		{name: "empty input", paths: []string{"-"}, stdin: "\n---\n", wrong: "stdin: no objects found"},
		{name: "kustomize", paths: []string{"kustom"}, wrong: "give it by -k "},
		{name: "its file", paths: []string{"kustom/kustomization.yaml"}, wrong: "kustomize's own file"},
		{name: "a chart", paths: []string{"chart"}, wrong: "helm template "},
		{name: "values", paths: []string{"chart/values.yaml"}, wrong: "helm template CHART -f "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := inputs{recursive: c.recursive, stdin: strings.NewReader(c.stdin)}
			for _, path := range c.paths {
				if path != "-" {
					path = filepath.Join(dir, path)
				}
				in.paths = append(in.paths, path)
			}
			objects, err := in.read(t.Context())
			var names []string
			for _, o := range objects {
				names = append(names, o.GetName())
			}
			got, wrong := strings.Join(names, " "), fmt.Sprint(err)
			if err == nil {
				wrong = ""
			}
			if got != c.want || c.wrong == "" && wrong != "" || !strings.Contains(wrong, c.wrong) {
				t.Errorf("got %q, %q\nwant %q, %q", got, wrong, c.want, c.wrong)
			}
		})
	}
}

func TestReadURL(t *testing.T) {
	t.Parallel()
	silent := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/job.yaml":
			fmt.Fprint(w, namedJob("far"))
		case "/moved":
			http.Redirect(w, r, "/job.yaml", http.StatusMovedPermanently)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/packed":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			fmt.Fprint(z, namedJob("packed"))
			z.Close()
		case "/cut":
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, namedJob("cut"))
		case "/silent":
			<-silent
		case "/stalled":
			fmt.Fprint(w, namedJob("stalled"))
			w.(http.Flusher).Flush()
			<-silent
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(silent) })
	for _, c := range []struct {
		path  string
		want  string // the name of the Job
		wrong string // what is said behind the URL
	}{
		{path: "/job.yaml", want: "far"},
		{path: "/moved", want: "far"},
		{path: "/packed", want: "packed"},
		{path: "/none", wrong: `the server answers "404 Not Found"`},
		{path: "/loop", wrong: "stopped after 10 redirects"},
		{path: "/cut", wrong: "unexpected EOF"},
		{path: "/silent", wrong: "the server has not answered with all of it within 500ms"},
		{path: "/stalled", wrong: "the server has not answered with all of it within 500ms"},
	} {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			in := inputs{paths: []string{server.URL + c.path}, patience: 500 * time.Millisecond}
			if c.want != "" {
				in.patience = 0
			}
			objects, err := in.read(t.Context())
			switch {
			case c.wrong != "":
				if want := server.URL + c.path + ": " + c.wrong; err == nil || err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
			case err != nil || len(objects) != 1 || objects[0].GetName() != c.want || objects[0].Where() != server.URL+c.path+":1":
				t.Errorf("got %v, %v", objects, err)
			}
		})
	}
}

// All that is wrong is said, besides what can be read.
func TestReadOneOfTwoURLs(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, namedJob("far")) }))
	defer server.Close()
	nobody := httptest.NewServer(nil)
	nobody.Close()
	objects, err := inputs{paths: []string{server.URL, nobody.URL}}.read(t.Context())
	if len(objects) != 1 || err == nil || !strings.HasPrefix(err.Error(), nobody.URL+": ") || !strings.HasSuffix(err.Error(), "connection refused") {
		t.Errorf("got %v, %v", objects, err)
	}
}

// Who waits for a pipe that nobody writes to can be asked to end.
func TestReadInterrupted(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	defer w.Close()
	for _, path := range []string{pipe, "-"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Millisecond, func() { cancel(errInterrupted) })
		if _, err := (inputs{paths: []string{path}, stdin: r}).read(ctx); !errors.Is(err, errInterrupted) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}
