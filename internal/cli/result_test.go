package cli

import (
	"fmt"
	"strings"
	"testing"
)

func TestFewIndexes(t *testing.T) {
	t.Parallel()
	var all []string
	for i := range 1000 {
		all = append(all, fmt.Sprint(2*i))
	}
	for _, c := range []struct{ all, want string }{
		{"1,3-5", "1,3-5"},
		{strings.Join(all, ","), "0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62,64,66,68,… (1000)"},
	} {
		if got := fewIndexes(c.all); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
