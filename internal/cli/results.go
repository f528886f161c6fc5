package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/kind"
)

// results is the directory of --results, with a file for the output of each life of a
// container, byte by byte as it was written:
//
//	JOB/INDEX-TRY.log            of an Indexed Job
//	JOB/POD-TRY.log              of another Job, or of a Pod alone
//	JOB/INDEX-TRY_CONTAINER.log  where a pod has several
//
// A Job of another namespace than the run's is NAMESPACE_JOB. No file is written over: the
// tries of a later run have later numbers. It is safe for concurrent use.
type results struct {
	root *os.Root // nothing outside is written to, whatever the names and links
	// namespace is the run's.
	namespace string
	warn      func(error)

	mu     sync.Mutex
	failed error // the first
}

// openResults opens the directory, and makes it if it is not there. What cannot be
// written is told at once.
func openResults(dir, namespace string, warn func(error)) (*results, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	r := &results{root: root, namespace: namespace, warn: warn}
	if err := r.try(); err != nil {
		root.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return r, nil
}

// try finds out whether a file can be written.
func (r *results) try() error {
	name := fmt.Sprintf(".try-%d", os.Getpid())
	f, err := r.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString("a full disk refuses this\n")
	return errors.Join(err, f.Close(), r.root.Remove(name))
}

// create makes the file of a container that has started; nil if that cannot be.
func (r *results) create(pod *corev1.Pod, container string) *resultFile {
	dir := resultDir(r.namespace, pod)
	err := r.root.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	for try := 1; err == nil; try++ {
		var f *os.File
		f, err = r.root.OpenFile(filepath.Join(dir, resultName(pod, container, try)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			return &resultFile{results: r, file: f, out: bufio.NewWriterSize(f, 16<<10)}
		}
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	r.fail(err)
	return nil
}

// resultDir is the directory of all results of a Job, or of a Pod alone.
func resultDir(namespace string, pod *corev1.Pod) string {
	name := pod.Name
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		name = owner.Name
	}
	if pod.Namespace != namespace {
		name = pod.Namespace + "_" + name
	}
	return name
}

// resultName is the name of a result in there.
func resultName(pod *corev1.Pod, container string, try int) string {
	name := pod.Name
	if index, indexed := kind.CompletionIndex(pod); indexed {
		name = strconv.Itoa(index)
	}
	name += "-" + strconv.Itoa(try)
	if len(pod.Spec.InitContainers)+len(pod.Spec.Containers) > 1 {
		name += "_" + container
	}
	return name + ".log"
}

func (r *results) fail(err error) {
	r.mu.Lock()
	first := r.failed == nil
	if first {
		r.failed = err
	}
	r.mu.Unlock()
	if first {
		r.warn(err)
	}
}

// close returns why not all output is there.
func (r *results) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.root.Close(); r.failed == nil {
		return err
	}
	return r.failed
}

// resultFile is the file of one life of a container. A nil one takes nothing.
type resultFile struct {
	results *results
	file    *os.File
	out     *bufio.Writer // which remembers its first error
}

func (f *resultFile) write(p []byte) {
	if f != nil {
		_, _ = f.out.Write(p)
	}
}

// flush has everything in the file that was written.
func (f *resultFile) flush() {
	if f == nil {
		return
	}
	if err := f.out.Flush(); err != nil {
		f.results.fail(err)
	}
}

func (f *resultFile) close() {
	if f == nil {
		return
	}
	f.flush()
	if err := f.file.Close(); err != nil {
		f.results.fail(err)
	}
}
