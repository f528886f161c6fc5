package tree

import (
	"os"

	"golang.org/x/sys/unix"
)

// Spread tells the file system that the directories in dir have nothing to do with each other,
// so that they need not lie side by side: ext4's flag of the top of a hierarchy (chattr(1), "T").
//
// It is for directories of which many come and go. ext4 without a journal, which virtual
// machines like to have, does not use the inodes of what was deleted a moment ago, and looks at
// each of them when it makes something in the same group of blocks: a thousand short
// containers spent half of their time so. An error says that the file system, or the
// permissions, know nothing of this, and can be ignored.
func Spread(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&topOfHierarchy != 0 {
		return err
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topOfHierarchy))
}

// topOfHierarchy is EXT4_TOPDIR_FL, which x/sys does not have.
const topOfHierarchy = 0x00020000
