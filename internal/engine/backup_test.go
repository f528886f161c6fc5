package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/backup"
	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/server"
	"github.com/sampan-batch/sampan/internal/store"
)

// storeAt opens the store of a data directory as an engine does.
func storeAt(t *testing.T, dir string, log *slog.Logger) (*store.Store, error) {
	t.Helper()
	config := Config{DataDir: dir, Listen: "127.0.0.1:0", Logger: log}
	if err := config.complete(); err != nil {
		t.Fatal(err)
	}
	return config.openStore(kind.Builtin())
}

// quiet sends the library's log nowhere, once for the process.
var quiet = sync.OnceFunc(func() { RouteLibraryLogs(slog.New(slog.DiscardHandler)) })

// usedDir is a data directory with objects and certificates.
func usedDir(t *testing.T, objects int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := storeAt(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range objects {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("cm-", i)}, Data: map[string]string{"a": fmt.Sprint(i)}}
		var set change.Set
		if i == 0 {
			set.Create(kind.Namespaces.Key("", "default"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		}
		set.Create(change.Key{Resource: "configmaps", Namespace: "default", Name: cm.Name}, cm)
		if _, err := s.Apply(t.Context(), set); err != nil {
			t.Fatal(err)
		}
	}
	quiet()
	_, err = server.New(server.Options{Store: s, Kinds: kind.Builtin(), Listen: "127.0.0.1:0", CertDir: filepath.Join(dir, "pki")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func backedUp(t *testing.T, dir string, o BackupOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := BackupDir(t.Context(), dir, &out, o); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A directory in which a store was lost is refused, for each of the signs that
// an engine was there; a new one is not.
func TestMissingStore(t *testing.T) {
	t.Parallel()
	for _, sign := range []string{"", "pki/ca.crt", "pki/ca.key", "run/host/lock", "run/sandbox/lock", "logs/default_a_1/c/0.log", "images/names.json", "lock"} {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if sign != "" {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, sign)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, sign), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := storeAt(t, dir, nil)
		if err == nil {
			s.Close()
		}
		var refused *StoreError
		fresh := sign == "" || sign == "lock" || strings.HasPrefix(sign, "images")
		if fresh != (err == nil) || !fresh && (!errors.As(err, &refused) || !errors.Is(err, fs.ErrNotExist)) {
			t.Errorf("with %q: %v", sign, err)
		}
		if _, err := os.Stat(filepath.Join(dir, storeName)); fresh != (err == nil) {
			t.Errorf("with %q: store.db: %v", sign, err)
		}
	}
}

// Warnings and strange objects of a store are logged, each in one line.
func TestStoreWarnings(t *testing.T) {
	t.Parallel()
	dir := usedDir(t, 3)
	path := filepath.Join(dir, storeName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[:os.Getpagesize()])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := storeAt(t, dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n := s.View().Len("configmaps"); n != 3 {
		t.Errorf("%d objects", n)
	}
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "the store was damaged") || !strings.Contains(log.String(), path) {
		t.Errorf("log: %s", log.String())
	}
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	dir := usedDir(t, 100)
	logFile := filepath.Join(dir, "logs", "default_a_1", "c", "0.log")
	if err := os.MkdirAll(filepath.Dir(logFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(logFile, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := backedUp(t, dir, BackupOptions{Version: "1.2.3", BackupOptions: server.BackupOptions{Logs: true}})
	before := time.Now()
	target := filepath.Join(t.TempDir(), "new")
	done, err := Restore(t.Context(), target, bytes.NewReader(data), RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if done.Sampan != "1.2.3" || done.Objects["configmaps"] != 100 || done.Revision < uint64(before.UnixMicro()) || done.OtherNode != "" || done.Aside != "" {
		t.Errorf("%+v", done)
	}
	s, err := storeAt(t, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	obj, ok := s.View().Get(change.Key{Resource: "configmaps", Namespace: "default", Name: "cm-7"})
	if !ok || obj.(*corev1.ConfigMap).Data["a"] != "7" || obj.GetResourceVersion() != "9" || s.View().Len("configmaps") != 100 || s.View().Rev() != done.Revision {
		t.Errorf("%v at revision %d", obj, s.View().Rev())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{"ca.key"}, pkiFiles...) {
		a, _ := os.ReadFile(filepath.Join(dir, "pki", name))
		b, err := os.ReadFile(filepath.Join(target, "pki", name))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if log, err := os.ReadFile(filepath.Join(target, "logs", "default_a_1", "c", "0.log")); string(log) != "hello\n" {
		t.Errorf("log %q %v", log, err)
	}
	if report, err := CheckDir(dir, false); err != nil || report.LastBackup == nil {
		t.Errorf("last backup: %v", err)
	}
	// Once more over it: what was there is kept.
	if _, err := Restore(t.Context(), target, bytes.NewReader(data), RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("over what is there: %v", err)
	}
	again, err := Restore(t.Context(), target, bytes.NewReader(data), RestoreOptions{Replace: true})
	if err != nil || again.Revision <= done.Revision {
		t.Fatalf("%+v %v", again, err)
	}
	if _, err := os.Stat(filepath.Join(again.Aside, storeName)); err != nil {
		t.Error(err)
	}
}

// Nothing changes before all of a backup was found to be right.
func TestRestoreOfBrokenBackups(t *testing.T) {
	t.Parallel()
	dir := usedDir(t, 20)
	data := backedUp(t, dir, BackupOptions{})
	snapshot := func() string {
		var all []string
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && filepath.Base(path) != "lock" {
				var text []byte
				text, err = os.ReadFile(path)
				all = append(all, path+fmt.Sprint(len(text), bytes.Count(text, []byte{0})))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, "\n")
	}
	before := snapshot()
	other := bytes.Replace(data, []byte("cm-7"), []byte("cm-8"), 1)
	for name, broken := range map[string][]byte{"none": nil, "cut": data[:len(data)/2], "without sums": data[:len(data)-3000], "other": other} {
		_, err := Restore(t.Context(), dir, bytes.NewReader(broken), RestoreOptions{Replace: true})
		var bad *backup.InvalidError
		if !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
		if after := snapshot(); after != before {
			t.Fatalf("%s: changed:\n%s\n%s", name, before, after)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Restore(ctx, dir, bytes.NewReader(data), RestoreOptions{Replace: true}); !errors.Is(err, context.Canceled) || snapshot() != before {
		t.Errorf("given up: %v", err)
	}
}

func TestRestoredRevision(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	if got := restoredRevision(5, now); got != uint64(now.UnixMicro()) {
		t.Error(got)
	}
	// The clock is wrong, or the backup is of a restored store.
	if got := restoredRevision(uint64(now.UnixMicro()), time.Unix(0, 0)); got != uint64(now.UnixMicro())+revisionStep {
		t.Error(got)
	}
}

func TestCheckDir(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		do                   func(t *testing.T, dir string)
		problem, note, other string
	}{
		"nothing": {do: func(*testing.T, string) {}},
		"modes":   {do: func(t *testing.T, dir string) { os.Chmod(filepath.Join(dir, "pki/ca.key"), 0o644) }, problem: "ca.key has mode 0644"},
		"store": {do: func(t *testing.T, dir string) {
			os.Truncate(filepath.Join(dir, storeName), 9000)
		}, problem: "store.db is damaged: is cut short"},
		"no store":           {do: func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, storeName)) }, problem: "store.db is missing"},
		"no authority":       {do: func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "pki/ca.key")) }, problem: "no kubeconfig that is in use will work"},
		"a key that is none": {do: func(t *testing.T, dir string) { write(t, filepath.Join(dir, "pki/admin.key"), "x") }, problem: "admin.crt: it cannot be read"},
		"no key of tokens":   {do: func(t *testing.T, dir string) { write(t, filepath.Join(dir, "pki/sa.key"), "x") }, problem: "sa.key: it is no PEM: the tokens"},
		"a missing layer": {do: func(t *testing.T, dir string) {
			hex := strings.Repeat("a", 64)
			write(t, filepath.Join(dir, "images/names.json"), `{"busybox":{"digest":"sha256:`+hex+`"}}`)
			write(t, filepath.Join(dir, "images/images", hex), `{"digest":"sha256:`+hex+`","layers":["sha256:`+hex+`"]}`)
		}, problem: "image busybox: the layer is missing"},
		"names":   {do: func(t *testing.T, dir string) { write(t, filepath.Join(dir, "images/names.json"), "x") }, problem: "names.json"},
		"strays":  {do: func(t *testing.T, dir string) { write(t, filepath.Join(dir, "letter"), "x") }, note: "letter is nothing that Sampan has put there"},
		"restore": {do: func(t *testing.T, dir string) { write(t, filepath.Join(dir, ".restore-1/x"), "x") }, note: "left of a restore that was cut short"},
		"killed": {do: func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "lock"), `{"pid":4711,"command":"sampan serve","since":"2026-05-01T00:00:00Z"}`)
		}, note: "process 4711 (sampan serve), did not end in order"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := usedDir(t, 3)
			tc.do(t, dir)
			before, _ := os.ReadDir(dir)
			r, err := CheckDir(dir, true)
			if err != nil {
				t.Fatal(err)
			}
			found := func(all []string, want string) bool {
				if want == "" {
					return len(all) == 0
				}
				return slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, want) })
			}
			if !found(r.Problems, tc.problem) || !found(r.Notes, tc.note) || len(r.Unseen) > 0 {
				t.Errorf("problems %q, notes %q, unseen %q", r.Problems, r.Notes, r.Unseen)
			}
			if after, _ := os.ReadDir(dir); len(after) != len(before) {
				t.Error("something was made")
			}
		})
	}
	if _, err := CheckDir(t.TempDir(), false); err == nil || !strings.Contains(err.Error(), "is not a data directory") {
		t.Errorf("an empty one: %v", err)
	}
}

// A directory that somebody holds is checked, but not restored to.
func TestHeldDirectory(t *testing.T) {
	t.Parallel()
	dir := usedDir(t, 3)
	data := backedUp(t, dir, BackupOptions{})
	lock, err := lockDir(dir, "sampan serve")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.release()
	s, err := storeAt(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var held *InUseError
	if _, err := Restore(t.Context(), dir, bytes.NewReader(data), RestoreOptions{Replace: true}); !errors.As(err, &held) {
		t.Errorf("restore: %v", err)
	}
	r, err := CheckDir(dir, false)
	if err != nil || r.Engine == nil || r.Engine.PID != os.Getpid() || r.Store == nil || r.Store.Objects["configmaps"] != 3 {
		t.Errorf("check: %+v %v", r, err)
	}
	if err := BackupDir(t.Context(), dir, &bytes.Buffer{}, BackupOptions{}); err == nil || !strings.Contains(err.Error(), "does not say where its API is") {
		t.Errorf("backup: %v", err)
	}
}
