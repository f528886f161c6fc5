package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/server"
	"github.com/sampan-batch/sampan/internal/store"
)

// Report tells what a data directory holds, and what is wrong with it.
type Report struct {
	Directory   string              `json:"directory"`
	Engine      *Holder             `json:"engine,omitempty"`
	Supervisors []string            `json:"supervisors"` // the runtime classes whose supervisor runs
	Store       *StoreReport        `json:"store,omitempty"`
	Keys        []server.CertStatus `json:"keys"`
	Images      *image.Checked      `json:"images,omitempty"`
	Logs        TreeReport          `json:"logs"`
	Replaced    TreeReport          `json:"replaced"` // what restores have put aside
	LastBackup  *time.Time          `json:"lastBackup,omitempty"`
	// Problems are what is wrong; Notes what may be of interest; Unseen what could
	// not be looked at, and why.
	Problems []string `json:"problems"`
	Notes    []string `json:"notes"`
	Unseen   []string `json:"notLookedAt"`
}

// StoreReport is what the store holds.
type StoreReport struct {
	Bytes    int64          `json:"bytes"`
	Revision uint64         `json:"revision"`
	Objects  map[string]int `json:"objects"`
	Unknown  map[string]int `json:"unknown,omitempty"`
	// Sealed: number and sum of the objects were there, and right.
	Sealed bool `json:"sealed"`
}

// TreeReport is what is in a part of the directory.
type TreeReport struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// lastBackupName is the file whose time is that of the last backup.
const lastBackupName = "last-backup"

// CheckDir looks at a data directory without changing anything in it. deep also
// reads all files of all images. An error says that dir is none.
func CheckDir(dir string, deep bool) (*Report, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := isDataDir(dir); err != nil {
		return nil, err
	}
	c := &dirCheck{Report: Report{
		Directory: dir, Supervisors: []string{}, Keys: []server.CertStatus{}, Problems: []string{}, Notes: []string{}, Unseen: []string{},
	}}
	c.holder()
	c.modes()
	c.store()
	c.keys()
	c.images(deep)
	c.trees()
	c.strays()
	return &c.Report, nil
}

func isDataDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, storeName)); err != nil && usedBefore(dir) == "" {
		return fmt.Errorf("%s is not a data directory: it has no %s", dir, storeName)
	}
	return nil
}

// dirCheck is a Report in the making.
type dirCheck struct{ Report }

func (c *dirCheck) problem(format string, args ...any) {
	c.Problems = append(c.Problems, fmt.Sprintf(format, args...))
}
func (c *dirCheck) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

// unseen tells what could not be looked at.
func (c *dirCheck) unseen(err error) { c.Unseen = append(c.Unseen, err.Error()) }

func (c *dirCheck) path(name string) string { return filepath.Join(c.Directory, name) }

// holder finds out who works on the directory.
func (c *dirCheck) holder() {
	holder, held, err := holderOf(c.Directory)
	switch {
	case err != nil:
		c.unseen(err)
	case held:
		c.Engine = &holder
	default:
		c.lastHolder()
	}
	for _, class := range supervised(c.Directory) {
		c.Supervisors = append(c.Supervisors, string(class))
	}
}

// lastHolder tells of an engine that ended without a word.
func (c *dirCheck) lastHolder() {
	f, err := os.Open(lockPath(c.Directory))
	if err != nil {
		return
	}
	defer f.Close()
	if h := readHolder(f); h.Command != "" {
		c.note("%s: the last engine, %s, did not end in order", f.Name(), h)
	}
}

// modes looks for what others could read or change.
func (c *dirCheck) modes() {
	names := []string{".", storeName, "kubeconfig", "lock", "pki", "images", "run", nodesDir}
	for _, name := range pkiFiles {
		names = append(names, filepath.Join("pki", name))
	}
	for _, name := range names {
		path := c.path(name)
		var st unix.Stat_t
		err := unix.Lstat(path, &st)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			c.unseen(&fs.PathError{Op: "stat", Path: path, Err: err})
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			c.note("%s is a link", path)
		case st.Mode&0o077 != 0:
			c.problem("%s has mode %04o: others can read or change it (`chmod go= %[1]s`)", path, st.Mode&0o7777)
		case st.Uid != uint32(os.Geteuid()):
			c.note("%s belongs to user %d", path, st.Uid)
		}
	}
}

