// Command sampan is Kubernetes batch in one binary.
package main

import (
	"os"

	"github.com/sampan-batch/sampan/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
