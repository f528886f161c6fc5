package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sampan-batch/sampan/internal/change"
)

// childEnv makes the test binary play a program that dies: "<role> <path>".
const childEnv = "STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	role, path, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		os.Exit(m.Run())
	}
	var err error
	switch role {
	case "write":
		err = writeForEver(path)
	case "fill":
		err = fillDisk(path)
	case "empty":
		err = emptyLimited(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+role+" "+path)
	return cmd
}

const crashWriters = 8

// crashKeys are what one writer writes in each set: two objects that always
// hold the same count, one that is there when the count is odd, and a lazy one.
func crashKeys(w int) (a, b, odd, lazy change.Key) {
	name := fmt.Sprint("w", w)
	return key("pods", name), key("jobs.batch", name), key("odds", name), key("events", name)
}

// state returns the count that k holds (0: absent), and its revision.
func state(v *View, k change.Key) (n int, rev uint64) {
	if obj, ok := v.Get(k); ok {
		fmt.Sscan(valueOf(obj), &n)
		fmt.Sscan(obj.GetResourceVersion(), &rev)
	}
	return n, rev
}

// writeForEver counts on from what the store holds, and prints a line for each
// set that was acknowledged: D for durable or L for lazy, writer, count,
// revision.
func writeForEver(path string) error {
	s, err := Open(Options{Path: path, Codec: jsonCodec{}, Index: indexData, Erase: erases("pods", "odds")})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for w := range crashWriters {
		wg.Go(func() {
			for {
				if err = countOn(s, w); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return err
}

func countOn(s *Store, w int) error {
	v := s.View()
	a, b, odd, lazy := crashKeys(w)
	n, arev := state(v, a)
	_, brev := state(v, b)
	_, oddrev := state(v, odd)
	n++
	var set change.Set
	put := func(k change.Key, rev uint64) {
		obj := object(k, fmt.Sprint(n), "owner")
		obj.Data["padding"] = strings.Repeat("x", rand.IntN(6000))
		if rev == 0 {
			set.Create(k, obj)
		} else {
			set.Update(k, rev, obj)
		}
	}
	put(a, arev)
	if n%2 == 1 {
		put(odd, oddrev)
	} else {
		set.Delete(odd, oddrev)
	}
	put(b, brev)
	res, err := s.Apply(context.Background(), set)
	if err != nil {
		return err
	}
	fmt.Printf("D %d %d %d\n", w, n, res.Rev)

	_, lazyrev := state(s.View(), lazy)
	set = change.Set{Lazy: true}
	put(lazy, lazyrev)
	if res, err = s.Apply(context.Background(), set); err != nil {
		return err
	}
	fmt.Printf("L %d %d %d\n", w, n, res.Rev)
	return nil
}

// A process is killed at random instants while it writes. What it had
// acknowledged is there, sets are whole, and no revision is given twice.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "store.db")
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	var newest uint64
	for i := 0; i < rounds || newest == 0 && i < 20*rounds; i++ { // on a slow machine, until something was written
		cmd := child(t, "write", path)
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(r.IntN(120)) * time.Millisecond)
		cmd.Process.Kill()
		if err := cmd.Wait(); cmd.ProcessState.Exited() {
			t.Fatalf("child ended by itself: %v %s", err, &stderr)
		}
		newest = checkCrash(t, path, out.String(), newest)
	}
	if newest == 0 {
		t.Error("nothing was ever written")
	}
}

// checkCrash compares the file with what the child said, and returns the
// newest revision that anybody can have seen.
func checkCrash(t *testing.T, path, said string, newest uint64) uint64 {
	t.Helper()
	acked := map[string][crashWriters]int{}
	lines := bufio.NewScanner(strings.NewReader(said))
	for lines.Scan() {
		var kind string
		var w, n int
		var rev uint64
		if _, err := fmt.Sscan(lines.Text(), &kind, &w, &n, &rev); err != nil {
			continue // cut short by the kill
		}
		counts := acked[kind]
		counts[w] = n
		acked[kind] = counts
		newest = max(newest, rev)
	}
	s := mustOpen(t, Options{Path: path})
	defer s.Close()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	v := s.View()
	if v.Rev() < newest {
		t.Errorf("opened at revision %d, but %d was acknowledged", v.Rev(), newest)
	}
	for w := range crashWriters {
		a, b, odd, lazy := crashKeys(w)
		n, _ := state(v, a)
		other, _ := state(v, b)
		oddN, _ := state(v, odd)
		lazyN, _ := state(v, lazy)
		durable, before := acked["D"][w], acked["L"][w]
		switch {
		case durable != 0 && n != durable && n != durable+1:
			t.Errorf("writer %d: %d was acknowledged, the file holds %d", w, durable, n)
		case n != other || n%2 == 1 && oddN != n || n%2 == 0 && oddN != 0:
			t.Errorf("writer %d: half a set: %d %d %d", w, n, other, oddN)
		case lazyN > n || n > before && lazyN < before:
			t.Errorf("writer %d: durable set %d is there without lazy set %d before it: %d", w, n, before, lazyN)
		}
	}
	return max(newest, v.Rev())
}

// fillDisk writes until the process may write no more, goes on when it may
// again, and prints what was acknowledged.
func fillDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	s, err := Open(Options{Path: path, Codec: jsonCodec{}, Index: indexData, Strict: true})
	if err != nil {
		return err
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	limit := before
	limit.Cur = 1 << 20
	apply := func(i int) error {
		k := key("pods", fmt.Sprint(i))
		obj := object(k, fmt.Sprint(i))
		obj.Data["padding"] = strings.Repeat("x", 50000)
		_, err := s.Apply(context.Background(), change.Set{Writes: []change.Write{{Op: change.Create, Key: k, Object: obj}}})
		if err == nil {
			fmt.Println(i)
		}
		return err
	}
	i, acked := 0, 0
	for range 3 {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		// A refusal may be followed by a success, while there are free pages.
		for refused := 0; refused < 3; i++ {
			if err := apply(i); err == nil {
				acked++
			} else {
				refused++
				fmt.Fprintln(os.Stderr, err)
			}
			if i > 2000 || s.View().Len("pods") != acked {
				return fmt.Errorf("after %d sets, %d acknowledged, there are %d objects", i, acked, s.View().Len("pods"))
			}
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			return err
		}
		if err := apply(i); err != nil {
			return fmt.Errorf("with space again: %w", err)
		}
		i, acked, limit.Cur = i+1, acked+1, limit.Cur+1<<20
	}
	return s.Close()
}

// The real thing, beside the injected failures of TestFullDisk: a limit that
// the kernel enforces.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	cmd := child(t, "fill", path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	if got := strings.Count(stderr.String(), "too large"); got != 9 {
		t.Errorf("want nine failures that say why, got:\n%s", &stderr)
	}
	s := mustOpen(t, Options{Path: path})
	acked := strings.Fields(string(out))
	for _, name := range acked {
		if !has(s, key("pods", name)) {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	if got := s.View().Len("pods"); got != len(acked) {
		t.Errorf("%d objects, %d acknowledged", got, len(acked))
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
