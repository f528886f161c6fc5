package attack

import (
	"slices"
	"strings"
	"testing"
)

// attack is one try of a stranger to get what is not his.
type attack struct {
	name string // as the table has it
	// users are those whose Sampan is attacked, anyUser for all; a list with commas.
	users string
	// without are the defences that the weak binary lacks, separated by commas.
	// Empty: try itself does without, where s.weak.
	without string
	// try makes the attack, and returns a sign that it got what it is after, or "".
	try func(s *site) string
}

func attacks() []attack {
	return slices.Concat(startAttacks(), rightsAttacks(), machineAttacks(), limitAttacks(), clientAttacks())
}

// TestAttacks makes every attack, twice: see the package's comment.
func TestAttacks(t *testing.T) {
	if testing.Short() {
		t.Skip("all of them take a minute")
	}
	archives := images(t)
	all := users(t)
	for _, u := range all {
		u.prepare(t, archives)
	}
	for _, a := range attacks() {
		for _, u := range all {
			if !listed(a.users, u.name) {
				continue
			}
			name := a.name + "/" + u.name
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, u, false)
				s.without = a.without
				if got := a.try(s); got != "" {
					t.Errorf("the attack gets %q", got)
				}
			})
			t.Run(name+"/without the defence", func(t *testing.T) {
				t.Parallel()
				s := newSite(t, u, true)
				s.without = a.without
				if got := a.try(s); got == "" {
					t.Error("the attack does not work where nothing is done against it")
				}
			})
		}
	}
}

func listed(list, name string) bool {
	return list == anyUser || slices.Contains(strings.Split(list, ","), name)
}
