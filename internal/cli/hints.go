package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
)

// What helps, in one place: hint maps the kind of an error, and the facts it carries, to the command or flag that helps.
// Where only the command at hand knows what helps, it takes a text from here and adds it with hinted. What is made
// of the command line itself is in usagehints.go. No other file holds such a text, so that a command that is renamed is renamed in what is said of it.

// hint is what helps with an error; empty for nothing. What is most specific comes first: TLS, then what a command
// added, then what the library says, then kinds.
func (a *app) hint(err error) string {
	if hint := hintTLS(err); hint != "" { // the server is running: nothing about starting one
		return hint
	}
	if errors.As(err, new(*bus.KeysError)) && errors.Is(err, unibus.ErrNotFound) {
		return "--keys FILE: service.nk in the data folder of unibus serve, or the one that unibus nats-config made"
	}
	if errors.As(err, new(*bus.ContextError)) && errors.Is(err, unibus.ErrNotFound) {
		return "nats context ls shows those there are"
	}
	var extra superfluousError
	if errors.As(err, &extra) { // also where all that was known is how the command is used
		return hintWithout(a.cmd, a.words, extra.flags)
	}
	var own hintError
	if errors.As(err, &own) {
		return own.hint
	}
	if errors.As(err, new(outputError)) { // whoever redirects output knows where it goes
		return ""
	}
	help := remedy.Of(err)
	if hint := hintRemedy(help); hint != "" {
		if help.Kind == remedy.MakeIdentity && a.set.identity != "" && a.set.sources["identity"].from == "" {
			hint += " --identity " + shellQuoted(help.Path) // no other command looks there
		}
		if place := a.set.sources["bus"].from; help.Kind == remedy.ListBuses && place != "" {
			hint += "; it is " + place + " that names one"
		}
		return a.asMyself(hint)
	}
	return a.hintOfKind(err)
}

// ofMyself are commands that are about what this identity has verified.
var ofMyself = regexp.MustCompile(`\bunibus (forget|verify|bus|room show) `)

// asMyself has the commands of a hint be those of the identity that this run was given on the command line: another has
// verified something else.
func (a *app) asMyself(hint string) string {
	flags := ""
	for _, name := range []string{"identity", "state"} {
		if f := a.cmd.Flags().Lookup(name); given(f) {
			flags += " --" + name + " " + shellQuoted(f.Value.String())
		}
	}
	if flags == "" || strings.Contains(hint, "--identity") {
		return hint
	}
	return ofMyself.ReplaceAllString(hint, "unibus"+flags+" $1 ")
}

// hintOfKind is what helps with an error of which nothing but its kind is known.
func (a *app) hintOfKind(err error) string {
	switch {
	case errors.Is(err, unibus.ErrStateDamaged):
		return "no server did this: bring back a copy of it that is as new, or " + a.hintForget()
	case errors.Is(err, unibus.ErrStateNotKept):
		return "the folder " + a.set.stateDir() + " has to be yours to write, and its disk to have room"
	case errors.Is(err, store.ErrDamagedThere):
		return hintDamagedThere
	case errors.Is(err, unibus.ErrIntegrity) && len(a.found.rooms) > 0:
		return a.found.hint()
	case errors.Is(err, store.ErrDamaged):
		return hintBackToFile + hintLook
	case errors.Is(err, store.ErrLate):
		return "if the servers are only slow: --timeout 1m"
	case errors.Is(err, syscall.ENOSPC):
		return "make room on that disk"
	case errors.Is(err, syscall.EROFS):
		return "it is on a disk that is mounted read-only"
	case errors.Is(err, unibus.ErrNoBus):
		return "unibus room create or unibus user add makes one there"
	}
	return ""
}

// hintTLS is what helps with a server that does not speak TLS as it has to.
func hintTLS(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &authority):
		return "to trust the authority of its certificate: --tls-ca FILE, with that authority's certificate, from whoever runs the bus"
	case errors.As(err, &name):
		return "go to it by a name that its certificate is for"
	case errors.As(err, &certificate):
		return "its certificate is not valid, or this machine's clock is off: ask whoever runs the bus"
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return "a NATS server answers there, and it is none of a unibus bus"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "it does not speak TLS: nats:// instead of tls://, if that is meant"
	}
	return ""
}

