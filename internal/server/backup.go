package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	apirequest "k8s.io/apiserver/pkg/endpoints/request"
)

// BackupPath answers GET with a backup, to an administrator: it contains the
// Secrets and the keys of the authority.
const BackupPath = "/sampan/backup"

// BackupError is the trailer that says why a backup was not finished.
const BackupError = "Sampan-Backup-Error"

// BackupOptions say what a backup contains besides the objects and the keys.
type BackupOptions struct{ Logs, Images bool }

// Query returns o as the endpoint takes it.
func (o BackupOptions) Query() url.Values {
	return url.Values{"logs": {strconv.FormatBool(o.Logs)}, "images": {strconv.FormatBool(o.Images)}}
}

func backupOptions(q url.Values) (o BackupOptions, err error) {
	for name, values := range q {
		var into *bool
		switch name {
		case "logs":
			into = &o.Logs
		case "images":
			into = &o.Images
		default:
			return o, fmt.Errorf("unknown parameter %q", name)
		}
		if *into, err = strconv.ParseBool(values[0]); err != nil {
			return o, fmt.Errorf("%s: %w", name, err)
		}
	}
	return o, nil
}

// backups is the endpoint. Its answers are as long as what is stored, and
// may be taken slowly (withPace says how slowly), so there is one at a time.
type backups struct {
	write func(ctx context.Context, w io.Writer, o BackupOptions) error
	o     *Options
	turn  chan struct{} // of one
}

func newBackups(o *Options) *backups {
	return &backups{write: o.Backup, o: o, turn: make(chan struct{}, 1)}
}

func (b *backups) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "want GET", http.StatusMethodNotAllowed)
		return
	}
	what, err := backupOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "another backup is being made", http.StatusTooManyRequests)
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Trailer", BackupError)
	if err := b.write(r.Context(), w, what); err != nil {
		b.o.Logger.Warn("a backup was not finished", "err", err)
		w.Header().Set(BackupError, strconv.QuoteToASCII(err.Error()))
	}
}

// isBackup: the request may take longer than others.
func isBackup(r *http.Request, _ *apirequest.RequestInfo) bool { return r.URL.Path == BackupPath }
