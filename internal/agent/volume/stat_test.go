package volume

import (
	"os"
	"syscall"
)

func groupOf(info os.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Gid }
