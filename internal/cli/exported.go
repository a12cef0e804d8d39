package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
)

// log FILE and members FILE: what an export or a backup says of who did what, and of who was in when, with no server and no
// identity. As with verify, a file is meant where one of that name begins as archives do.

// roomOrFile runs a command on a file of logs where its first argument is one, and else online.
func roomOrFile(file, online func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if namesFile(args) {
			return file(cmd, args)
		}
		return orFile(args, online(cmd, args))
	}
}

// orFile adds to the error of a command that found no room of a name what there is of a file that may have been meant.
func orFile(args []string, err error) error {
	switch {
	case remedy.Of(err).Kind != remedy.ListRooms || len(args) == 0:
		return err
	case namesFile(args):
		return fmt.Errorf("%w; the FILE of that name is verified by itself", err)
	case isFile(args[0]):
		return fmt.Errorf("%w; the file of that name is not an export or a backup", err)
	case strings.ContainsRune(args[0], os.PathSeparator):
		return fmt.Errorf("%w; nor is there a file of that name", err)
	}
	return err
}

// exported are the logs of a file that a command is about, each verified from its first entry.
type exported struct {
	logs  []admin.ReadLog
	names *ledger.Names
}

// namesFile reports whether the first argument of a command is a file of logs.
func namesFile(args []string) bool { return len(args) > 0 && isFile(args[0]) && isArchive(args[0]) }

// busAlone reports whether --bus was given without a bus.
func busAlone(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("bus") && cmd.Flag("bus").Value.String() == noBusID
}

