package server

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// backupOf answers with what it was asked for, and fails if the logs are wanted.
func backupOf(_ context.Context, w io.Writer, o BackupOptions) error {
	io.WriteString(w, "the keys to everything")
	if o.Logs {
		return errors.New("no logs:\nthe disk is gone")
	}
	return nil
}

func withBackup(o *Options) { o.Backup = backupOf }

// get asks for a backup; the trailer is read to its end.
func (f *fixture) getBackup(t *testing.T, config *rest.Config, method, query string) (*http.Response, string) {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, f.config.Host+BackupPath+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// A backup has all Secrets and the authority's keys: it is the administrator's.
func TestBackupIsTheAdministrators(t *testing.T) {
	t.Parallel()
	f := setup(t, withBackup)
	nobody := rest.CopyConfig(f.config)
	nobody.CertData, nobody.KeyData = nil, nil
	someone := f.certificate(t, f.certs.ca, time.Hour, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "someone"} })
	for name, tc := range map[string]struct {
		config *rest.Config
		code   int
	}{"nobody": {nobody, 401}, "someone": {someone, 403}, "the administrator": {f.config, 200}} {
		for _, path := range []string{"", "?logs=false", "/"} {
			resp, body := f.getBackup(t, tc.config, http.MethodGet, path)
			if path == "/" && tc.code == 200 {
				tc.code = 404
			}
			if resp.StatusCode != tc.code || (tc.code != 200) == strings.Contains(body, "keys to everything") {
				t.Errorf("%s%s: %d %q", name, path, resp.StatusCode, body)
			}
		}
	}
	impersonated := rest.CopyConfig(f.config)
	impersonated.Impersonate.UserName = "someone"
	if resp, _ := f.getBackup(t, impersonated, http.MethodGet, ""); resp.StatusCode != 403 {
		t.Errorf("impersonated: %d", resp.StatusCode)
	}
}

func TestBackupRequests(t *testing.T) {
	t.Parallel()
	f := setup(t, withBackup)
	for query, want := range map[string]string{"?logs=x": "logs", "?what=1": `unknown parameter "what"`} {
		if resp, body := f.getBackup(t, f.config, http.MethodGet, query); resp.StatusCode != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		if resp, _ := f.getBackup(t, f.config, method, ""); resp.StatusCode != 405 {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
	}
	resp, body := f.getBackup(t, f.config, http.MethodGet, "?images=true")
	if resp.Header.Get("Content-Type") != "application/x-tar" || body != "the keys to everything" || resp.Trailer.Get(BackupError) != "" {
		t.Errorf("%v %q %v", resp.Header, body, resp.Trailer)
	}
	// What goes wrong after the answer has begun is told behind it.
	resp, _ = f.getBackup(t, f.config, http.MethodGet, "?logs=true")
	if got := resp.Trailer.Get(BackupError); got != `"no logs:\nthe disk is gone"` {
		t.Errorf("trailer %q", got)
	}
}

// One backup at a time; one whose reader has gone ends.
func TestOneBackupAtATime(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 1)
	f := setup(t, func(o *Options) {
		o.Backup = func(ctx context.Context, w io.Writer, _ BackupOptions) error {
			w.Write([]byte("begun"))
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
			began <- struct{}{}
			<-ctx.Done()
			return context.Cause(ctx)
		}
	})
	client, err := rest.HTTPClientFor(f.config)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // each time the place is free again
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.config.Host+BackupPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		for err == nil && resp.StatusCode == http.StatusTooManyRequests { // the former one is just ending
			resp.Body.Close()
			resp, err = client.Do(req)
		}
		if err != nil {
			t.Fatal(err)
		}
		<-began
		if resp, _ := f.getBackup(t, f.config, http.MethodGet, ""); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("a second one: %d", resp.StatusCode)
		}
		cancel()
		resp.Body.Close()
	}
}