// hintForget says how what was verified is given up, which nothing but a person decides.
func (a *app) hintForget() string {
	o, err := a.options()
	if err != nil {
		return "use another --state DIR"
	}
	return fmt.Sprintf("move %s away while no unibus runs: all that this identity has verified, of every bus, is forgotten with it", o.StateFile())
}

// hintOperator adds what helps when the servers do not let an operator in.
func hintOperator(err error) error {
	switch {
	case errors.Is(err, bus.ErrUnanswered): // for which the library has the hint that fits
	case errors.Is(err, unibus.ErrDenied):
		return hinted(err, "that takes the service's keys, --keys FILE, or a NATS context, --context NAME")
	case errors.Is(err, unibus.ErrUnavailable):
		return hinted(err, "is it running? unibus serve; one elsewhere: unibus join URL, or --server URL")
	}
	return err
}

// hintLook says how to look at what is left of a damaged store. doctor cuts it off, since it is what looks.
const hintLook = "; what is there: unibus doctor"

// Texts that depend on nothing but the situation that their names say.
const (
	// Of the command line and the settings.
	hintServer         = "unibus serve prints where its clients connect: nats://HOST:PORT#BUSID, for unibus join; --server takes what is before the #"
	hintNoScreen       = "without one: unibus sub ROOM, and unibus pub ROOM"
	hintThroughService = "without --store everything goes through the service"
	hintAddress        = "an address as the first contact and errors name it: nats://HOST:PORT, sqlite:PATH or context:NAME"
	hintSettings       = "settings are the global flags but --yes, which answers for one command, and those of unibus serve, without the dashes: unibus help configuration"
	hintSettingsFile   = "a flag's name without dashes, a colon, its value: a line each"
	hintRoutes         = "openapi.yaml, in docs/ or share/doc/unibus/, has the methods and paths; what commands do: unibus help"
	hintFeatures       = "UNIBUS_FEATURES= unibus version -o json shows which there are"
	hintBusID          = "--bus ID, as unibus serve and unibus whoami show it"
	// Of identities and the allowlist.
	hintKey             = "a key begins with U and has 56 characters; they see theirs with unibus whoami"
	hintKeyLine         = "a KEY or CARD and optionally a NAME a line; a key is what unibus whoami shows whoever has it"
	hintName            = "give another one: --name NAME"
	hintWhoIsAdmin      = "unibus user ls shows who is an admin"
	hintUserThere       = "unibus user show USER shows it; another name, role or end: unibus user set USER"
	hintOtherSubject    = "a subject stays taken, also that of a room that is archived: unibus room create OTHER"
	hintSkipExisting    = "to add the others: --skip-existing"
	hintCalledOtherwise = "a line without a NAME leaves the one there; to be called as the file says: unibus user sync --file FILE"
	hintInviteOthers    = "to invite the others: --skip-existing"
	hintKeepAdmin       = "nothing was changed; the file needs the line of an admin whose access has no end, if there is one: unibus user ls --full shows their keys"
	hintRekeyStale      = "unibus rekey --stale"
	hintNameKept        = "who has it keeps it: another name in the file; or, of who is not in it, --prune"
	// Of stores: which one, and how it is looked after.
	hintWhichStore = "--data DIR of the service, --store sqlite:PATH, or --store nats://HOST:PORT"
	hintRestoreTo  = "--store sqlite:PATH, or --store nats://HOST:PORT"
	hintBackupTo   = "unibus backup - >FILE"
	hintScale      = "a bus that is kept in a file is on one machine; unibus migrate takes it to JetStream"
	hintRepair     = "--store URL, or --keys FILE"
	hintCopyAgain  = "give the same unibus migrate or restore again"
	hintServeTells = "unibus serve says when it starts what of its files is damaged"
	hintMarks      = "look at the rooms with unibus verify --all; to begin anew: unibus doctor --repair"
	hintOtherKeys  = "--keys FILE names others"
	hintNewFolder  = "give it a new --data DIR, and bring there what the bus has: unibus migrate, or unibus restore"
	// Of files that are to be verified.
	hintVerifiable = "files that unibus verify --export or unibus backup wrote can be verified, and rooms where a bus answers"
	// Of serve.
	hintServeStore   = "leave it out for a file in the data folder; in NATS servers: --store jetstream"
	hintNoServer     = "leave it out: the servers have a configuration of their own"
	hintKeyPair      = "both are PEM files, the key that of the certificate"
	hintExternalKeys = "--keys FILE; unibus nats-config makes it, and prints the configuration that the servers need with it"
)

