package network

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// thread is a thread of the operating system that stays in the node's namespace: an
// ordinary user's process may leave the machine's for its own, but not come back. Whatever
// is opened by it belongs to the namespace, whoever uses it then.
//
// It starts no process.
type thread struct{ requests chan func() }

func newThread() *thread {
	t := &thread{requests: make(chan func())}
	ready := make(chan struct{})
	go t.run(ready)
	<-ready
	return t
}

// run is the thread. The first one of the process is spared: what /proc/self shows is its
// namespace.
func (t *thread) run(ready chan struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		go t.run(ready)
		<-ready // until the other runs, this thread is not free for it
		runtime.UnlockOSThread()
		return
	}
	close(ready)
	for f := range t.requests {
		f()
	}
	// The thread must not end: it may have started processes before it was this one, and those
	// that die with their parent die with the thread. It keeps nobody's namespace.
	_ = unix.Unshare(unix.CLONE_NEWNET)
	select {}
}

// do calls f in the thread.
func (t *thread) do(f func()) {
	done := make(chan struct{})
	t.requests <- func() {
		defer close(done)
		f()
	}
	<-done
}

func (t *thread) end() { close(t.requests) }

// openNamespace opens the network namespace that the calling thread is in.
func openNamespace() (int, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("open the namespace", err)
}

// enter moves the calling thread into a namespace.
func enter(ns int) error {
	return os.NewSyscallError("setns", unix.Setns(ns, unix.CLONE_NEWNET))
}

// sysctl sets what the calling thread's namespace has below net.
func sysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set net/%s: %w", name, err)
	}
	return nil
}
