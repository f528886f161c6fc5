package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	utilduration "k8s.io/apimachinery/pkg/util/duration"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/image"
)

func newImage() *cobra.Command {
	dir := engine.Default().DataDir
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Manage the images of this machine",
		Long: `Images are kept in the data directory. An image that was loaded by hand is this machine's
answer for its name: it satisfies every imagePullPolicy without a registry.`,
		Example: `  docker save busybox | sampan image load -
  sampan image pull perl:5.34
  sampan image ls`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&dir, "data-dir", dir, "the engine's data directory")
	open := func() (*image.Store, error) { return engine.OpenImages(dir, newLogger(os.Stderr, slog.LevelWarn)) }
	cmd.AddCommand(imagePull(open), imageLoad(open), imageList(open, &dir), imageRemove(open), imagePrune(open))
	return cmd
}

type openImages func() (*image.Store, error)

func imagePull(open openImages) *cobra.Command {
	return &cobra.Command{
		Use:   "pull NAME...",
		Short: "Pull images from their registries",
		Long:  `Pull fetches images by tag or digest, with the credentials of "docker login", for this machine's platform.`,
		Example: `  sampan image pull busybox
  sampan image pull ghcr.io/team/worker@sha256:…`,
		Args: wantArgs(cobra.MinimumNArgs(1), "which image? Give a name such as busybox or ghcr.io/team/worker:v1"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			meter := newMeter()
			for _, ref := range args {
				img, err := s.Pull(ctx, ref, image.PullOptions{Progress: meter.show})
				meter.clear()
				if err != nil {
					return interrupted(ctx, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "pulled %s (%s, %s)\n", plain(img.Name), plain(shortID(img.ID)), bytesOf(img.Size))
			}
			return nil
		},
	}
}

func imageLoad(open openImages) *cobra.Command {
	var o image.LoadOptions
	cmd := &cobra.Command{
		Use:   "load PATH...",
		Short: `Load images from files that "docker save" or OCI tools wrote`,
		Long: `Load reads docker archives and OCI layouts, as tar files (gzip or plain), as directories,
or from standard input for "-".`,
		Example: `  sampan image load image.tar
  docker save busybox | sampan image load -
  sampan image load --name worker:dev ./oci-layout`,
		Args: wantArgs(cobra.MinimumNArgs(1), "which archive? Give a file, a directory or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			meter := newMeter()
			o.Progress = meter.show
			for _, path := range args {
				loaded, err := s.Load(ctx, path, o)
				meter.clear()
				if err != nil {
					return interrupted(ctx, err)
				}
				for _, img := range loaded {
					fmt.Fprintf(cmd.OutOrStdout(), "loaded %s (%s, %s)\n", plain(img.Name), plain(shortID(img.ID)), bytesOf(img.Size))
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&o.Name, "name", "", "give the archive's image this name, besides those that it brings")
	return cmd
}

// imageList makes nothing where there is nothing to list.
func imageList(open openImages, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the images",
		Args:    wantArgs(cobra.NoArgs, "ls takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []*image.Image
			if _, err := os.Stat(filepath.Join(*dir, "images")); !errors.Is(err, os.ErrNotExist) {
				s, err := open()
				if err != nil {
					return err
				}
				if all, err = s.List(); err != nil {
					return err
				}
			}
			rows := [][]string{{"NAME", "IMAGE ID", "SIZE", "AGE", "ORIGIN"}}
			for _, img := range all {
				origin := "pulled"
				if img.Loaded {
					origin = "loaded"
				}
				rows = append(rows, []string{familiar(img.Name), shortID(img.ID), bytesOf(img.Size),
					utilduration.HumanDuration(time.Since(img.At)), origin})
			}
			fmt.Fprint(cmd.OutOrStdout(), table(rows))
			return nil
		},
	}
}

func imageRemove(open openImages) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME...",
		Aliases: []string{"remove"},
		Short:   "Forget images; their space is freed when nothing uses it",
		Args:    wantArgs(cobra.MinimumNArgs(1), "which image?"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			for _, ref := range args {
				if err := s.Remove(ref); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", plain(ref))
			}
			p, err := s.Prune(image.PruneOptions{})
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s freed\n", bytesOf(p.Bytes))
			}
			return err
		},
	}
}

func imagePrune(open openImages) *cobra.Command {
	var o image.PruneOptions
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what no image needs",
		Long: `Prune removes layers that no image needs; with --all also every image that was pulled and
that no container uses now. Images that were loaded by hand cannot be pulled again, as they
are: they stay, unless --loaded says otherwise.`,
		Args: wantArgs(cobra.NoArgs, "prune takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			if o.Loaded && !o.Unused {
				return usage(errors.New("--loaded goes with --all"))
			}
			p, err := s.Prune(o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed %d images and %d layers, %s\n", p.Images, p.Layers, bytesOf(p.Bytes))
			return nil
		},
	}
	cmd.Flags().BoolVarP(&o.Unused, "all", "a", false, "also remove pulled images that no container uses")
	cmd.Flags().BoolVar(&o.Loaded, "loaded", false, "with --all: those that were loaded by hand, too")
	return cmd
}

// meter shows how far a transfer is, on a terminal only.
type meter struct{ out *console }

func newMeter() *meter { return &meter{newConsole(os.Stdout, os.Stderr)} }

func (m *meter) show(p image.Progress) {
	line := fmt.Sprintf("%s: layer %d of %d, %s", p.Ref, p.Layer, p.Layers, bytesOf(p.Done))
	if p.Total > p.Done {
		line += " of " + bytesOf(p.Total)
	}
	m.out.Status([]string{line})
}

func (m *meter) clear() { m.out.Status(nil) }

func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &exitError{code: exitInterrupted}
	}
	return err
}

// familiar is a name as people write it.
func familiar(name string) string {
	name = strings.TrimPrefix(name, "index.docker.io/")
	return strings.TrimPrefix(name, "library/")
}

func shortID(id string) string {
	_, hex, _ := strings.Cut(id, ":")
	return hex[:min(12, len(hex))]
}

// bytesOf prints a size with a unit, as docker does.
func bytesOf(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
