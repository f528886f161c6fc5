// Package unit is how systemd runs an engine: the text of a unit. It knows what an
// engine needs of a service manager, and that only; who writes the text, and where, is
// the command line's affair.
package unit

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Name is the name of the unit.
const Name = "sampan.service"

// Unit is a service that runs an engine.
type Unit struct {
	// Program is the absolute path of the binary, Args what follows it.
	Program string
	Args    []string
	// PerUser: it is a unit of the user's own service manager, not of the machine's.
	PerUser bool
	// User is who the engine runs as, for a unit of the machine.
	User string
	// StateDirectory is what systemd makes below /var/lib for the user, "" for nothing.
	StateDirectory string
}

// first is the line by which a unit of ours is recognised.
const first = "# Written by `sampan install`."

// Ours tells whether a file is one that Text made.
func Ours(text string) bool { return strings.HasPrefix(text, first) }

// Check refuses a program that a unit cannot name.
func (u Unit) Check() error {
	for _, r := range u.Program {
		if !strings.ContainsRune("/._-+@", r) && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)) {
			return fmt.Errorf("the path %q has %q in it, which systemd may read otherwise: put the program elsewhere, as /usr/local/bin/sampan", u.Program, r)
		}
	}
	if !strings.HasPrefix(u.Program, "/") {
		return fmt.Errorf("%q is not an absolute path", u.Program)
	}
	return nil
}

// Text is the unit.
func (u Unit) Text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	edit, target := "systemctl edit sampan", "multi-user.target"
	if u.PerUser {
		edit, target = "systemctl --user edit sampan", "default.target"
	}
	line("%s What is changed here is lost when it is written again:", first)
	line("# change it by `%s`.", edit)
	line("[Unit]")
	line("Description=Sampan, Kubernetes batch on one machine")
	line("Documentation=https://github.com/sampan-batch/sampan")
	if !u.PerUser {
		line("Wants=network-online.target")
		line("After=network-online.target")
	}
	line("# It is started again however often it fails: the next start goes on from what the disk holds.")
	line("StartLimitIntervalSec=0")
	line("")
	line("[Service]")
	line("Type=notify")
	line("NotifyAccess=main")
	if !u.PerUser {
		line("User=%s", u.User)
	}
	if u.StateDirectory != "" {
		line("StateDirectory=%s", u.StateDirectory)
		line("StateDirectoryMode=0700")
	}
	line("ExecStart=%s", commandLine(u.Program, u.Args))
	line("Restart=always")
	line("RestartSec=1")
	line("WatchdogSec=30")
	line("TimeoutStartSec=120")
	line("TimeoutStopSec=60")
	line("# Pods outlive the engine: it can be stopped, upgraded and started again beside them.")
	line("# `sampan stop` ends them, too.")
	line("KillMode=process")
	line("# A pod that the kernel ends because it is out of memory is no failure of the service.")
	line("OOMPolicy=continue")
	line("# Limits of pods are control groups, which have to be the engine's.")
	line("Delegate=yes")
	line("TasksMax=infinity")
	if !u.PerUser { // a user's manager can raise nothing
		line("LimitNOFILE=1048576")
		line("LimitNPROC=infinity")
	}
	line("")
	line("[Install]")
	line("WantedBy=%s", target)
	return b.String()
}

// commandLine writes a command as ExecStart reads it; see systemd.service(5).
func commandLine(program string, args []string) string {
	words := []string{program}
	for _, arg := range args {
		words = append(words, word(arg))
	}
	return strings.Join(words, " ")
}

// word writes one argument: no character of it means more than itself.
func word(arg string) string {
	var b strings.Builder
	plain := arg != ""
	for i := 0; i < len(arg); {
		r, n := utf8.DecodeRuneInString(arg[i:])
		switch {
		case r == '%', r == '$':
			b.WriteString(strings.Repeat(string(r), 2)) // a specifier, a variable
		case r == '"', r == '\\':
			b.WriteString(`\` + string(r))
			plain = false
		case r == utf8.RuneError && n == 1, r < ' ', r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, arg[i])
			plain = false
		default:
			b.WriteString(arg[i : i+n])
			plain = plain && !strings.ContainsRune(` ';`, r)
		}
		i += n
	}
	if plain {
		return b.String()
	}
	return `"` + b.String() + `"`
}
