// Package backup is the container of a backup: a tar archive that says what is in
// it, holds the sum of every member, and of which nothing is believed before all
// sums were found to be right.
//
//	backup.json       the Manifest
//	objects/000000…   the store's objects, some in each
//	pki/…             the authority and the certificates: secrets
//	logs/…            logs of containers
//	images/…          images
//	SHA256SUMS        of all the others, as sha256sum(1) writes and checks them
//
// A part of objects/ is a sequence of records: the length of the key as a uvarint, the key, the
// length of the value, the value; both as the store has them. What is longer than is
// known beforehand is a stream: members NAME/000000, NAME/000001 and so on.
//
// Only plain files are in it, under names that lead nowhere else.
package backup

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Format is the version of the container that is written.
const Format = 1

// Manifest tells what is in a backup.
type Manifest struct {
	Format  int       `json:"format"`
	Sampan  string    `json:"sampan"` // the version that wrote it
	Created time.Time `json:"created"`
	// Revision is the store's: the objects are those of this one moment.
	Revision uint64 `json:"revision"`
	// Objects are how many there are of each resource.
	Objects map[string]int `json:"objects"`
	// Node is the machine's Node, to which pods are bound.
	Node string `json:"node,omitempty"`
	// Logs and Images: whether they are in it.
	Logs   bool `json:"logs"`
	Images bool `json:"images"`
	// LeftOut is what could not be read, of a damaged store.
	LeftOut []string `json:"leftOut,omitempty"`
}

const (
	manifestName = "backup.json"
	sumsName     = "SHA256SUMS"
	objectsName  = "objects"

	// partSize is how long a part of a stream is, but for one record that is longer.
	partSize = 1 << 20
	// longest parts, manifests, sums and names that are read.
	mostPart     = 64 << 20
	mostManifest = 1 << 20
	mostSums     = 256 << 20
	mostMembers  = 2_000_000
	longestName  = 4096
)

// InvalidError says that what was read is no backup, not a whole one, or not as it was
// written.
type InvalidError struct{ What string }

func (e *InvalidError) Error() string { return "the backup cannot be used: " + e.What }

func invalid(format string, args ...any) error { return &InvalidError{fmt.Sprintf(format, args...)} }

// checkName refuses names that lead elsewhere, or that nobody writes.
func checkName(name string) error {
	switch {
	case len(name) > longestName, !fs.ValidPath(name), strings.ContainsAny(name, "\\\x00\n\r"):
		return invalid("it has a member %.200q", name)
	case name == manifestName, name == sumsName:
		return nil
	}
	switch dir, _, inside := strings.Cut(name, "/"); {
	case !inside:
	case dir == objectsName, dir == "pki", dir == "logs", dir == "images":
		return nil
	}
	return invalid("it has a member %.200q, which a newer program may know", name)
}

// Stream returns what stream a member is part of, and the number of the part.
func Stream(member string) (name string, part int, ok bool) {
	dir, last := path.Split(member)
	if len(last) != 6 || dir == "" {
		return "", 0, false
	}
	for _, c := range last {
		if c < '0' || c > '9' {
			return "", 0, false
		}
		part = part*10 + int(c-'0')
	}
	return strings.TrimSuffix(dir, "/"), part, true
}
