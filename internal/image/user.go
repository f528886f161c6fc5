package image

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// User is who a container's process is.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups that /etc/group gives the user.
	Groups []uint32
	// Numeric tells that UID was written as a number, or came from outside:
	// runAsNonRoot can only vouch for those.
	Numeric bool
	// Name is "" when only the number is known.
	Name string
	Home string
}

// maxID is the highest user and group that there can be, as Kubernetes and the
// container runtimes have it: beyond it is what the kernel reads as "no change".
const maxID = math.MaxInt32

// ResolveUser turns a USER of an image configuration ("", "uid", "name",
// "user:group") into numbers by the image's own /etc/passwd and /etc/group.
//
// What is written as a number is that number: the files say which group, groups
// and home it has, and never which other number it were, whatever they call a
// user "1000".
func (img *Image) ResolveUser(spec string) (User, error) {
	userPart, groupPart, hasGroup := strings.Cut(spec, ":")
	if userPart == "" {
		userPart = "0"
	}
	u := User{Home: "/"}
	var err error
	if u.UID, u.Numeric, err = number(userPart); err != nil {
		return u, fmt.Errorf("unable to find user %s: %w", userPart, err)
	}
	passwd, err := img.file("etc/passwd")
	if err != nil {
		return u, err
	}
	found := false
	eachEntry(passwd, func(f []string) bool {
		if len(f) < 6 || (!u.Numeric && f[0] != userPart) {
			return true
		}
		uid, ok1 := fileNumber(f[2])
		gid, ok2 := fileNumber(f[3])
		if !ok1 || !ok2 || (u.Numeric && uid != u.UID) {
			return true
		}
		found = true
		u.UID, u.GID, u.Name = uid, gid, f[0]
		if f[5] != "" && !strings.Contains(f[5], "\x00") {
			u.Home = f[5]
		}
		return false
	})
	if !found && !u.Numeric {
		return u, fmt.Errorf("unable to find user %s: no matching entries in passwd file", userPart)
	}
	group, err := img.file("etc/group")
	if err != nil {
		return u, err
	}
	if hasGroup {
		return u, u.setGroup(group, groupPart)
	}
	if found {
		u.Groups = memberships(group, u.Name)
	}
	return u, nil
}

var errRange = errors.New("uids and gids must be in range 0-2147483647")

// number reads what may be a number: "0", "00" and "+0" are, " 0" and "0x0" are
// names. It is the rule by which a kubelet, which asks for runAsNonRoot, and a
// runtime tell them apart; a number out of range is an error, not a name.
func number(s string) (id uint32, numeric bool, err error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrSyntax) {
		return 0, false, nil
	}
	if err != nil || n < 0 || n > maxID {
		return 0, true, errRange
	}
	return uint32(n), true, nil
}

// fileNumber reads a number of /etc/passwd or /etc/group.
func fileNumber(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n <= maxID
}

func (u *User) setGroup(group []byte, spec string) error {
	id, numeric, err := number(spec)
	if err != nil {
		return fmt.Errorf("unable to find group %s: %w", spec, err)
	}
	if numeric {
		u.GID = id
		return nil
	}
	found := false
	eachEntry(group, func(f []string) bool {
		if len(f) < 3 || f[0] != spec {
			return true
		}
		u.GID, found = fileNumber(f[2])
		return !found
	})
	if !found {
		return fmt.Errorf("unable to find group %s: no matching entries in group file", spec)
	}
	return nil
}

// maxGroups is how many groups the kernel lets a process have.
const maxGroups = 65536

func memberships(group []byte, user string) []uint32 {
	var ids []uint32
	eachEntry(group, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		id, ok := fileNumber(f[2])
		for member := range strings.SplitSeq(f[3], ",") {
			if ok && member == user {
				ids = append(ids, id)
				break
			}
		}
		return len(ids) < maxGroups
	})
	return ids
}

// eachEntry calls do with the fields of each line until it returns false.
func eachEntry(data []byte, do func(fields []string) bool) {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !do(strings.SplitN(string(line), ":", 8)) {
			return
		}
	}
}
