package identity

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/token/tokenfile"
	"k8s.io/apiserver/pkg/authentication/user"
)

// longestTokenFile is how large a file of tokens may be, in bytes.
const longestTokenFile = 16 << 20

// LoadTokens reads users and their tokens from a file, in the form that kube-apiserver reads
// (--token-auth-file), a line each:
//
//	token,user,uid,"group1,group2"
//
// Whoever can read the file is all of these users, so that it has to be its owner's alone. A line that
// kube-apiserver passes over with a warning (without a token, or with that of another line) is an error:
// who wrote it meant somebody.
func LoadTokens(path string) (authenticator.Token, error) {
	tokens, err := readTokens(path)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	return authenticator.WrapAudienceAgnosticToken(Audiences(), tokenfile.New(tokens)), nil
}

func readTokens(path string) (map[string]*user.DefaultInfo, error) {
	// Without waiting: what is no file may never answer.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, reason(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others may read or write it (mode %04o): chmod 600 %s", info.Mode().Perm(), path)
	case info.Size() > longestTokenFile:
		return nil, fmt.Errorf("it has %d bytes, and may have %d", info.Size(), longestTokenFile)
	}
	return parseTokens(io.LimitReader(file, longestTokenFile))
}

// reason is an error of the file system without the path, which is said already.
func reason(err error) error {
	if failed := (*os.PathError)(nil); errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

func parseTokens(text io.Reader) (map[string]*user.DefaultInfo, error) {
	tokens, lines := map[string]*user.DefaultInfo{}, map[string]int{}
	rows := csv.NewReader(text)
	rows.FieldsPerRecord = -1
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return tokens, nil
		}
		if bad := (*csv.ParseError)(nil); errors.As(err, &bad) {
			return nil, fmt.Errorf("line %d, column %d: %w", bad.Line, bad.Column, bad.Err)
		}
		if err != nil {
			return nil, reason(err)
		}
		line, _ := rows.FieldPos(0)
		switch {
		case len(row) < 3:
			return nil, fmt.Errorf("line %d: must have at least 3 columns (token, user name, user uid), found %d", line, len(row))
		case row[0] == "":
			return nil, fmt.Errorf("line %d: the token is empty", line)
		case row[1] == "":
			return nil, fmt.Errorf("line %d: the user name is empty", line)
		case tokens[row[0]] != nil:
			return nil, fmt.Errorf("line %d: its token is that of line %d", line, lines[row[0]])
		}
		who := &user.DefaultInfo{Name: row[1], UID: row[2]}
		if len(row) > 3 && row[3] != "" {
			who.Groups = strings.Split(row[3], ",")
		}
		tokens[row[0]], lines[row[0]] = who, line
	}
}
