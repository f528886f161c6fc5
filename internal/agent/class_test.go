package agent

import (
	"slices"
	"testing"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
)

// The API lets in what a node can run.
func TestRuntimeClasses(t *testing.T) {
	t.Parallel()
	if want := []string{string(runner.Sandbox), string(runner.Host)}; !slices.Equal(kind.RuntimeClassNames(), want) {
		t.Errorf("the API knows %v, the runners %v", kind.RuntimeClassNames(), want)
	}
}