func (c *dirCheck) store() {
	path := c.path(storeName)
	kinds := storedKinds()
	sum, err := store.Inspect(path, kinds, nil)
	if err == nil && len(sum.Unknown) > 0 { // a definition may stand behind what it defines
		sum, err = store.Inspect(path, kinds, nil)
	}
	var damaged *store.DamagedError
	var newer *store.FormatError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.problem("%s is missing: `sampan restore BACKUP`, or `sampan restore --empty` to begin anew", path)
	case errors.As(err, &damaged), errors.As(err, &newer):
		c.problem("%v", err)
	case err != nil:
		c.unseen(err)
	default:
		c.Store = &StoreReport{Bytes: sum.Bytes, Revision: sum.Revision, Objects: sum.Objects, Unknown: sum.Unknown, Sealed: sum.Sealed}
		for _, warning := range sum.Warnings {
			c.problem("%s: %s", path, warning)
		}
		for _, note := range sum.Notes {
			c.note("%s: %s", path, note)
		}
		if len(sum.Unknown) > 0 {
			c.note("%s: a newer version has stored objects that this one does not know: %s", path, counts(sum.Unknown))
		}
		if !sum.Sealed {
			c.note("%s was written by a version that keeps no sum of the objects: the next engine adds it", path)
		}
	}
}

func (c *dirCheck) keys() {
	entries, err := os.ReadDir(c.path("pki"))
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		c.note("%s: there are no certificates yet: the first start makes them", c.path("pki"))
		return
	case err != nil:
		c.unseen(err)
		return
	}
	c.Keys = server.CheckCerts(c.path("pki"), time.Now())
	for _, k := range c.Keys {
		if k.Problem != "" {
			c.problem("%s: %s", c.path("pki/"+k.Name+".crt"), k.Problem)
		}
		if k.Note != "" {
			c.note("%s: %s", c.path("pki/"+k.Name+".crt"), k.Note)
		}
	}
	if err := server.CheckTokenKey(c.path("pki")); err != nil {
		c.problem("%s: %v: the tokens of ServiceAccounts that are in use end with the next start, which makes a new key", c.path("pki/sa.key"), err)
	}
}

func (c *dirCheck) images(deep bool) {
	checked, err := image.Check(c.path("images"), deep)
	if err != nil {
		c.unseen(err)
		return
	}
	c.Images = checked
	c.Problems = append(c.Problems, checked.Problems...)
}

// trees measures what else takes room.
func (c *dirCheck) trees() {
	all, err := homes(c.Directory)
	if err != nil {
		c.unseen(err)
	}
	for _, home := range all {
		t := c.measure(filepath.Join(home, "logs"))
		c.Logs.Files, c.Logs.Bytes = c.Logs.Files+t.Files, c.Logs.Bytes+t.Bytes
	}
	replaced, _ := filepath.Glob(c.path("replaced-*"))
	for _, path := range replaced {
		t := c.measure(path)
		c.Replaced.Files, c.Replaced.Bytes = c.Replaced.Files+t.Files, c.Replaced.Bytes+t.Bytes
		c.note("%s was put aside by a restore: remove it when it is not needed any more", path)
	}
	if info, err := os.Stat(c.path(lastBackupName)); err == nil {
		at := info.ModTime()
		c.LastBackup = &at
	}
}

func (c *dirCheck) measure(root string) (t TreeReport) {
	_ = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has gone meanwhile
		case err != nil:
			c.unseen(err)
		case !d.IsDir():
			if info, err := d.Info(); err == nil {
				t.Files, t.Bytes = t.Files+1, t.Bytes+info.Size()
			}
		}
		return nil
	})
	return t
}

// ours are the names that an engine, its node and its supervisors give to what
// is in a data directory.
var ours = []string{storeName, "lock", "kubeconfig", "pki", "run", nodesDir, "logs", "images", "pods", "etc", "termination", lastBackupName, RunRecord, RunVolumes, scratchMark}

// What `sampan run --keep` has in the directory besides: what it was to do, and the volumes
// that are claims.
const (
	RunRecord  = "run.json"
	RunVolumes = "volumes"
)

// strays looks for what work that was cut short has left, and for what is not ours.
func (c *dirCheck) strays() {
	entries, err := os.ReadDir(c.Directory)
	if err != nil {
		c.unseen(err)
		return
	}
	for _, e := range entries {
		name, path := e.Name(), c.path(e.Name())
		switch {
		case slices.Contains(ours, name), strings.HasPrefix(name, "replaced-"):
		case strings.HasPrefix(name, stagingPrefix):
			if c.Engine == nil || c.Engine.Command != "sampan restore" {
				c.note("%s is left of a restore that was cut short: the next one removes it", path)
			}
		case strings.HasPrefix(name, ".new-"), name == storeName+".new":
			c.note("%s is left of a write that was cut short, and can be removed", path)
		default:
			c.note("%s is nothing that Sampan has put there", path)
		}
	}
}
