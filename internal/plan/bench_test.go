package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sampan-batch/sampan/internal/manifest"
)

// BenchmarkMake10k is what a check of ten thousand Jobs takes, reading included.
func BenchmarkMake10k(b *testing.B) {
	var text strings.Builder
	for i := range 10000 {
		text.WriteString(job(fmt.Sprint("j-", i), "", ""))
	}
	for b.Loop() {
		input, err := manifest.Decode("x", []byte(text.String()))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Make(world(), input); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMake is what a check of one Job takes.
func BenchmarkMake(b *testing.B) {
	input, err := manifest.Decode("x", []byte(job("j", "", "")))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Make(world(), input); err != nil {
			b.Fatal(err)
		}
	}
}