// hintUseLine is how a command is used.
func hintUseLine(cmd *cobra.Command) string { return "usage: " + cmd.UseLine() }

// hintCommands is where the commands of a group are shown.
func hintCommands(cmd *cobra.Command) string { return cmd.CommandPath() + " --help shows the commands" }

// hintNear names commands, flags, rooms or users that may have been meant.
func hintNear(names []string) string { return "there is " + strings.Join(names, ", ") }

// hintFlags is where the flags of a command are shown.
func hintFlags(cmd *cobra.Command) string { return cmd.CommandPath() + " --help shows the flags" }

// hintFlag is what a flag is for.
func hintFlag(f *pflag.Flag) string {
	_, does := pflag.UnquoteUsage(f)
	return fmt.Sprintf("--%s: %s", f.Name, does)
}

// hintInstead is a flag with a value that it can have, as it is given in a place: a variable, the configuration file, or,
// if that is empty, the command line.
func hintInstead(place, name, value string) string {
	quoted := value
	if !inert.MatchString(value) {
		quoted = shellQuoted(value)
	}
	switch {
	case place == "":
		return fmt.Sprintf("--%s %s", name, quoted)
	case slices.Contains(variables(name), place):
		return fmt.Sprintf("%s=%s", place, quoted)
	}
	return fmt.Sprintf("%s: %s", name, value)
}

// hintIdentity is for a file that holds an identity already.
func hintIdentity(file string) string {
	return fmt.Sprintf("unibus whoami --identity %s shows whose it is; to make one in another file: unibus init --identity FILE", shellQuoted(file))
}

// hintQuoted is pub with a message of several words.
func hintQuoted(room string, words []string) string {
	return fmt.Sprintf("unibus pub %s %s", shellQuoted(room), shellQuoted(strings.Join(words, " ")))
}

// hintFile is for a command that takes the file from a flag which it was given as an argument.
func hintFile(cmd *cobra.Command, file string) string {
	return fmt.Sprintf("%s --file %s", cmd.CommandPath(), shellQuoted(file))
}

// hintMembers is for someone who is not in a room, whoever else may be.
func hintMembers(room string) string {
	return fmt.Sprintf("unibus members %s shows who is in it", shellQuoted(room))
}

// hintKick is for someone who was revoked and is still in a room.
func hintKick(room string, key unibus.PublicKey) string {
	return fmt.Sprintf("to remove them from the room all the same: unibus kick %s %s", shellQuoted(room), key)
}

// hintFreePort is for an address at which another program listens.
func hintFreePort(place, name string) string {
	return "another address: " + hintInstead(place, name, "127.0.0.1:PORT") + "; port 0 takes a free one"
}

// hintSecondServe is for a data folder that another unibus serve has in use.
func hintSecondServe(dir string) string {
	return "another unibus serve runs on " + dir + ": stop it, or give this one its own --data DIR and --listen ADDRESS"
}

