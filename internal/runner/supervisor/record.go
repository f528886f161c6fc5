package supervisor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

// records keeps what is known of each container in a file of its own, named
// by its ID: a line of JSON that is written before the container is started
// (recordStart), and one that is added when it has ended (its runner.Status).
// Only a whole line counts, so each write takes effect at once or not at all.
//
// Nothing is synced to the disk: a record has to outlive the supervisor, and the
// containers do not outlive the machine.
type records struct {
	dir string
}

type recordStart struct {
	Created time.Time
	Spec    json.RawMessage
}

func openRecords(dir string) (records, error) {
	return records{dir: dir}, os.MkdirAll(dir, 0o700)
}

func (r records) path(id string) string { return filepath.Join(r.dir, id) }

// checkID says whether an ID can name a file.
func checkID(id string) error {
	if id == "" || len(id) > 255 || id[0] == '.' || strings.ContainsAny(id, "/\x00") {
		return fmt.Errorf("supervisor: %q cannot be a container's ID", id)
	}
	return nil
}

// create writes the record of a container that is about to be started.
func (r records) create(id string, spec []byte, now time.Time) error {
	line, err := json.Marshal(recordStart{Created: now, Spec: spec})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(r.path(id), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errorf(id, runner.ErrExists)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// end adds how the container ended.
func (r records) end(status *runner.Status) error {
	line, err := json.Marshal(status)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(r.path(status.ID), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// endLost adds how a container of a former supervisor ended, in place of what
// that one may have begun to write.
func (r records) endLost(rec record, status *runner.Status) error {
	if err := os.Truncate(r.path(status.ID), rec.whole); err != nil {
		return err
	}
	return r.end(status)
}

func (r records) remove(id string) error {
	err := os.Remove(r.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// record is what a file says.
type record struct {
	created time.Time
	spec    *runner.Spec
	ended   *runner.Status // nil: it was running, or being started
	whole   int64          // the length of the whole lines
}

// load reads all records. A file that cannot be read is reported and left.
func (r records) load(log *slog.Logger) ([]record, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, err
	}
	var all []record
	for _, e := range entries {
		text, err := os.ReadFile(r.path(e.Name()))
		if err != nil {
			return nil, err
		}
		rec, err := parseRecord(text)
		switch {
		case errors.Is(err, errNoRecord):
			// The supervisor died while writing the first line: nothing was started.
			_ = r.remove(e.Name())
		case err != nil:
			log.Error("a container's record cannot be read", "id", e.Name(), "error", err)
		default:
			all = append(all, rec)
		}
	}
	return all, nil
}

var errNoRecord = errors.New("supervisor: no whole line in the record")

func parseRecord(text []byte) (record, error) {
	first, rest, whole := bytes.Cut(text, []byte{'\n'})
	if !whole {
		return record{}, errNoRecord
	}
	var start recordStart
	if err := json.Unmarshal(first, &start); err != nil {
		return record{}, err
	}
	rec := record{created: start.Created, spec: &runner.Spec{}, whole: int64(len(first)) + 1}
	if err := json.Unmarshal(start.Spec, rec.spec); err != nil {
		return record{}, err
	}
	if line, _, whole := bytes.Cut(rest, []byte{'\n'}); whole {
		rec.whole += int64(len(line)) + 1
		rec.ended = &runner.Status{}
		if err := json.Unmarshal(line, rec.ended); err != nil {
			return record{}, err
		}
	}
	return rec, nil
}
