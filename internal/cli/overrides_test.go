package cli

import (
	"fmt"
	"testing"
)

func TestOverridesFromFlags(t *testing.T) {
	t.Parallel()
	lookup := func(name string) (string, bool) {
		value, ok := map[string]string{"DAY": "monday", "EMPTY": "", "COST": "$5 or $(DAY)"}[name]
		return value, ok
	}
	for _, c := range []struct{ env, want string }{
		{"K=v=w", "K=v=w"},
		{"K=", "K="},
		{"K=$(DAY)", "K=$(DAY)"},
		{"DAY", "DAY=monday"},
		{"EMPTY", "EMPTY="},
		{"COST", "COST=$$5 or $$(DAY)"}, // as it is, for Kubernetes expands it
		{"NIGHT", "--env: NIGHT is not set in this environment; set it, or give NIGHT=VALUE"},
		{"=v", `--env: "=v" is not of the form NAME=VALUE`},
		{"", `--env: "" is not of the form NAME=VALUE`},
		{"A B=c", `--env: "A B=c" is not of the form NAME=VALUE`},
	} {
		got, err := (&overrides{env: []string{c.env}}).read(lookup)
		text := fmt.Sprint(err)
		if err == nil {
			text = got.Env[0].Name + "=" + got.Env[0].Value
		}
		if text != c.want {
			t.Errorf("%q: got %s, want %s", c.env, text, c.want)
		}
	}
}
