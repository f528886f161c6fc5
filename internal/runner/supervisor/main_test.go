package supervisor

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"testing"

	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/host"
)

// TestMain lets the test binary be the supervisor.
func TestMain(m *testing.M) {
	if os.Getenv("SAMPAN_TEST_SUPERVISE") == "" {
		os.Exit(m.Run())
	}
	opts, err := ParseArgs(os.Args[1:])
	if err == nil {
		os.Unsetenv("SAMPAN_TEST_SUPERVISE")
		opts.Launchers = map[runner.Class]func(runner.LauncherEnv) (runner.Launcher, error){
			runner.Host: func(env runner.LauncherEnv) (runner.Launcher, error) { return host.New(env) },
		}
		if path := os.Getenv("SAMPAN_TEST_PROFILE"); path != "" {
			f, _ := os.Create(path)
			_ = pprof.StartCPUProfile(f)
			defer pprof.StopCPUProfile()
		}
		err = Main(context.Background(), opts)
		pprof.StopCPUProfile()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func selfCommand() Command {
	return Command{Path: "/proc/self/exe", Env: []string{"SAMPAN_TEST_SUPERVISE=1"}}
}
