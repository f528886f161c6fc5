package crilog

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells when a file changes. It belongs to one goroutine.
type watcher struct {
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
)

func newWatcher() *watcher {
	w := &watcher{changed: make(chan struct{}, 1), tick: time.NewTicker(pollInterval), wd: -1}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w
	}
	w.events = os.NewFile(uintptr(fd), "inotify")
	go w.read(w.events)
	return w
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
	if w.watches(f) {
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