// hintNotStarted is what helps with a store that serve could not open; empty for nothing. keptThere says that the data
// folder's bus is kept in the servers.
func hintNotStarted(o service.NodeOptions, keptThere bool, err error) string {
	external := o.External != nil
	switch damaged := errors.Is(err, store.ErrDamaged); {
	case errors.Is(err, service.ErrLostEnd), errors.Is(err, store.ErrShort):
		return "restore the servers' data; or, to take what is there for all there is, remove " + service.SeenFile(o.Dir) + " and write the lists anew: unibus doctor --repair"
	case errors.Is(err, service.ErrKeptOtherwise):
		return "if it was moved there: --bus ID; to move it: serve with the other --store and --bus ID, and unibus migrate"
	case errors.Is(err, service.ErrOwnCopies):
		return "empty " + o.Dir + " but for service.nk, and start this server again: it copies what the others have; if several servers say so, empty all of them first"
	case damaged && (o.Store == service.JetStream || !external && o.Store == "" && keptThere):
		return hintBackToServers
	case o.Store != service.JetStream && (errors.Is(err, store.ErrElsewhere) || external && damaged && keptThere):
		named := "" // where a folder has a database as well, it has to be said which bus is meant
		if !external {
			named = " --bus ID"
		}
		return "to serve the bus that is kept in the servers: --store " + service.JetStream + named
	}
	return ""
}

// hintKeys names those who had a name that is nobody's now.
func hintKeys(keys []string) string { return "name one by key: " + strings.Join(keys, ", ") }

// hintOtherStore is for a store that holds another bus than the one that is meant.
func hintOtherStore(held unibus.ID) string {
	return "--store URL or --data DIR for the store of that bus, or --bus " + held.String() + " if this one is meant"
}

// maxHinted is for how many rooms a hint has the commands; more would not be read.
const maxHinted = 3

// hint is what to do about what was found wrong in rooms.
func (f *findings) hint() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names, anew, accept []string
	for _, room := range f.rooms[:min(len(f.rooms), maxHinted)] {
		names = append(names, shellQuoted(room))
		anew = append(anew, fmt.Sprintf("unibus room set %s --anew", shellQuoted(room)))
		accept = append(accept, fmt.Sprintf("unibus verify %s --accept %d", shellQuoted(room), f.places[room]))
	}
	more := ""
	if len(f.rooms) > maxHinted {
		more = ", and so on"
	}
	if f.gone { // there is nothing yet that could be accepted
		return fmt.Sprintf("whoever runs the bus brings back a backup, or makes what is missing anew with unibus doctor --repair; then verify again: unibus verify %s%s",
			strings.Join(names, " "), more)
	}
	if !f.others {
		return fmt.Sprintf("a backup of the bus has the keys, for whoever runs it; for what is to come an owner or admin hands out a new one: unibus rekey %s%s; to take what cannot be read for lost: %s%s",
			shellQuoted(f.rooms[0]), more, strings.Join(accept, "; "), more)
	}
	return fmt.Sprintf("ask whoever runs the bus what was lost or restored; if it was meant, an owner says so for everyone: %s%s; or you for yourself: %s%s",
		strings.Join(anew, "; "), more, strings.Join(accept, "; "), more)
}

// hintOwners is where it is seen who may do what the caller may not.
func hintOwners(room string) string {
	return fmt.Sprintf("unibus members %s shows who its owners and admins are", shellQuoted(room))
}

// hintNew adds to an error that a file is there what to do about that.
func hintNew(err error) error {
	if errors.Is(err, unibus.ErrExists) {
		return hinted(err, "nothing is written over: name a file that is not there yet")
	}
	return err
}

// hintForgetBus is for the name of a bus where an address is meant.
func hintForgetBus(name string) string { return "unibus bus rm " + shellQuoted(name) }

// hintShowRoom is for a subject that is that of a room of the caller's.
func hintShowRoom(subject string) string { return "unibus room show " + shellQuoted(subject) }

// hintInRoom is for someone who is invited and is in the room.
func hintInRoom(room, user string) string {
	return fmt.Sprintf("to give them another role: unibus role %s %s ROLE; to pass over who is in it: --skip-existing", shellQuoted(room), shellQuoted(user))
}

// shellQuoted is a word as a shell takes it for what it is.
func shellQuoted(word string) string {
	if word != "" && strings.Trim(strings.ToLower(word), "abcdefghijklmnopqrstuvwxyz0123456789._-/") == "" && !strings.HasPrefix(word, "-") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
