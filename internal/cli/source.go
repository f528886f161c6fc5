package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/internal/manifest"
)

// manifestExtensions are those that kubectl reads in a directory.
var manifestExtensions = []string{".json", ".yaml", ".yml"}

const (
	// largestInput is how large a source may be: far more than any engine can run, and
	// less than a machine's memory.
	largestInput = 512 << 20
	// patienceWithURLs is how long one may take.
	patienceWithURLs = 60 * time.Second
)

// source is one text: a file, a URL or standard input.
type source struct {
	name string
	open func(ctx context.Context) (io.ReadCloser, error)
}

// read returns the text. What it is read from may not answer, as a pipe that nobody writes to: then
// the reading is left behind when ctx ends.
func (s source) read(ctx context.Context) ([]byte, error) {
	type text struct {
		data []byte
		err  error
	}
	read := make(chan text, 1)
	go func() {
		data, err := s.readAll(ctx)
		read <- text{data, err}
	}()
	select {
	case t := <-read:
		return t.data, t.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s source) readAll(ctx context.Context) ([]byte, error) {
	in, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, largestInput+1))
	if err == nil && len(data) > largestInput {
		err = fmt.Errorf("larger than %d MiB", largestInput>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return data, nil
}

// inputs names what a command is to read.
type inputs struct {
	// paths are files, directories, glob patterns, http and https URLs, and "-" for
	// stdin. They are read in this order, and a directory's files by name.
	paths []string
	// kustomize are kustomizations that are built, before the paths.
	kustomize []string
	// recursive reads the directories below a directory, too.
	recursive bool
	stdin     io.Reader
	// patience is how long a URL may take; 0 is patienceWithURLs.
	patience time.Duration
}

// none: nothing is named.
func (in inputs) none() bool { return len(in.paths)+len(in.kustomize) == 0 }

// read returns the objects of all sources. The error joins all that is wrong; there are
// objects besides it.
func (in inputs) read(ctx context.Context) ([]manifest.Object, error) {
	sources, err := in.sources()
	errs := []error{err}
	var all []manifest.Object
	for _, s := range sources {
		data, err := s.read(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		objects, err := manifest.Decode(s.name, data)
		errs = append(errs, err)
		all = append(all, objects...)
	}
	if err := errors.Join(errs...); err != nil || len(all) > 0 {
		return all, err
	}
	names := append(slices.Clone(in.kustomize), in.paths...)
	if i := slices.Index(names, "-"); i >= 0 {
		names[i] = "stdin"
	}
	return nil, fmt.Errorf("%s: no objects found", strings.Join(names, ", "))
}

// sources lists what the paths name; those that can be read come besides the error.
func (in inputs) sources() ([]source, error) {
	in.patience = cmp.Or(in.patience, patienceWithURLs)
	var all []source
	var errs []error
	stdin := false
	for _, target := range in.kustomize {
		all = append(all, source{"kustomize " + target, func(ctx context.Context) (io.ReadCloser, error) { return kustomize(ctx, target) }})
	}
	for _, path := range in.paths {
		switch {
		case path == "-" && stdin:
			errs = append(errs, errors.New(`"-" stands there twice: standard input can be read once`))
		case path == "-":
			stdin = true
			all = append(all, source{"stdin", func(context.Context) (io.ReadCloser, error) { return io.NopCloser(in.stdin), nil }})
		case strings.HasPrefix(path, "http://"), strings.HasPrefix(path, "https://"):
			all = append(all, source{path, func(ctx context.Context) (io.ReadCloser, error) { return get(ctx, path, in.patience) }})
		default:
			files, err := in.expand(path)
			if err != nil {
				errs = append(errs, err)
			}
			for _, file := range files {
				all = append(all, source{file, func(context.Context) (io.ReadCloser, error) { return os.Open(file) }})
			}
		}
	}
	return all, errors.Join(errs...)
}

// expand returns the files that a path means.
func (in inputs) expand(path string) ([]string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if matches, _ := filepath.Glob(path); len(matches) > 0 {
			return matches, nil
		}
		return nil, fmt.Errorf("the path %q does not exist", path)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	return in.directory(path)
}

// directory returns the manifests in a directory.
func (in inputs) directory(path string) ([]string, error) {
	var files []string
	deeper := false
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != path && !in.recursive:
			deeper = true
			return fs.SkipDir
		case d.IsDir():
			return refuseProject(file)
		case !d.IsDir() && slices.Contains(manifestExtensions, filepath.Ext(file)):
			files = append(files, file)
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("the directory %q has no .yaml, .yml or .json file", path)
		if deeper {
			err = fmt.Errorf("%w; -R looks into the directories below, too", err)
		}
	}
	return files, err
}

// get opens a URL, which has to be read within its time.
func get(ctx context.Context, url string, patience time.Duration) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the server has not answered with all of it within %s", patience))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		defer cancel()
		if at := (*neturl.Error)(nil); errors.As(err, &at) {
			err = at.Err // it names where it was redirected to, at most
		}
		return nil, fmt.Errorf("%s: %w", url, cmp.Or(context.Cause(ctx), err))
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		cancel()
		return nil, fmt.Errorf("%s: the server answers %q", url, resp.Status)
	}
	return body{resp.Body, ctx, cancel}, nil
}

// body is an answer whose request ends when it is closed.
type body struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelFunc
}

func (b body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = cmp.Or(context.Cause(b.ctx), err)
	}
	return n, err
}

func (b body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// refuseProject says what to do with a directory that another program makes manifests
// of.
func refuseProject(dir string) error {
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		if exists(filepath.Join(dir, name)) {
			return fmt.Errorf("the directory %q is kustomize's: give it by -k %s", dir, dir)
		}
	}
	if exists(filepath.Join(dir, "Chart.yaml")) {
		return fmt.Errorf("the directory %q is a Helm chart: helm template %s | sampan run -", dir, dir)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
