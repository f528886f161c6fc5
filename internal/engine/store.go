package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/address"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/quota"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/server/custom"
	"github.com/sampan-batch/sampan/internal/store"
)

const storeName = "store.db"

// StoreError says that the store of a data directory is not there, or is not what was
// written. Nothing was changed. Its text tells the ways on.
type StoreError struct {
	Dir string
	Err error
	// Running is how many supervisors hold containers for the directory.
	Running int
}

func (e *StoreError) Unwrap() error { return e.Err }

func (e *StoreError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\nNothing was changed. The ways on:\n", e.Err)
	way := func(what, command string, args ...any) {
		fmt.Fprintf(&b, "  %-36s %s\n", what+":", fmt.Sprintf(command, args...))
	}
	stop := ""
	if e.Running > 0 {
		stop = fmt.Sprintf("sampan stop --data-dir %s && ", e.Dir)
	}
	way("put back a backup", "%ssampan restore BACKUP --data-dir %s --replace", stop, e.Dir)
	if !errors.Is(e.Err, fs.ErrNotExist) {
		way("go on with what can be read of it", "sampan check %s --salvage BACKUP, then restore BACKUP as above", e.Dir)
	}
	way("begin without any objects", "%ssampan restore --empty --data-dir %s --replace", stop, e.Dir)
	if e.Running > 0 {
		b.WriteString("Containers of this directory are running. They go on, and their logs are kept, until `sampan stop`, or until an\n" +
			"engine starts here that does not know their pods.")
	} else {
		b.WriteString("No container of this directory is running.")
	}
	return b.String()
}

// storeError makes a StoreError of an error that the store's file is the cause of.
func storeError(dir string, err error) error {
	var damaged *store.DamagedError
	if errors.As(err, &damaged) || errors.Is(err, errNoStore) {
		return &StoreError{Dir: dir, Err: err, Running: len(supervised(dir))}
	}
	return err
}

// errNoStore: an engine has worked on the directory, and its store is gone. To
// begin without a word would end the pods that run, and run Jobs again.
var errNoStore = fmt.Errorf("%s is missing: %w", storeName, fs.ErrNotExist)

// openStore opens the store of a data directory; the lock is held.
func (c *Config) openStore(kinds *kind.Kinds) (*store.Store, error) {
	path := filepath.Join(c.DataDir, storeName)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if sign := usedBefore(c.DataDir); sign != "" {
			return nil, storeError(c.DataDir, fmt.Errorf("%s was used by an engine before (there is %s), but %w", c.DataDir, sign, errNoStore))
		}
	}
	s, err := store.Open(store.Options{
		Path: path, Codec: kind.NewCodec(kinds), Index: kinds.Index,
		Account: store.InTurn(kind.NamespaceLifecycle, address.Account, quota.Account), Erase: kinds.Erase, Reserve: c.storeReserve(), Most: c.storeQuota(), Volatile: c.Volatile,
	})
	if err != nil {
		return nil, storeError(c.DataDir, err)
	}
	for _, warning := range s.Warnings() {
		c.Logger.Warn("the store was damaged", "path", path, "found", warning)
	}
	for _, note := range s.Notes() {
		c.Logger.Warn("the store is not as it was left", "path", path, "found", note)
	}
	if err := custom.Define(kinds, s); err != nil {
		c.Logger.Warn("some custom objects cannot be read", "err", err)
	}
	if unknown := s.Unknown(); len(unknown) > 0 {
		c.Logger.Warn("a newer version has stored objects that this one does not know; they are kept, and served by nobody", "found", counts(unknown))
	}
	return s, nil
}

// usedBefore returns what shows that an engine has worked on a directory, "" if
// nothing does. The certificates are made after the store.
func usedBefore(dir string) string {
	for _, name := range []string{"pki/ca.crt", "pki/ca.key"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return name
		}
	}
	for _, class := range classes {
		if _, err := os.Lstat(filepath.Join(dir, "run", string(class), "lock")); err == nil {
			return filepath.Join("run", string(class))
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "logs")); err == nil && len(entries) > 0 {
		return filepath.Join("logs", entries[0].Name())
	}
	return ""
}

var classes = []runner.Class{runner.Sandbox, runner.Host}

// supervised returns the classes of the supervisors that are running for dir, of all nodes.
func supervised(dir string) (running []runner.Class) {
	all, _ := homes(dir) // what cannot be read, nobody works in
	for _, home := range all {
		running = append(running, supervisedIn(home)...)
	}
	return running
}

// supervisedIn returns the classes whose supervisors are running for the node that is in dir.
// It asks the kernel, and starts none.
func supervisedIn(dir string) (running []runner.Class) {
	for _, class := range classes {
		f, err := os.Open(filepath.Join(dir, "run", string(class), "lock"))
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
			running = append(running, class)
		}
		f.Close()
	}
	return running
}

// counts is how many of each kind there are, for people.
func counts(n map[string]int) string {
	var parts []string
	for name, count := range n {
		parts = append(parts, fmt.Sprintf("%s %d", name, count))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
