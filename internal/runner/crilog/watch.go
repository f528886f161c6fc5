package crilog

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells when a file changes. It belongs to one goroutine.
//
// At first it only looks, again and again: most containers of a batch end sooner than the
// kernel has made and unmade a watch, which takes it longer than to start the container.
type watcher struct {
	young   time.Duration // how long it waits before it looks again; 0: it has grown up
	changed chan struct{} // by the kernel's word
	// tick comes now and then whatever the kernel says: it may have no watch to
	// give, and some file systems say nothing.
	tick *time.Ticker

	events *os.File // nil: the machine gives out no more inotify instances
	// watched is the file. It is known by its descriptor's owner, not by its inode
	// number: when a file has gone, the next one may get its number, but not its
	// watch.
	watched *os.File
	wd      int // of the kernel's watch; negative: there is none
}

const (
	// pollInterval is how often a file without a watch of the kernel is looked at,
	// netInterval how often one that has a watch.
	pollInterval = 200 * time.Millisecond
	netInterval  = time.Second
	// youngest is the first pause of a young watcher, oldest the last; each is twice as long
	// as the one before.
	youngest = 5 * time.Millisecond
	oldest   = 80 * time.Millisecond
)

func newWatcher() *watcher {
	return &watcher{young: youngest, changed: make(chan struct{}, 1), tick: time.NewTicker(youngest), wd: -1}
}

// grow asks the kernel for a source of watches.
func (w *watcher) grow() {
	w.young = 0
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return
	}
	w.events = os.NewFile(uintptr(fd), "inotify")
	go w.read(w.events)
}

func (w *watcher) read(events *os.File) {
	buf := make([]byte, 4096)
	for {
		if _, err := events.Read(buf); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// file has the watcher watch an open file, whatever its name is by now.
func (w *watcher) file(f *os.File) {
	switch {
	case w.young > oldest:
		w.grow()
	case w.young > 0:
		w.watched = f
		w.tick.Reset(w.young)
		w.young *= 2
		return
	case w.watches(f):
		return
	}
	w.watched = f
	interval := pollInterval
	if w.watch(f) {
		interval = netInterval
	}
	w.tick.Reset(interval)
}

// watch moves the kernel's watch to f, and tells whether it is there.
func (w *watcher) watch(f *os.File) bool {
	if w.events == nil {
		return false
	}
	raw, err := w.events.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		if w.wd >= 0 { // it may have gone with its file
			_, _ = unix.InotifyRmWatch(int(fd), uint32(w.wd))
		}
		wd, err := unix.InotifyAddWatch(int(fd), fdPath(f), unix.IN_MODIFY|unix.IN_MOVE_SELF|unix.IN_DELETE_SELF)
		if err != nil {
			wd = -1
		}
		w.wd = wd
	})
	return w.wd >= 0
}

// watches tells whether it is this file that is watched.
func (w *watcher) watches(f *os.File) bool { return w.watched == f }

func (w *watcher) close() {
	w.tick.Stop()
	if w.events != nil {
		w.events.Close()
	}
}
