package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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

// maxUserFile bounds /etc/passwd and /etc/group of an image, in bytes.
const maxUserFile = 4 << 20

// ResolveUser turns a USER of an image configuration ("", "uid", "name",
// "user:group") into numbers by the image's own /etc/passwd and /etc/group.
func (img *Image) ResolveUser(spec string) (User, error) {
	userPart, groupPart, hasGroup := strings.Cut(spec, ":")
	if userPart == "" {
		userPart = "0"
	}
	u := User{Home: "/"}
	id, err := strconv.ParseUint(userPart, 10, 32)
	u.Numeric = err == nil
	u.UID = uint32(id)

	passwd, err := img.file("etc/passwd")
	if err != nil {
		return u, err
	}
	found, name := false, userPart
	eachEntry(passwd, func(f []string) bool {
		if len(f) < 6 || (f[0] != userPart && (!u.Numeric || f[2] != userPart)) {
			return true
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			return true
		}
		found, name = true, f[0]
		u.UID, u.GID, u.Name, u.Home = uint32(uid), uint32(gid), f[0], f[5]
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
		u.Groups = memberships(group, name)
	}
	return u, nil
}

func (u *User) setGroup(group []byte, spec string) error {
	if id, err := strconv.ParseUint(spec, 10, 32); err == nil {
		u.GID = uint32(id)
		return nil
	}
	found := false
	eachEntry(group, func(f []string) bool {
		if len(f) < 3 || f[0] != spec {
			return true
		}
		id, err := strconv.ParseUint(f[2], 10, 32)
		found = err == nil
		u.GID = uint32(id)
		return !found
	})
	if !found {
		return fmt.Errorf("unable to find group %s: no matching entries in group file", spec)
	}
	return nil
}

func memberships(group []byte, user string) []uint32 {
	var ids []uint32
	eachEntry(group, func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		for _, member := range strings.Split(f[3], ",") {
			if id, err := strconv.ParseUint(f[2], 10, 32); member == user && err == nil {
				ids = append(ids, uint32(id))
			}
		}
		return true
	})
	return ids
}

// eachEntry calls do with the fields of each line until it returns false.
func eachEntry(data []byte, do func(fields []string) bool) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line != "" && !strings.HasPrefix(line, "#") && !do(strings.Split(line, ":")) {
			return
		}
	}
}

// file reads a file of the image from its topmost layer that has it; nothing
// when none does. Links are followed inside their layer only.
func (img *Image) file(path string) ([]byte, error) {
	for i := len(img.Layers) - 1; i >= 0; i-- {
		data, err := readInside(img.Layers[i], path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return data, err
	}
	return nil, nil
}

func readInside(layer, path string) ([]byte, error) {
	root, err := os.OpenRoot(layer)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil // a whiteout, or something nobody should read
	}
	f, err := root.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxUserFile))
}
