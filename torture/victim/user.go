package victim

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// User is who runs Sampan: this process's own user, or another one that it can
// become.
type User struct {
	Name     string
	UID, GID int
	other    bool
}

// Lookup finds a user by name; "" is this process's own.
func Lookup(name string) (User, error) {
	own := os.Geteuid()
	if name == "" {
		if u, err := user.LookupId(strconv.Itoa(own)); err == nil {
			name = u.Username
		}
		return User{Name: name, UID: own, GID: os.Getegid()}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return User{}, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if uid != own && own != 0 {
		return User{}, fmt.Errorf("only root can run Sampan as %s", name)
	}
	return User{Name: name, UID: uid, GID: gid, other: uid != own}, nil
}

// Own gives a file to the user.
func (u User) Own(path string) error {
	if !u.other {
		return nil
	}
	return os.Chown(path, u.UID, u.GID)
}

// attributes start a process as the user.
func (u User) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the torture, which stops them
	if u.other {
		attr.Credential = &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
	}
	return attr
}
