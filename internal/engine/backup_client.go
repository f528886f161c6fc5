package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/sampan-batch/sampan/internal/server"
)

// backupRunning asks the engine that holds dir for a backup, as the administrator
// whose certificate is there.
func backupRunning(ctx context.Context, dir string, holder Holder, w io.Writer, what server.BackupOptions) error {
	if holder.Listen == "" {
		return fmt.Errorf("%s works on %s and does not say where its API is: try again when it is ready", holder, dir)
	}
	pki := filepath.Join(dir, "pki")
	config := &rest.Config{Host: "https://" + reachable(holder.Listen)}
	for _, f := range []struct {
		name string
		into *[]byte
	}{{"ca.crt", &config.CAData}, {"admin.crt", &config.CertData}, {"admin.key", &config.KeyData}} {
		data, err := os.ReadFile(filepath.Join(pki, f.name))
		if err != nil {
			return err
		}
		*f.into = data
	}
	return BackupAPI(ctx, config, w, what)
}

// reachable is where a client on this machine finds who listens at an address.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// BackupAPI asks the engine behind an API for a backup.
func BackupAPI(ctx context.Context, config *rest.Config, w io.Writer, what server.BackupOptions) error {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	base, _, err := rest.DefaultServerURL(config.Host, "", schema.GroupVersion{}, true)
	if err != nil {
		return err
	}
	base.Path, base.RawQuery = server.BackupPath, what.Query().Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the engine for a backup: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("ask the engine at %s for a backup: %s: %s", base.Host, resp.Status, said)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("receive the backup: %w", err)
	}
	if why := resp.Trailer.Get(server.BackupError); why != "" {
		return errors.New("the engine could not finish the backup: " + why)
	}
	return nil
}
