package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Disk is a small one, which can be full: an ext4 in a file, or, where there are no
// loop devices, a tmpfs. Only root can have one.
type Disk struct {
	Dir    string // where it is mounted
	filler string
}

// NewDisk makes a disk of so many megabytes, mounted below dir, that belongs to uid.
func NewDisk(ctx context.Context, dir string, megabytes, uid, gid int) (*Disk, error) {
	d := &Disk{Dir: filepath.Join(dir, "disk")}
	d.filler = filepath.Join(d.Dir, "filler")
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := d.mountExt4(ctx, filepath.Join(dir, "disk.img"), megabytes); err != nil {
		size := fmt.Sprintf("size=%dm,nr_inodes=20000", megabytes)
		if tmp := syscall.Mount("torture", d.Dir, "tmpfs", 0, size); tmp != nil {
			return nil, errors.Join(err, tmp)
		}
	}
	return d, os.Chown(d.Dir, uid, gid)
}

func (d *Disk) mountExt4(ctx context.Context, image string, megabytes int) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(int64(megabytes)<<20), f.Close())
	if err != nil {
		return err
	}
	for _, line := range [][]string{
		{"mkfs.ext4", "-q", "-m", "0", "-N", "20000", image}, // nothing set aside for root
		{"mount", "-o", "loop", image, d.Dir},
	} {
		if out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line[0], err, out)
		}
	}
	return nil
}

// Fill takes all that is free.
func (d *Disk) Fill() error {
	f, err := os.OpenFile(d.filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Free gives back what Fill has taken.
func (d *Disk) Free() error {
	if err := os.Remove(d.filler); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// unmountWithin is how long the disk may be busy after its last user has ended: the
// kernel closes what a process had open a moment after it is gone.
const unmountWithin = 10 * time.Second

// Close unmounts the disk, which nobody uses any more.
func (d *Disk) Close() error {
	for end := time.Now().Add(unmountWithin); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Unmount(d.Dir, 0)
		if err == nil || time.Now().After(end) {
			return os.NewSyscallError("umount "+d.Dir, err)
		}
	}
}
