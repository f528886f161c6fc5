package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/version"
)

// recordedFrom begins the first line of every session.
const recordedFrom = "Recorded from Kubernetes "

// signed is a session's text with the version of the cluster that has answered.
func (s *session) signed(text string) (string, error) {
	resp, err := s.http.Get(s.host + "/version")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var v version.Info
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("/version: %s, %v", resp.Status, err)
	}
	if strings.HasPrefix(text, recordedFrom) {
		_, text, _ = strings.Cut(text, "\n\n")
	}
	return recordedFrom + v.GitVersion + ".\n\n" + text, nil
}

// TestVersion: all recordings are of the version that scripts/controlplane builds.
func TestVersion(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../tools/controlplane/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`k8s\.io/kubernetes (v\S+)`).FindSubmatch(text)
	if m == nil {
		t.Fatal("tools/controlplane/go.mod does not say which Kubernetes is built")
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	want := recordedFrom + string(m[1]) + ".\n\n"
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), want) {
			t.Errorf("%s does not begin with %q: record it anew (%v)", file, want, err)
		}
	}
}
