package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Cap keeps every file in Dir from growing above Size bytes: what is more is cut
// off as soon as the kernel tells of it. It is for the few small files that
// containers write to and that are not on a file system of their own.
type Cap struct {
	Dir  string
	Size int64
}

// spare is what a file may have on the disk beyond its cap: blocks behind its end
// (fallocate) count, those that the file system holds back for itself do not.
const spare = 64 << 10

// pause is how long Keep lets changes gather: a process that writes all the time
// does not keep this one busy.
const pause = 10 * time.Millisecond

// lookAgain is how often the files are looked at where the kernel has no watch to give:
// it has a number of them for all processes of a user, and containers may be that user.
const lookAgain = time.Second

// Keep keeps caps until ctx ends. cut is told of every file that was cut.
func (m *Machine) Keep(ctx context.Context, caps []Cap, cut func(path string)) error {
	return keep(ctx, caps, cut, watch)
}

type watchFunc func(caps []Cap) (events *os.File, watched map[int32]Cap, err error)

func keep(ctx context.Context, caps []Cap, cut func(path string), watch watchFunc) error {
	events, watched, err := watch(caps)
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOSPC) {
		return keepLooking(ctx, caps, cut)
	}
	if err != nil {
		return err
	}
	defer events.Close()
	for _, c := range caps {
		c.cutAll(cut) // what was written while nobody watched
	}
	defer context.AfterFunc(ctx, func() { events.SetReadDeadline(time.Now()) })()
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, err := events.Read(buffer)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return fmt.Errorf("inotify: %w", err)
		}
		for _, name := range names(buffer[:n]) {
			if name.gone {
				return fmt.Errorf("watch %s: it has been removed", watched[name.wd].Dir)
			}
			if name.overflow {
				for _, c := range caps {
					c.cutAll(cut)
				}
				continue
			}
			c := watched[name.wd]
			c.cutOne(name.name, cut)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// watch asks the kernel to tell of changes below caps.
func watch(caps []Cap) (events *os.File, watched map[int32]Cap, err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("inotify: %w", err)
	}
	watched = make(map[int32]Cap, len(caps))
	for _, c := range caps {
		wd, err := unix.InotifyAddWatch(fd, c.Dir, unix.IN_MODIFY|unix.IN_ONLYDIR)
		if err != nil {
			_ = unix.Close(fd)
			return nil, nil, fmt.Errorf("watch %s: %w", c.Dir, err)
		}
		watched[int32(wd)] = c
	}
	return os.NewFile(uintptr(fd), "inotify"), watched, nil
}

// keepLooking keeps caps without being told of changes.
func keepLooking(ctx context.Context, caps []Cap, cut func(path string)) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		for _, c := range caps {
			c.cutAll(cut)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

type change struct {
	wd       int32
	name     string
	overflow bool
	gone     bool // the directory, and its watch with it
}

// names returns what events in a buffer are about, each file once.
func names(buffer []byte) []change {
	var list []change
	seen := map[change]bool{}
	for len(buffer) >= unix.SizeofInotifyEvent {
		ev := (*unix.InotifyEvent)(unsafe.Pointer(&buffer[0]))
		end := min(unix.SizeofInotifyEvent+int(ev.Len), len(buffer))
		c := change{
			wd: ev.Wd, overflow: ev.Mask&unix.IN_Q_OVERFLOW != 0, gone: ev.Mask&unix.IN_IGNORED != 0,
			name: unix.ByteSliceToString(buffer[unix.SizeofInotifyEvent:end]),
		}
		if !seen[c] {
			seen[c] = true
			list = append(list, c)
		}
		buffer = buffer[end:]
	}
	return list
}

func (c Cap) cutAll(cut func(string)) {
	dir, err := os.Open(c.Dir)
	if err != nil {
		return
	}
	defer dir.Close()
	for {
		list, err := dir.Readdirnames(1024)
		for _, name := range list {
			c.cutOne(name, cut)
		}
		if err != nil {
			return
		}
	}
}

// cutOne cuts a file off, if it is a file. Nobody but this user can put anything
// else into the directory.
func (c Cap) cutOne(name string, cut func(string)) {
	path := filepath.Join(c.Dir, name)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	if st.Size <= c.Size && st.Blocks*512 <= c.Size+spare {
		return
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	err = errors.Join(unix.Ftruncate(fd, min(st.Size, c.Size)), unix.Close(fd))
	if err == nil {
		cut(path)
	}
}
