package cli

import (
	"fmt"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/remedy"
)

// What helps with a bus as a whole, which doctor finds to need it: remedies.go has what helps everyone.

// Where a damaged store is restored to.
const (
	hintBackToFile    = "bring back a backup into a new file: unibus restore ARCHIVE --store sqlite:NEW, and serve that: unibus serve --store sqlite:NEW; a new bus, too, begins in a new file"
	hintBackToServers = "without other servers bring back a backup into a new one: unibus serve --store jetstream --data NEW --bus ID, and beside it unibus restore ARCHIVE --store nats://HOST:PORT --keys NEW/service.nk; else " + bus.Recopy
)

// What brings back rooms that a store has lost, beside what it has: messages are in the servers still.
const (
	hintRoomsToFile    = "bring back their rooms from a backup: unibus restore ARCHIVE --store sqlite:PATH"
	hintRoomsToServers = "bring back their rooms from a backup: unibus restore ARCHIVE --store nats://HOST:PORT"
)

// operatorRemedies are those that have no facts.
var operatorRemedies = map[remedy.Kind]string{
	remedy.KeepClocks:          "keep clocks in step, as with chrony or systemd-timesyncd",
	remedy.SyncAlways:          "set sync_interval: always in its jetstream block",
	remedy.StartMostServers:    "most servers of the cluster have to be there",
	remedy.StartMissingServers: "bring them back: the next loss may cost the quorum",
	remedy.UseTLS:              "--tls-cert and --tls-key: rooms are sealed all the same, but who writes where and when is not",
	remedy.CopyAgain:           bus.Recopy,
	remedy.CopyAgainFirst:      "first what helps with the copies, as above",
	remedy.AwaitCopies:         "wait, or bring the servers back that are missing",
	remedy.Scale:               "unibus store scale --replicas N",
	remedy.MakeStreams:         "unibus doctor --repair, or restart unibus serve: it makes them",
	remedy.RemakeStreams:       "servers do not change that of a stream: copy it with nats --nkey KEY stream backup and restore, with the setting corrected; KEY has what unibus store nkey prints",
	remedy.RestoreOrCopyAgain:  "without other servers, bring back a backup; else " + bus.Recopy,
	remedy.Repair:              "unibus doctor --repair",
	remedy.RepairLater:         "again when the servers answer: unibus doctor --repair",
	remedy.RepairFirst:         "first what helps with the views, as above: then it is known which rooms there are",
	remedy.StartService:        "serve records it when it starts",
	remedy.FreeDisk:            "make room; nothing has to be restarted",
	remedy.RaiseDescriptors:    "raise the limit: ulimit -n, or LimitNOFILE= of the unit",
	remedy.MendCards:           "those they are of put them there again with unibus join",
	remedy.LookLater:           "again when that is done: unibus doctor",
	remedy.RenewStale:          "their owners and admins: unibus rekey --stale",
}

// hintForOperator is what helps with a bus as a whole; empty for nothing.
func hintForOperator(r remedy.Remedy) string {
	back, rooms := hintBackToFile, hintRoomsToFile
	if r.InServers {
		back, rooms = hintBackToServers, hintRoomsToServers
	}
	switch r.Kind {
	case remedy.AddOwner:
		return fmt.Sprintf("make another member an owner as well: unibus role %s USER owner", shellQuoted(r.Room))
	case remedy.RenewKeys:
		return "an owner or admin of each renews its key: unibus rekey " + shellQuoted(r.Room)
	case remedy.RestoreStore:
		return back
	case remedy.RestoreDamaged:
		return back + "; what is damaged is not repaired"
	case remedy.RestoreOrAccept:
		return back + "; or take what is there for all there is: unibus doctor --repair"
	case remedy.RestoreOrRemove:
		return rooms + "; only those that no backup has a room of, and nobody misses, are to be removed: unibus store nkey >KEY, and nats --nkey KEY stream rm NAME"
	case remedy.LeaveStreams:
		return "leave them: if the service serves from another store, their rooms are there; else " + rooms
	case remedy.RestoreStreams:
		return "restore the servers' data; or, to accept it, with --keys FILE if serve has that: unibus doctor --repair --data " + shellQuoted(r.Path)
	}
	return operatorRemedies[r.Kind]
}
