package cli

import (
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// What a room's owner decides about it, as flags of room create and room set: policy makes a new room's, change changes
// one that is there, check refuses what would have no effect.

// policyFlags are what a room's owner decides about it.
type policyFlags struct {
	// retain and bytes are how long messages are stored, and how much of them; 0 bytes is no limit.
	retain retention
	bytes  uint64
	// history is shared or joined: whether newcomers may read what was stored before them.
	history string
	// plain is a room without encryption, which room create alone can make.
	plain bool
	// pad hides the sizes of messages.
	pad bool
	// rekey is when the key is renewed by itself; zero: never.
	rekey unibus.RekeyAfter
}

// define adds the flags of a policy that may change.
func (f *policyFlags) define(c *cobra.Command) {
	flags := c.Flags()
	flags.Var(newDefault(&f.retain, "30d", parseRetention), "retain", "how long messages are stored: a `DURATION`, 0 for ever, or none to store nothing")
	flags.Var(newDefault(&f.bytes, "1GiB", parseSize), "max-bytes", "the most that is stored: a `SIZE` of at least 4KiB, 0 for no limit")
	flags.Var(newDefault(&f.history, "shared", parseOneOf("shared", "joined")), "history", "what newcomers may read: shared (all that was stored while it is so) or joined (from then on)")
	flags.BoolVar(&f.pad, "pad", false, "hide the sizes of messages")
	flags.Var(newValue(&f.rekey, parseRekeyAfter), "rekey-after", "renew the key after so many messages (10000m, counted by each process), or so long (30d); 0: only when asked to")
	completeValues(c, "history", "shared", "joined")
}

// tellRekey says what an m is: elsewhere it is a minute.
func (f *policyFlags) tellRekey(c *console) {
	if n := f.rekey.Messages; n > 0 {
		c.notice("its key is renewed after %s, counted by each process that writes or reads", english.Plural(int(n), "message", ""))
	}
}

// change makes of a room's policy what the flags that were given say.
func (f *policyFlags) change(p *unibus.Policy, given func(flag string) bool) {
	if given("history") {
		p.History = f.history
	}
	if given("pad") {
		p.Pad = f.pad
	}
	if given("rekey-after") {
		p.RekeyAfter = f.rekey
	}
	switch {
	case given("retain") && f.retain.none:
		p.Retain = nil
		return
	// It stored nothing so far: what is not named of what it stores from now on is the default.
	case p.Retain == nil && (given("retain") || given("max-bytes")):
		p.Retain = &unibus.Retain{Age: unibus.Number(f.retain.age / time.Second), Bytes: unibus.Number(f.bytes)}
		return
	case p.Retain == nil:
		return
	}
	// What is not named stays as it is; the policy of the room that is changed is not written to.
	kept := *p.Retain
	if given("retain") {
		kept.Age = unibus.Number(f.retain.age / time.Second)
	}
	if given("max-bytes") {
		kept.Bytes = unibus.Number(f.bytes)
	}
	p.Retain = &kept
}

// check refuses what would have no effect: who gives it would believe that it has. sized says that --max-bytes is given.
func (f *policyFlags) check(sized bool) error {
	const useless = "has no effect in a room without encryption (--plain): there is no key that some have and others have not"
	switch {
	case f.plain && f.rekey != unibus.RekeyAfter{}:
		return usage("--rekey-after %s", useless)
	case f.plain && f.history == "joined":
		return usage("--history joined %s", useless)
	case f.plain && f.pad:
		return usage("--pad has no effect in a room without encryption (--plain): the sizes stand there to be read")
	case f.retain.none && sized:
		return usage("--max-bytes has no effect with --retain none: nothing is stored")
	}
	return nil
}

// policy is a new room's.
func (f *policyFlags) policy() unibus.Policy {
	p := unibus.DefaultPolicy()
	if f.plain {
		p.Encryption = "none"
	}
	p.History, p.Pad, p.RekeyAfter = f.history, f.pad, f.rekey
	if f.retain.none {
		p.Retain = nil
		return p
	}
	p.Retain.Age = unibus.Number(f.retain.age / time.Second)
	p.Retain.Bytes = unibus.Number(f.bytes)
	return p
}

// retention is how long messages are stored.
type retention struct {
	age  time.Duration // 0: for ever
	none bool          // they are not stored at all
}

// parseRetention reads how long messages are stored: a duration of at least a second, 0 for ever, or none.
func parseRetention(text string) (retention, error) {
	if text == "none" {
		return retention{none: true}, nil
	}
	age, err := parseDuration(text)
	if err != nil || age > 0 && age < time.Second {
		return retention{}, insteadUnit(text, "d", "30d", "not a duration of at least a second (12h, 30d), 0 for ever, or none")
	}
	return retention{age: age}, nil
}

// parseRekeyAfter reads a number of messages (10000m) or a duration; 0 for never.
func parseRekeyAfter(s string) (unibus.RekeyAfter, error) {
	var after unibus.RekeyAfter
	if s == "0" {
		return after, nil
	}
	if count, ok := strings.CutSuffix(strings.TrimSuffix(s, "sgs"), "m"); ok { // also as 10000msgs
		if n, err := strconv.ParseUint(count, 10, 53); err == nil && n > 0 {
			after.Messages = unibus.Number(n)
			return after, nil
		}
	}
	d, err := parseDuration(s)
	if err != nil || d < time.Minute {
		return after, insteadUnit(s, "m", "720h", "neither messages (10000m) nor a duration of at least a minute (1800s, 12h, 30d), nor 0 for never")
	}
	after.Age = unibus.Number(d / time.Second)
	return after, nil
}
