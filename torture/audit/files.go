package audit

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// stays are the files of a data directory that `sampan stop` leaves: what is kept.
var stays = regexp.MustCompile(`^(store\.db|lock|kubeconfig|pki(/[^/]+)?|images(/.*)?|run|run/[^/]+|run/[^/]+/(lock|log|log\.old|journal|sock|launcher|launcher/points/etc/(hosts|resolv\.conf))|logs|pods|etc|termination)$`)

// shown are files with a kubelet's modes, or an image's, in a directory that is the user's alone.
var shown = regexp.MustCompile(`^(images|logs|run/[^/]+/launcher/points)/`)

// launcher is where a supervisor has directories in stock, and the layer that all
// containers have in common.
var launcher = regexp.MustCompile(`^run/[^/]+/launcher/`)

// Files returns the files below a data directory that should not be there any more
// once its engine has stopped and its pods are deleted, and files that others can
// read. keepLogs: pods that ended are still there, with their logs.
func Files(data string, keepLogs bool) (left []string) {
	if info, err := os.Stat(data); err == nil && info.Mode().Perm() != 0o700 {
		left = append(left, "open to others: the data directory itself, "+info.Mode().String())
	}
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			left = append(left, "unreadable "+err.Error())
			return nil
		}
		name, _ := filepath.Rel(data, path)
		if name == "." {
			return nil
		}
		if d.IsDir() && launcher.MatchString(name) {
			return nil // empty ones, for the next containers
		}
		if !stays.MatchString(name) && !(keepLogs && strings.HasPrefix(name, "logs/")) {
			left = append(left, "file "+name)
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if info, err := d.Info(); err == nil && d.Type().IsRegular() && info.Mode().Perm()&0o077 != 0 && !shown.MatchString(name) {
			left = append(left, "readable by others "+name)
		}
		return nil
	})
	if err != nil {
		left = append(left, "unreadable "+err.Error())
	}
	return left
}
