package cli

import (
	"bufio"
	"context"
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/service"
)

// This file connects: most commands are a method that is given a client, or a room, and session brings it.

// session is how a run reaches the bus: it opens a client as the settings say, hands it to the command and closes it.
type session struct {
	console
	cmd        *cobra.Command // the command that runs
	words      []string       // the command line, without the name of the program
	acceptHash string         // of a log that a person takes for what it is (verify --accept)
	lineEnded  bool           // by endLine
}

// quickTimeout is how long completions and whoami wait for a server.
const quickTimeout = time.Second

// interrupted reports whether the command was told to end.
func (s *session) interrupted() bool { return s.context().Err() != nil }

// confirm returns nil when the person says yes, or --yes did. It is a usage error where nobody can be asked: what cannot be
// undone is not done because no one was there to say no.
func (s *session) confirm(question string) error {
	if s.set.yes {
		return nil
	}
	if !s.interactive() {
		return hinted(usage("%s: without a terminal this needs --yes", question), hintYes(s.words))
	}
	s.err.print("%s? [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // what reads a terminal cannot be told to end: it ends with the process
		line, _ := bufio.NewReader(s.in).ReadString('\n') // an end without a line is a no
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-s.context().Done():
		return s.context().Err()
	case line := <-answer:
		if strings.EqualFold(line, "y") || strings.EqualFold(line, "yes") {
			return nil
		}
		return errors.New("not confirmed")
	}
}

// confirmOnTerminal is confirm for what can be undone: where nobody can be asked it counts as confirmed.
func (s *session) confirmOnTerminal(question string) error {
	if !s.interactive() {
		return nil
	}
	return s.confirm(question)
}

// context is that of the command that runs.
func (s *session) context() context.Context {
	if s.cmd == nil {
		return context.Background()
	}
	return s.cmd.Context()
}

// endLine ends the line of a terminal on which the ^C stands that told the command to end, once.
func (s *session) endLine() {
	if s.interrupted() && s.err.terminal && !s.lineEnded {
		s.lineEnded = true
		s.err.print("\n")
	}
}

// options are how this run connects, for the rooms that it will use.
func (s *session) options(rooms ...string) (unibus.Options, error) {
	set := s.set
	if set.store == service.JetStream {
		return unibus.Options{}, hinted(usage("%s: that is for unibus serve", set.told("store", service.JetStream)), hintThroughService)
	}
	file := set.identityFile()
	id, err := set.loadIdentity()
	if err != nil {
		return unibus.Options{}, err
	}
	server, natsContext := set.leads()
	return unibus.Options{
		Identity: id, Name: unibus.IdentityName(file), StateDir: set.stateDir(),
		Server: server, Context: natsContext, TLSCA: set.tlsCA, Store: set.store, Keys: set.keys, Bus: set.bus,
		Timeout: set.timeout, Rooms: rooms,
		Confirm: set.yes && s.cmd.Annotations[annotationAsks] == "", Accept: s.acceptHash,
		Notice: func(text string) { s.notice("%s", text) },
	}, nil
}

// What the memory of a process is kept below, in bytes, where that can be done by freeing what is not used any more, which
// a collector in no hurry lets double. A reader holds no more than 128 MiB of what is unfinished (SPEC.md §6); a server
// keeps what was stored in the last 10 s, in case it is read.
const (
	clientMemory = 150 << 20
	serverMemory = 1 << 30
)

// limitMemory keeps the memory below a limit, unless the environment gives another.
func limitMemory(memory int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory)
	}
}

// with connects, for rooms that will be used, does the work and closes.
func (s *session) with(ctx context.Context, work func(c *unibus.Client) error, rooms ...string) error {
	o, err := s.options(rooms...)
	if err != nil {
		return err
	}
	// From here on the process may hold what others send it.
	limitMemory(clientMemory)
	c, err := unibus.Connect(ctx, o)
	if errors.Is(err, unibus.ErrNoBus) && o.Store != "" && s.cmd.Annotations[annotationFounds] != "" {
		if err = unibus.Found(ctx, o); err == nil {
			c, err = unibus.Connect(ctx, o)
		}
	}
	if err != nil {
		return err
	}
	return errlist.Join(suggest(ctx, c, work(c)), c.Close())
}

// clientRun is the method run of a command that needs a client.
type clientRun func(ctx context.Context, c *unibus.Client, args []string) error

// roomRun is the method run of a command whose first argument is a room; args are those that follow.
type roomRun func(ctx context.Context, c *unibus.Client, r *unibus.Room, args []string) error

// client runs a command with a client.
func (s *session) client(run clientRun) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return s.with(cmd.Context(), func(c *unibus.Client) error { return run(cmd.Context(), c, args) })
	}
}

// room runs a command with the room that its first argument names.
func (s *session) room(run roomRun) func(*cobra.Command, []string) error {
	return s.client(func(ctx context.Context, c *unibus.Client, args []string) error {
		r, err := c.Room(ctx, args[0])
		if err != nil {
			return s.swapped(ctx, c, args, err)
		}
		return run(ctx, c, r, args[1:])
	})
}

// swapped adds to the error of a room that is not there what helps when the first argument names a user and the second a room.
func (s *session) swapped(ctx context.Context, c *unibus.Client, args []string, err error) error {
	if remedy.Of(err).Kind != remedy.ListRooms || len(args) < 2 {
		return err
	}
	user := slices.ContainsFunc(c.Users(), func(u unibus.User) bool {
		return u.Active && (u.Name == args[0] || strings.EqualFold(u.Key.String(), args[0]))
	})
	rooms, _ := c.ListMyRooms(ctx) // what fails is told already
	if !user || !slices.ContainsFunc(rooms, func(r unibus.RoomRef) bool { return r.Subject == args[1] }) {
		return err
	}
	return hinted(err, hintSwapped(s.cmd, s.words, args))
}

// userKeys resolves USER arguments.
func userKeys(ctx context.Context, c *unibus.Client, names []string) ([]unibus.PublicKey, error) {
	keys := make([]unibus.PublicKey, len(names))
	for i, name := range names {
		u, err := c.User(ctx, name)
		if err != nil {
			return nil, err
		}
		keys[i] = u.Key
	}
	return keys, once(names, keys)
}

// once is a usage error when somebody is named twice, perhaps once by name and once by key: something else was meant.
func once(names []string, keys []unibus.PublicKey) error {
	for i, key := range keys {
		if j := slices.Index(keys[:i], key); j >= 0 {
			return usage("%s: the same user as %s, named twice", names[i], names[j])
		}
	}
	return nil
}
