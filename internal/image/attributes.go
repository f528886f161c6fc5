package image

import (
	"archive/tar"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attributes sets owner, extended attributes, mode and time of an open file.
func (u *unpacker) attributes(fd, parent int, base string, h *tar.Header) error {
	if u.privileged {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	err := u.eachXattr(h, func(attr string, value []byte) error { return unix.Fsetxattr(fd, attr, value, 0) })
	if err != nil {
		return err
	}
	mode := uint32(h.Mode & 0o7777)
	if !u.privileged && h.Typeflag == tar.TypeDir {
		mode |= 0o700 // its owner must be able to remove what is in it
	}
	if err := unix.Fchmod(fd, mode); err != nil || h.Typeflag == tar.TypeDir {
		return err
	}
	return setTime(parent, base, h.ModTime)
}

// attributesAt does it for what cannot be opened, or must not be: links, pipes
// and devices.
func (u *unpacker) attributesAt(parent int, base string, h *tar.Header) error {
	if u.privileged {
		if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	name := "/proc/self/fd/" + strconv.Itoa(parent) + "/" + base
	err := u.eachXattr(h, func(attr string, value []byte) error { return unix.Lsetxattr(name, attr, value, 0) })
	if err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := chmodAt(parent, base, uint32(h.Mode&0o7777)); err != nil {
			return err
		}
	}
	return setTime(parent, base, h.ModTime)
}

// chmodAt changes a mode without following a link.
func chmodAt(parent int, base string, mode uint32) error {
	err := unix.Fchmodat(parent, base, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return err
	}
	// Linux before 6.6.
	fd, err := openExact(parent, base, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return err
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

func setTime(parent int, base string, at time.Time) error {
	ts, err := unix.TimeToTimespec(at)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(parent, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) dirAttributes(fd int, name string, h *tar.Header) error {
	if err := u.attributes(fd, -1, "", h); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	u.times = append(u.times, dirTime{name: name, dev: st.Dev, ino: st.Ino, at: h.ModTime})
	if u.timeBytes += len(name) + 64; u.timeBytes > maxTimes {
		return u.setTimes() // a time that is overwritten is better than memory without end
	}
	return nil
}

// setTimes sets the times of the directories that are still where they were
// made.
func (u *unpacker) setTimes() error {
	// The last that a layer says counts, of a directory that it names twice, and of
	// one that has the number of another that was replaced.
	set := make(map[[2]uint64]bool, len(u.times))
	for i := len(u.times) - 1; i >= 0; i-- {
		d := u.times[i]
		fd, err := u.openDir(d.name)
		if err != nil {
			continue // replaced by something else
		}
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil && st.Dev == d.dev && st.Ino == d.ino && !set[[2]uint64{d.dev, d.ino}] {
			set[[2]uint64{d.dev, d.ino}] = true
			err = setTime(fd, ".", d.at)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("unpack %.200q: set its time: %w", d.name, err)
		}
	}
	u.times, u.timeBytes = nil, 0
	return nil
}

// eachXattr calls set for the attributes that mean something inside a container,
// and never those with which a layer could speak to overlayfs.
func (u *unpacker) eachXattr(h *tar.Header, set func(attr string, value []byte) error) error {
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || strings.HasPrefix(attr, "trusted.") || strings.Contains(attr, ".overlay.") {
			continue
		}
		err := set(attr, []byte(value))
		if err == unix.ENOTSUP || (err == unix.EPERM && !u.privileged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("attribute %.100q: %w", attr, err)
		}
	}
	return nil
}
