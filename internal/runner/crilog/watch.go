package crilog

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells when a file changes. Where the machine gives out no more
// inotify instances (128 a user by default), it says so now and then.
type watcher struct {
	changed chan struct{}

	events  *os.File // nil: it polls
	ticker  *time.Ticker
	stop    chan struct{}
	watched os.FileInfo
	wd      int
}

const pollInterval = 200 * time.Millisecond

func newWatcher() *watcher {
	w := &watcher{changed: make(chan struct{}, 1), stop: make(chan struct{}), wd: -1}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		w.ticker = time.NewTicker(pollInterval)
		go w.poll()
		return w
	}
	w.events = os.NewFile(uintptr(fd), "inotify")
	go w.read()
	return w
}

func (w *watcher) poll() {
	for {
		select {
		case <-w.stop:
			return
		case <-w.ticker.C:
			w.signal()
		}
	}
}

func (w *watcher) read() {
	buf := make([]byte, 4096)
	for {
		if _, err := w.events.Read(buf); err != nil {
			return
		}
		w.signal()
	}
}

func (w *watcher) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// file has the watcher watch an open file, whatever its name is by now.
func (w *watcher) file(f *os.File) {
	if w.watches(f) {
		return
	}
	info, err := f.Stat()
	if err != nil {
		return
	}
	w.watched = info
	if w.events == nil {
		return
	}
	raw, err := w.events.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if w.wd >= 0 {
			_, _ = unix.InotifyRmWatch(int(fd), uint32(w.wd))
		}
		w.wd, err = unix.InotifyAddWatch(int(fd), fdPath(f), unix.IN_MODIFY|unix.IN_MOVE_SELF|unix.IN_DELETE_SELF)
	})
}

// watches tells whether it is this file that is watched.
func (w *watcher) watches(f *os.File) bool {
	if w.watched == nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && os.SameFile(info, w.watched)
}

func (w *watcher) close() {
	if w.events != nil {
		w.events.Close()
		return
	}
	w.ticker.Stop()
	close(w.stop)
}
