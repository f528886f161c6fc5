package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCertificatesOnFullDisk: those that are there serve, without a file being
// made. A certificate that has to be made anew serves without being kept; an
// authority does not, since what it signed would be worth nothing tomorrow.
func TestCertificatesOnFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	for name, options := range map[string]string{"blocks": "size=256k", "inodes": "size=4m,nr_inodes=9"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := t.TempDir()
			if err := unix.Mount("disk", disk, "tmpfs", 0, "mode=700,"+options); err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
			dir, now := filepath.Join(disk, "pki"), time.Now()
			first, err := loadCerts(dir, "127.0.0.1", now)
			if err != nil {
				t.Fatal(err)
			}
			filler, err := os.Create(filepath.Join(disk, "filler"))
			for err == nil && name == "blocks" {
				_, err = filler.Write(make([]byte, 4096))
			}
			if _, err := os.CreateTemp(dir, ".new-*"); name == "inodes" && !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("the disk is not full: %v", err)
			}
			again, err := loadCerts(dir, "127.0.0.1", now)
			if err != nil || !again.serving.cert.Equal(first.serving.cert) || !again.admin.cert.Equal(first.admin.cert) {
				t.Errorf("the same: %v", err)
			}
			for range 2 { // the first leaves what the second can use
				moved, err := loadCerts(dir, "10.0.0.1", now)
				if err != nil || moved.serving.cert.VerifyHostname("10.0.0.1") != nil || !moved.ca.cert.Equal(first.ca.cert) {
					t.Errorf("another address: %v", err)
				}
			}
			late := now.Add(leafLifetime)
			if renewed, err := loadCerts(dir, "127.0.0.1", late); err != nil || renewed.admin.cert.NotAfter.Before(late) {
				t.Errorf("after their end: %v", err)
			}
			late = now.Add(caLifetime - 48*time.Hour)
			if old, err := loadCerts(dir, "127.0.0.1", late); err != nil || !old.ca.cert.Equal(first.ca.cert) {
				t.Errorf("an authority near its end: %v", err)
			}
			_, err = loadCerts(dir, "127.0.0.1", now.Add(caLifetime))
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "certificate ca: ") || !strings.HasSuffix(err.Error(), "make room on the file system of "+dir) {
				t.Errorf("an authority at its end: %v", err)
			}
		})
	}
}
