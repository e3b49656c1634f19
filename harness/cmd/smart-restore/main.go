// Command smart-restore runs the conformance suite. The Makefile calls it; its settings are flags or
// environment variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/smart-restore/conformance/harness/explore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/series"
	"github.com/smart-restore/conformance/harness/session"
	"github.com/smart-restore/conformance/harness/settings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once; the next run cleans up
	err := root().ExecuteContext(ctx)
	switch {
	case err == nil:
	case errors.Is(err, session.ErrNotProven), errors.Is(err, session.ErrWorse):
		os.Exit(1) // what was printed has said it
	default:
		fmt.Fprintln(os.Stderr, "\nsmart-restore:", err)
		os.Exit(2)
	}
}

func root() *cobra.Command {
	root := &cobra.Command{
		Use:           "smart-restore",
		Short:         "Proves on a real cluster whether a Kyverno + VolSync policy brings data back",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	for _, setting := range settings.All() {
		root.PersistentFlags().String(setting.Flag(), "", fmt.Sprintf("%s; also %s", setting.Meaning, setting.Name))
	}
	root.PersistentFlags().Lookup("plan").NoOptDefVal = "1"
	for _, c := range []struct {
		name, short string
		run         func(*session.Session, context.Context) error
	}{
		{"test", "the same as e2e: test --policy ./my-policy", (*session.Session).E2E},
		{"up", "put a stack up and keep it", (*session.Session).Up},
		{"down", "remove the kept stack", (*session.Session).Down},
		{"list", "list the specs with their requirements", (*session.Session).List},
		{"images", "show what the stack consists of and where each piece would come from", (*session.Session).Images},
		{"prune", "remove the images that no stack is made of: earlier versions of them", (*session.Session).Prune},
		{"clean", "remove the kept stack, everything built, and the data of the Docker engine that make e2e has started", (*session.Session).Clean},
		{"bench", "show the phases' times of the last run beside its longest spec", (*session.Session).Bench},
	} {
		root.AddCommand(&cobra.Command{Use: c.name, Short: c.short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, func(s *session.Session) error { return c.run(s, cmd.Context()) })
		}})
	}
	root.AddCommand(e2eCommand(), &cobra.Command{Use: "known-bad [name...]", Short: "see policies that are known to be bad be caught, all or those named", RunE: func(cmd *cobra.Command, names []string) error {
		return with(cmd, func(s *session.Session) error { return s.KnownBad(cmd.Context(), names) })
	}})
	root.AddCommand(&cobra.Command{Use: "blind [row...]", Short: "break the suite's own senses one at a time, and see that no verdict is wrong", RunE: func(cmd *cobra.Command, rows []string) error {
		return with(cmd, func(s *session.Session) error { return s.Blind(cmd.Context(), rows) })
	}})
	root.AddCommand(&cobra.Command{Use: "prebuild [stack...]", Short: "build the images of stacks for later; needs no engine", RunE: func(cmd *cobra.Command, names []string) error {
		return with(cmd, func(s *session.Session) error { return s.Prebuild(cmd.Context(), names) })
	}})
	root.AddCommand(&cobra.Command{Use: "explain requirement", Short: "say what a requirement proves, how, what it costs, what a failure usually means and what to look at", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, ids []string) error {
		return with(cmd, func(s *session.Session) error { return s.Explain(cmd.Context(), ids[0]) })
	}})
	root.AddCommand(matrixCommand(), soakCommand(), compareCommand())
	root.AddCommand(aboutReports()...)
	root.AddCommand(checkCommand(), exploreCommand(), calibrateCommand(), mutantsCommand(), galleryCommand(), promisesCommand(), docsCommand())
	root.AddCommand(&cobra.Command{Use: "settings", Short: "list every setting", Args: cobra.NoArgs, Run: func(*cobra.Command, []string) {
		for _, setting := range settings.All() {
			fmt.Printf("  %-16s %s\n                   default: %s\n", setting.Name, setting.Meaning, setting.Default)
		}
	}})
	root.AddCommand(&cobra.Command{
		Use: "schema name", Short: "print the JSON schema of a file: contract (conformance.yaml)",
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: slices.Sorted(maps.Keys(schemas)),
		RunE: func(cmd *cobra.Command, names []string) error {
			_, err := cmd.OutOrStdout().Write(schemas[names[0]])
			return err
		},
	})
	return root
}

