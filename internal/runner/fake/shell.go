package fake

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sampan-batch/sampan/internal/runner"
)

// Shell makes a Script of a container's command. It understands the commands
//
//	true   false   echo …   printf TEXT   cat   sleep SECONDS   sleep infinity   exit N   kill -N $$
//
// and sh -c, with these separated by ";" or newlines, with `>&2` after echo
// and printf, with `trap 'COMMANDS' SIGNAL`, and with $NAME from the environment.
// `sleep 9 & wait`, which a real shell needs to be interrupted, is sleep 9.
// Another command cannot be started, as one that is in no image; within sh -c
// it ends the script with 127.
func Shell(spec *runner.Spec) Script {
	if len(spec.Args) == 0 {
		return Script{StartError: &runner.StartError{Reason: "CreateContainerError", Message: "no command specified"}}
	}
	name := path.Base(spec.Args[0])
	if (name == "sh" || name == "bash") && len(spec.Args) >= 3 && spec.Args[1] == "-c" {
		s := shell{env: spec.Env}
		s.run(spec.Args[2])
		return s.script
	}
	s := shell{env: spec.Env}
	if name == "trap" || !s.command(append([]string{name}, spec.Args[1:]...)) {
		return Script{StartError: &runner.StartError{
			Reason: "StartError", Code: 128,
			Message: fmt.Sprintf("exec: %q: executable file not found in $PATH", spec.Args[0]),
		}}
	}
	return s.script
}

// shell collects what a script does.
type shell struct {
	env    []string
	script Script
	done   bool // exit, or killed
}

// run takes a script line by line.
func (s *shell) run(text string) {
	for _, words := range split(text, s.env) {
		if s.done {
			return
		}
		if !s.command(words) {
			s.script.Steps = append(s.script.Steps, Step{Stderr: fmt.Sprintf("sh: %s: not found\n", words[0])})
			s.script.Exit = 127
		}
	}
}

// command adds one command; it is false if that is not known.
func (s *shell) command(words []string) bool {
	args, toStderr := words[1:], false
	if n := len(args); n > 0 && args[n-1] == ">&2" {
		args, toStderr = args[:n-1], true
	}
	s.script.Exit = 0
	switch words[0] {
	case "true", ":", "wait":
	case "false":
		s.script.Exit = 1
	case "echo":
		s.print(strings.Join(args, " ")+"\n", toStderr)
	case "printf":
		s.print(strings.ReplaceAll(strings.Join(args, " "), `\n`, "\n"), toStderr)
	case "cat":
		s.script.Steps = append(s.script.Steps, Step{Cat: true})
		return len(args) == 0
	case "sleep":
		return s.sleep(args)
	case "exit":
		if s.done = true; len(args) > 0 {
			s.script.Exit, _ = strconv.Atoi(args[0])
		}
	case "kill":
		if len(args) == 2 && args[1] == "$$" {
			s.script.Signal, s.done = signalNumber(strings.TrimPrefix(args[0], "-")), true
		}
	case "trap":
		return s.trap(args)
	default:
		return false
	}
	return true
}

func (s *shell) print(text string, toStderr bool) {
	step := Step{Stdout: text}
	if toStderr {
		step = Step{Stderr: text}
	}
	s.script.Steps = append(s.script.Steps, step)
}

func (s *shell) sleep(args []string) bool {
	if len(args) != 1 {
		return false
	}
	var d time.Duration
	if args[0] == "infinity" { // which is a number for ParseFloat
		d = 1<<63 - 1
	} else if seconds, err := strconv.ParseFloat(args[0], 64); err == nil {
		d = time.Duration(seconds * float64(time.Second))
	} else if d, err = time.ParseDuration(args[0]); err != nil {
		return false
	}
	s.script.Steps = append(s.script.Steps, Step{Sleep: d})
	return true
}

func (s *shell) trap(args []string) bool {
	if len(args) != 2 {
		return false
	}
	reaction := shell{env: s.env}
	reaction.run(args[0])
	if s.script.On == nil {
		s.script.On = make(map[int]Script)
	}
	reaction.script.On = s.script.On
	s.script.On[signalNumber(args[1])] = reaction.script
	return true
}

func signalNumber(name string) int {
	if n, err := strconv.Atoi(name); err == nil {
		return n
	}
	switch strings.TrimPrefix(name, "SIG") {
	case "HUP":
		return int(syscall.SIGHUP)
	case "INT":
		return int(syscall.SIGINT)
	case "KILL":
		return int(syscall.SIGKILL)
	case "USR1":
		return int(syscall.SIGUSR1)
	default:
		return int(syscall.SIGTERM)
	}
}

// split splits a script into commands and these into words, with quotes taken
// off and variables replaced.
func split(text string, env []string) (commands [][]string) {
	var words []string
	var word strings.Builder
	inWord := false
	endWord := func() {
		if inWord {
			words = append(words, word.String())
			word.Reset()
			inWord = false
		}
	}
	endCommand := func() {
		if endWord(); len(words) > 0 {
			commands = append(commands, words)
			words = nil
		}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t':
			endWord()
		case ';', '\n':
			endCommand()
		case '&':
			if !inWord || !strings.HasSuffix(word.String(), ">") {
				endCommand()
				continue
			}
			word.WriteByte(c)
		case '\'', '"':
			quoted, _, _ := strings.Cut(text[i+1:], string(c))
			i, inWord = i+1+len(quoted), true
			if c == '"' {
				quoted = expand(quoted, env)
			}
			word.WriteString(quoted)
		case '$':
			end := i + 1
			for end < len(text) && strings.IndexByte(" \t;\n'\"", text[end]) < 0 {
				end++
			}
			word.WriteString(expand(text[i:end], env))
			i, inWord = end-1, true
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	endCommand()
	return commands
}

// expand replaces $NAME and ${NAME}; $$ stays.
func expand(text string, env []string) string {
	const shelter = "\x00"
	text = strings.ReplaceAll(text, "$$", shelter)
	text = os.Expand(text, func(name string) string {
		for i := len(env) - 1; i >= 0; i-- {
			if value, ok := strings.CutPrefix(env[i], name+"="); ok {
				return value
			}
		}
		return ""
	})
	return strings.ReplaceAll(text, shelter, "$$")
}
