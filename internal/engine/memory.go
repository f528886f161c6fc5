package engine

import (
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// HideMemory keeps what this process holds, Secrets and the keys of its
// authority, out of core dumps and from processes that trace it with the same
// user. That is a setting of the whole process; what it executes begins anew.
//
// It is root's only. A process that hides cannot, as an ordinary user, write the
// id maps of the children that it starts (they belong to root then), and what
// would be kept from the user's other processes lies in files of his, too. Nor
// is the limit of core files lowered: containers would inherit it.
func HideMemory(log *slog.Logger) {
	if os.Geteuid() != 0 {
		return
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		log.Warn("core dumps would hold secrets", "err", err)
	}
}