// schemas are those of the files that people write.
var schemas = map[string][]byte{"contract": policy.Schema}

// checkCommand is the command that needs no cluster.
func checkCommand() *cobra.Command {
	var format, record string
	var knownBad, simulator bool
	command := &cobra.Command{Use: "check [policy...]", Short: "find what can be found about policies (default: POLICY) without a cluster", Long: checkHelp, RunE: func(cmd *cobra.Command, paths []string) error {
		if format != "text" && format != "json" {
			return fmt.Errorf("--format=%s is unknown: allowed are text, json", format)
		}
		return with(cmd, func(s *session.Session) error {
			switch {
			case knownBad:
				return s.CheckKnownBad(cmd.Context())
			case simulator:
				return s.ExamineSimulator(cmd.Context())
			}
			return s.Check(cmd.Context(), paths, format == "json", record)
		})
	}}
	command.Flags().StringVar(&format, "format", "text", "text or json")
	command.Flags().StringVar(&record, "record", "", "write the verdicts into this `file`, too")
	command.Flags().BoolVar(&knownBad, "known-bad", false, "instead: see policies that are known to be bad be caught")
	command.Flags().BoolVar(&simulator, "simulator", false, "instead: vet, lint and test the simulator itself, in a checkout")
	return command
}

const checkHelp = `Check plays situations with a policy on Kyverno's own engine, without a cluster, and prints what is wrong with the policy,
where, and what was not looked at.

Exit codes:
  0  nothing is wrong that the policy's contract does not expect. What was not looked at does not count, nor what is unknown here and there.
  1  something is wrong, or nothing could be said of the policy.
  2  the check could not be made: a policy or a contract that cannot be read, a setting that is wrong.`

// galleryCommand is about setups as people have them.
func galleryCommand() *cobra.Command {
	var write string
	command := &cobra.Command{
		Use: "gallery folder...", Short: "check small setups as people have them, a line for each", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, folders []string) error {
			return with(cmd, func(s *session.Session) error {
				if write != "" {
					return s.WriteGallery(cmd.Context(), folders, write)
				}
				return s.Gallery(cmd.Context(), folders)
			})
		},
	}
	command.Flags().StringVar(&write, "write", "", "instead: put what each does not hold into this Markdown `file`, between the lines that mark its place")
	return command
}

// e2eCommand runs the specs, or plays a history.
func e2eCommand() *cobra.Command {
	var history string
	command := &cobra.Command{Use: "e2e", Short: "run the selected specs, to a verdict", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return with(cmd, func(s *session.Session) error {
			if history != "" {
				return s.Replay(cmd.Context(), history)
			}
			return s.E2E(cmd.Context())
		})
	}}
	command.Flags().StringVar(&history, "replay", "", "the file of a history of explore's, which is played on the cluster instead of the specs")
	return command
}

// exploreCommand looks where nobody has looked. It needs no cluster.
func exploreCommand() *cobra.Command {
	var length, seed, replay string
	var knownBad bool
	command := &cobra.Command{Use: "explore", Short: "play random histories with POLICY on Kyverno's own engine, without a cluster", Long: exploreHelp, RunE: func(cmd *cobra.Command, names []string) error {
		lasts, err := time.ParseDuration(length)
		if err != nil || lasts <= 0 {
			return fmt.Errorf("FOR=%s: wanted a time above zero, such as 60s or 10m", length)
		}
		if !knownBad && len(names) > 0 {
			return errors.New("explore takes names with --known-bad only: the policy is --policy")
		}
		drawn, err := seedOf(seed)
		if err != nil {
			return err
		}
		return with(cmd, func(s *session.Session) error {
			o := explore.Options{For: lasts, Seed: drawn}
			if knownBad {
				return s.ExploreKnownBad(cmd.Context(), o, names)
			}
			return s.Explore(cmd.Context(), o, replay)
		})
	}}
	command.Flags().StringVar(&length, "for", "60s", "for how long histories are played, a `duration`")
	command.Flags().StringVar(&seed, "seed", "", "the `number` that the histories are drawn with (default: a fresh one, which is printed)")
	command.Flags().StringVar(&replay, "replay", "", "instead: play the history in this `file`")
	command.Flags().BoolVar(&knownBad, "known-bad", false, "instead: say of policies that are known to be bad, all or those named, how long each takes to be found")
	return command
}

