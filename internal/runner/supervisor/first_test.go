package supervisor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sampan-batch/sampan/internal/runner"
)

func TestFirst(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(t.Context(), dir, ClientOptions{Private: true, Command: selfCommand()})
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.Start(t.Context(), &runner.Spec{ID: "u_a_0", Class: runner.Host, Pod: runner.PodRef{UID: "u"},
		Container: "a", Args: []string{"sh", "-c", "echo hi; echo err >&2; exit 3"}, LogPath: filepath.Join(dir, "0.log")})
	t.Log(st, err)
	st, err = c.Wait(t.Context(), "u_a_0")
	t.Log(st, err)
	text, _ := os.ReadFile(filepath.Join(dir, "0.log"))
	t.Logf("%s", text)
	t.Log(c.Remove(t.Context(), "u_a_0"), c.RemovePod(t.Context(), "u"))
	t.Log(c.Stop(t.Context()))
	text, _ = os.ReadFile(filepath.Join(dir, "host/log"))
	t.Logf("%s", text)
}
