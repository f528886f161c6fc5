package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/unit"
)

// installation is a unit of systemd's to be written, shown or removed.
type installation struct {
	perUser          bool
	as, dir          string
	print, uninstall bool
	serve            *cobra.Command // whose flags the engine will get
}

func newInstall() *cobra.Command {
	i := &installation{serve: newServe()}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Have systemd run the engine, at every boot",
		Long: `Install writes a systemd unit that runs "sampan serve" with the flags that are given here. It
starts nothing: it says what to type next. The unit leaves pods alone when the engine stops,
starts it again when it fails or does not answer, and lets it limit what pods use.

As root it is a unit of the machine, and the engine runs as root or as the user that --as
names, with /var/lib/sampan as its directory. With --user it is a unit of your own.

A file that "sampan install" has not written is never replaced or removed.`,
		Example: `  sudo sampan install && sudo systemctl daemon-reload && sudo systemctl enable --now sampan
  sudo sampan install --as batch --max-pods 500
  sampan install --user --listen 127.0.0.1:7443
  sampan install --print
  sampan install --user --uninstall`,
		Args: wantArgs(cobra.NoArgs, "install takes flags only: those of `sampan serve`, and its own"),
		RunE: func(cmd *cobra.Command, _ []string) error { return i.run(cmd) },
	}
	f := cmd.Flags()
	f.BoolVar(&i.perUser, "user", false, "a unit of your own service manager, for which no root is needed")
	f.StringVar(&i.as, "as", "root", "who the engine runs as")
	f.StringVar(&i.dir, "unit-dir", "", "where the unit is written (default: where systemd looks for it)")
	f.BoolVar(&i.print, "print", false, "show the unit and do nothing")
	f.BoolVar(&i.uninstall, "uninstall", false, "remove the unit")
	f.AddFlagSet(i.serve.Flags())
	return cmd
}

func (i *installation) run(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	if i.perUser && cmd.Flags().Changed("as") {
		return usage(errors.New("--as goes without --user: a user's engine runs as the user"))
	}
	path, err := i.path()
	if err != nil {
		return err
	}
	if i.uninstall {
		return i.remove(out, path)
	}
	u, err := i.unit()
	if err != nil {
		return usage(err)
	}
	if i.print {
		_, err := io.WriteString(out, u.Text())
		return err
	}
	if err := i.possible(); err != nil {
		return err
	}
	return i.write(out, path, u.Text())
}

// path is where the unit belongs.
func (i *installation) path() (string, error) {
	switch {
	case i.dir != "":
		return filepath.Join(i.dir, unit.Name), nil
	case !i.perUser:
		return filepath.Join("/etc/systemd/system", unit.Name), nil
	}
	config, err := os.UserConfigDir() // $XDG_CONFIG_HOME, or ~/.config
	if err != nil {
		return "", err
	}
	return filepath.Join(config, "systemd", "user", unit.Name), nil
}

// possible tells what to do where a unit would be of no use, or cannot be written. A
// directory that is named may be that of another machine.
func (i *installation) possible() error {
	if i.dir != "" {
		return nil
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return errors.New("systemd does not run on this machine: have whatever starts services here run `sampan serve`, end it by SIGTERM alone (its pods go on), and start it again when it ends;\n" +
			"in a container it can be the command. `sampan install --print` shows what systemd would be told, --unit-dir DIR writes it elsewhere")
	}
	if !i.perUser && os.Geteuid() != 0 {
		return usage(errors.New("a unit of the machine is root's to install: sudo sampan install, or sampan install --user for one of your own"))
	}
	return nil
}

// write puts the unit in its place, if it is not there as it should be.
func (i *installation) write(out io.Writer, path, text string) error {
	old, err := ownUnit(path)
	if err != nil {
		return err
	}
	if old == text {
		fmt.Fprintf(out, "%s is as it should be\n", plain(path))
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := replaceFile(path, text, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s\n", plain(path))
	if old != "" {
		fmt.Fprintf(out, "next: %s daemon-reload && %[1]s restart sampan    (pods go on)\n", i.systemctl())
		return nil
	}
	fmt.Fprintf(out, "next: %s daemon-reload && %[1]s enable --now sampan\n", i.systemctl())
	if i.perUser {
		i.sayLinger(out)
	}
	return nil
}

// remove takes the unit away, and the link by which systemd starts it at boot.
func (i *installation) remove(out io.Writer, path string) error {
	old, err := ownUnit(path)
	if err != nil {
		return err
	}
	if old == "" {
		fmt.Fprintf(out, "there is no %s\n", plain(path))
		return nil
	}
	for _, target := range []string{"multi-user.target", "default.target"} {
		link := filepath.Join(filepath.Dir(path), target+".wants", unit.Name)
		if at, err := os.Readlink(link); err == nil && filepath.Base(at) == unit.Name {
			if err := os.Remove(link); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	fmt.Fprintf(out, "removed %s\nnext: %s stop sampan; %[2]s daemon-reload\nPods go on until `sampan stop`; the data directory stays.\n", plain(path), i.systemctl())
	return nil
}

func (i *installation) systemctl() string {
	if i.perUser {
		return "systemctl --user"
	}
	return "systemctl"
}

// sayLinger says how a user's engine runs when the user is not there.
func (i *installation) sayLinger(out io.Writer) {
	name := userName()
	if _, err := os.Stat(filepath.Join("/var/lib/systemd/linger", name)); err != nil {
		fmt.Fprintf(out, "It runs while you are logged in; for always: loginctl enable-linger %s\n", plain(name))
	}
}

// ownUnit reads a unit that we have written, "" if there is none, and refuses what
// somebody else has put in its place.
func ownUnit(path string) (string, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	text := []byte(nil)
	if info.Mode().IsRegular() && info.Size() < 1<<16 {
		if text, err = os.ReadFile(path); err != nil {
			return "", err
		}
	}
	if !unit.Ours(string(text)) {
		return "", fmt.Errorf("%s was not written by `sampan install`, and is left alone: remove it, or name another directory by --unit-dir", path)
	}
	return string(text), nil
}

// replaceFile writes a file, wholly or not at all.
func replaceFile(path, text string, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".sampan-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// unit is what the flags ask for.
func (i *installation) unit() (unit.Unit, error) {
	u := unit.Unit{PerUser: i.perUser, User: i.as}
	var err error
	if u.Program, err = program(); err != nil {
		return u, err
	}
	if err := u.Check(); err != nil {
		return u, err
	}
	if !i.perUser {
		if err := runnableBy(u.Program, i.as); err != nil {
			return u, err
		}
	}
	dir := i.serve.Flags().Lookup("data-dir")
	if !dir.Changed {
		where := engine.Default().DataDir
		if !i.perUser {
			u.StateDirectory, where = "sampan", "/var/lib/sampan"
		}
		if err := i.serve.Flags().Set("data-dir", where); err != nil {
			return u, err
		}
	}
	u.Args, err = serveArgs(i.serve.Flags())
	return u, err
}

// serveArgs writes down the flags that were given, paths as seen from everywhere.
func serveArgs(flags *pflag.FlagSet) ([]string, error) {
	if _, err := runtimeClass(flags.Lookup("runtime").Value.String()); err != nil {
		return nil, err
	}
	args := []string{"serve"}
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Changed {
			return
		}
		value := f.Value.String()
		if (f.Name == "data-dir" || f.Name == "write-kubeconfig" || f.Name == "token-auth-file") && value != "" {
			absolute, absErr := filepath.Abs(value)
			value, err = absolute, errors.Join(err, absErr)
		}
		args = append(args, "--"+f.Name+"="+value)
	})
	return args, err
}