// calibrateCommand holds what explore stands on against a cluster.
func calibrateCommand() *cobra.Command {
	var foreseen bool
	command := &cobra.Command{
		Use: "explore-calibrate [file...]", Short: "play recorded histories, all or those named, on the cluster, and compare it event by event with what explore foresees",
		RunE: func(cmd *cobra.Command, files []string) error {
			return with(cmd, func(s *session.Session) error {
				if foreseen {
					return s.Foreseen(cmd.Context(), files)
				}
				return s.Calibrate(cmd.Context(), files)
			})
		},
	}
	command.Flags().BoolVar(&foreseen, "foreseen", false, "instead: print what is foreseen after each event, without a cluster")
	return command
}

// seedOf is a seed as somebody wrote it. None: any.
func seedOf(text string) (uint64, error) {
	if text == "" {
		return uint64(rand.Uint32()), nil
	}
	seed, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("SEED=%s: wanted a whole number from 0 to %d", text, uint32(math.MaxUint32))
	}
	return seed, nil
}

const exploreHelp = `Explore plays random histories of ordinary events with a policy: PVCs come, change and go, S3 and Kyverno are away and come back, movers
run and are killed, time passes. After each event it looks whether the data are as they must be. A finding is the shortest history that it could
make of the one that was drawn, and is written into a file, too.

Exit codes:
  0  every invariant that the policy's contract promises holds in every history that was played.
  1  one does not hold.
  2  it cannot be told: a policy, a history or a setting that is wrong, or what could not be played.`

// promisesCommand is about contracts alone.
func promisesCommand() *cobra.Command {
	var write string
	command := &cobra.Command{
		Use: "promises [policy...]", Short: "put what policies (default: POLICY) promise beside each other, requirement by requirement, as a table in Markdown",
		RunE: func(cmd *cobra.Command, paths []string) error {
			return with(cmd, func(s *session.Session) error { return s.Promises(cmd.Context(), paths, write) })
		},
	}
	command.Flags().StringVar(&write, "write", "", "put it into this Markdown file, between the lines that mark its place")
	return command
}

// soakCommand is about what fails now and then.
func soakCommand() *cobra.Command {
	runs, folder := 0, ""
	command := &cobra.Command{Use: "soak", Short: "run the selected specs many times, each time on a new stack (or on the cluster of KUBE_CONTEXT), and say which did not always pass", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return with(cmd, func(s *session.Session) error { return series.Of(s).Soak(cmd.Context(), runs, folder) })
	}}
	command.Flags().IntVar(&runs, "runs", 20, "how many times")
	command.Flags().StringVar(&folder, "series", "", "the `folder` of an earlier soak to go on with")
	return command
}

// compareCommand runs two policies.
func compareCommand() *cobra.Command {
	base := ""
	command := &cobra.Command{
		Use: "compare", Short: "run the selected specs on a base policy and on POLICY, and compare their decisions", Args: cobra.NoArgs,
		Long: `Runs the selected specs on the policy of --base, and then on POLICY, and compares their decisions as diff does.

The exit code is that of POLICY's run: 0 if every selected requirement was proven, 1 if not, 2 if it came to no verdict, or if
there is no policy at --base. A base that comes to no verdict leaves nothing to compare with, and does not change the exit code.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, func(s *session.Session) error { return series.Of(s).Compare(cmd.Context(), base) })
		},
	}
	command.Flags().StringVar(&base, "base", "", "the `policy` to compare POLICY with: a manifest, a folder or a conformance.yaml")
	return command
}

// with opens a session for one command. A setting's flag beats its environment variable.
func with(cmd *cobra.Command, do func(*session.Session) error) error {
	return withGiven(cmd, nil, do)
}

// withGiven is with, for a command that knows some of the settings by itself: they beat the environment, and flags beat them.
func withGiven(cmd *cobra.Command, known map[string]string, do func(*session.Session) error) (err error) {
	given := map[string]string{}
	maps.Copy(given, known)
	for _, setting := range settings.All() {
		if flag := cmd.Flags().Lookup(setting.Flag()); flag != nil && flag.Changed {
			given[setting.Name] = flag.Value.String()
		}
	}
	s, err := session.Open(os.Stdout, os.Stderr, given)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return do(s)
}