// readExported reads the logs of a file: that of the room that is named behind it, or with bus that of the allowlist, or all.
func readExported(ctx context.Context, args []string, bus bool) (*exported, error) {
	limitMemory(clientMemory) // the file may be anybody's
	logs, names, err := admin.ReadArchive(ctx, args[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	switch {
	case bus:
		logs = slices.DeleteFunc(logs, func(l admin.ReadLog) bool { return l.Bus == nil })
	case len(args) > 1:
		all := logs
		if logs = roomsCalled(all, args[1]); len(logs) == 0 {
			return nil, fmt.Errorf("%s: %w: %s has no such room", args[1], unibus.ErrNotFound, args[0])
		}
		if len(logs) > 1 {
			return nil, usage("%s: %s has %d rooms of that name: %s", args[1], args[0], len(logs), strings.Join(idsOf(logs), ", "))
		}
	}
	return &exported{logs, names}, nil
}

// roomsCalled are the rooms of an id, or of a subject or the beginning of an id: whoever made a room gave it any subject. A file
// does not say whose room is one's own.
func roomsCalled(logs []admin.ReadLog, name string) (found []admin.ReadLog) {
	var whole unibus.ID
	err := whole.UnmarshalText([]byte(name))
	for _, l := range logs {
		begins := len(name) >= unibus.PrefixOfOthers && strings.HasPrefix(l.ID.String(), strings.ToLower(name))
		if l.Room != nil && (err == nil && l.ID == whole || err != nil && (begins || l.Room.Subject == name)) {
			found = append(found, l)
		}
	}
	return found
}

// idsOf are the ids of logs.
func idsOf(logs []admin.ReadLog) []string {
	ids := make([]string, len(logs))
	for i, l := range logs {
		ids[i] = l.ID.String()
	}
	return ids
}

// name is what somebody was called when an entry of a log was made.
func (x *exported) name(l admin.ReadLog, key unibus.PublicKey, e *ledger.Entry) string {
	if l.Bus != nil {
		return x.names.Before(key, e.Seq)
	}
	return x.names.At(key, e.Time)
}

// keys are those that a USER may mean: a key, or everyone who ever had that name.
func (x *exported) keys(user string) ([]unibus.PublicKey, error) {
	if key, err := unibus.ParseKey(user); err == nil {
		return []unibus.PublicKey{key}, nil
	}
	keys := x.names.Called(user)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: %w: nobody in the file was ever called so", user, unibus.ErrNotFound)
	}
	return keys, nil
}

// exportedEntryJSON is an entry of one of the logs of a file.
type exportedEntryJSON struct {
	Log     unibus.ID `json:"log"`
	LogName string    `json:"log_name"` // the bus's, or the room's subject
	title   string    // what people call the log
	unibus.LogEntry
}

// entry is an entry as log prints it.
func (x *exported) entry(l admin.ReadLog, e *ledger.Entry) exportedEntryJSON {
	name := func(key unibus.PublicKey) string { return x.name(l, key, e) }
	return exportedEntryJSON{l.ID, nameOfLog(l.State), titleOfLog(l.State), unibus.LogEntry{
		Seq: e.Seq, Time: e.Time, By: e.By, Name: name(e.By), Op: e.Op, Body: e.Body, Hash: e.Hash.String(),
		Statement: e.Statement, Summary: e.Words(name), Brief: e.Brief(name),
	}}
}

// runFile prints the logs of a file.
func (l *logCommand) runFile(cmd *cobra.Command, args []string) error {
	if l.follow {
		return usage("log %s --follow: nothing is added to a file", args[0])
	}
	x, err := readExported(cmd.Context(), args, busAlone(cmd))
	if err != nil {
		return err
	}
	var by []unibus.PublicKey
	if l.by != "" {
		if by, err = x.keys(l.by); err != nil {
			return err
		}
	}
	shown := []exportedEntryJSON{}
	for _, log := range x.logs {
		for _, e := range log.Entries {
			if !e.Time.Before(l.since) && (l.by == "" || slices.Contains(by, e.By)) {
				shown = append(shown, x.entry(log, e))
			}
		}
	}
	if err := l.a.out.value(shown, func() { l.tableOfFile(shown, len(x.logs) > 1) }); err != nil {
		return err
	}
	if len(shown) == 0 {
		l.a.notice("no entries match")
	}
	for _, log := range x.logs {
		l.a.notice("%s: verified from entry 1 to %d (%s)", titleOfLog(log.State), log.Head.Seq, l.a.headHash(log.Head.Hash.String()))
	}
	return nil
}

// tableOfFile prints entries as log does, and if they are of several logs of which.
func (l *logCommand) tableOfFile(shown []exportedEntryJSON, several bool) {
	header := []string{"SEQ", "TIME", "BY", "OP", "WHAT"}
	if several {
		header = append([]string{"LOG"}, header...)
	}
	entries := make([]unibus.LogEntry, len(shown))
	for i, e := range shown {
		entries[i] = e.LogEntry
	}
	rows := l.rows(entries)
	if several {
		for i := range rows {
			rows[i] = append([]string{shown[i].title}, rows[i]...)
		}
	}
	l.a.out.table(header, rows)
}

// tenureJSON is a time during which somebody was in a room, or on the allowlist, as one thing.
type tenureJSON struct {
	Log       unibus.ID         `json:"log"`
	LogName   string            `json:"log_name"` // the bus's, or the room's subject
	title     string            // what people call the log
	Key       unibus.PublicKey  `json:"key"`
	Name      string            `json:"name"` // when it began
	Role      unibus.Role       `json:"role"`
	From      time.Time         `json:"from"` // as the author of the entry claims
	FromSeq   uint64            `json:"from_seq"`
	FromBy    unibus.PublicKey  `json:"from_by"`
	FromName  string            `json:"from_name"`
	Until     *time.Time        `json:"until,omitempty"` // nil: it had not ended where the log ends
	UntilSeq  uint64            `json:"until_seq,omitempty"`
	UntilBy   *unibus.PublicKey `json:"until_by,omitempty"`
	UntilName string            `json:"until_name,omitempty"`
	Expires   *time.Time        `json:"expires,omitempty"` // of a user of the bus who may not connect after that, without an entry
}

// tenure is one as members prints it.
func (x *exported) tenure(l admin.ReadLog, t ledger.Tenure) tenureJSON {
	j := tenureJSON{
		Log: l.ID, LogName: nameOfLog(l.State), title: titleOfLog(l.State), Key: t.Key, Name: x.name(l, t.Key, t.From), Role: t.Role,
		From: t.From.Time, FromSeq: t.From.Seq, FromBy: t.From.By, FromName: x.name(l, t.From.By, t.From),
	}
	if l.Bus != nil { // the entry itself may give the name
		j.Name = x.names.Before(t.Key, t.From.Seq+1)
	}
	if e := t.Until; e != nil {
		j.Until, j.UntilSeq, j.UntilBy, j.UntilName = &e.Time, e.Seq, &e.By, x.name(l, e.By, e)
	} else if l.Bus != nil {
		if u := l.Bus.User(t.Key); !u.Expires.IsZero() {
			j.Expires = &u.Expires
		}
	}
	return j
}

// runFile prints who was in the rooms of a file when, and on whose word.
func (m *membersCommand) runFile(cmd *cobra.Command, args []string) error {
	bus := busAlone(cmd)
	x, err := readExported(cmd.Context(), args, bus)
	if err != nil {
		return err
	}
	list := []tenureJSON{}
	for _, l := range x.logs {
		if l.Room != nil || bus {
			for _, t := range l.Tenures {
				list = append(list, x.tenure(l, t))
			}
		}
	}
	if err := m.a.out.value(list, func() { m.tableOfFile(list) }); err != nil {
		return err
	}
	for _, l := range x.logs {
		if l.Room != nil || bus {
			m.a.notice("%s: verified from entry 1 to %d (%s)", titleOfLog(l.State), l.Head.Seq, m.a.headHash(l.Head.Hash.String()))
		}
	}
	return nil
}

// tableOfFile prints tenures, one a line.
func (m *membersCommand) tableOfFile(list []tenureJSON) {
	keys := make([]string, len(list))
	for i, t := range list {
		keys[i] = t.Key.String()
	}
	short := m.a.out.shortened(m.full, keys)
	rows := make([][]string, len(list))
	for i, t := range list {
		until := ""
		switch {
		case t.Until != nil:
			until = formatTime(*t.Until)
		case t.Expires != nil:
			until = formatTime(*t.Expires)
		}
		rows[i] = []string{t.title, t.Name, string(t.Role), formatTime(t.From), t.FromName, until, t.UntilName, short(keys[i])}
	}
	m.a.out.table([]string{"LOG", "NAME", "ROLE", "FROM", "BY", "UNTIL", "BY", "KEY"}, rows)
}
