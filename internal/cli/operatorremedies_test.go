package cli

import (
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/remedy"
)

// TestOperatorRemedies: whatever would help with a bus as a whole is told, and where a store is restored to depends on
// what it is kept in.
func TestOperatorRemedies(t *testing.T) {
	for k := remedy.KeepClocks; k <= remedy.AddOwner; k++ {
		if hintRemedy(remedy.Remedy{Kind: k}) == "" {
			t.Errorf("nothing is said of the remedy %d", k)
		}
	}
	const file = "bring back a backup into a new file: unibus restore ARCHIVE --store sqlite:NEW, and serve that: unibus serve --store sqlite:NEW; a new bus, too, begins in a new file"
	const servers = "without other servers bring back a backup into a new one: unibus serve --store jetstream --data NEW --bus ID, and beside it unibus restore ARCHIVE --store nats://HOST:PORT --keys NEW/service.nk; else " + bus.Recopy
	for r, want := range map[remedy.Remedy]string{
		{}:                          "",
		{Kind: remedy.Repair}:       "unibus doctor --repair",
		{Kind: remedy.RestoreStore}: file,
		{Kind: remedy.RestoreStore, InServers: true}:    servers,
		{Kind: remedy.RestoreDamaged}:                   file + "; what is damaged is not repaired",
		{Kind: remedy.RestoreDamaged, InServers: true}:  servers + "; what is damaged is not repaired",
		{Kind: remedy.RestoreOrAccept}:                  file + "; or take what is there for all there is: unibus doctor --repair",
		{Kind: remedy.RestoreOrAccept, InServers: true}: servers + "; or take what is there for all there is: unibus doctor --repair",
		{Kind: remedy.RestoreOrRemove}: "bring back their rooms from a backup: unibus restore ARCHIVE --store sqlite:PATH" +
			"; only those that no backup has a room of, and nobody misses, are to be removed: unibus store nkey >KEY, and nats --nkey KEY stream rm NAME",
		{Kind: remedy.LeaveStreams, InServers: true}: "leave them: if the service serves from another store, their rooms are there; " +
			"else bring back their rooms from a backup: unibus restore ARCHIVE --store nats://HOST:PORT",
		{Kind: remedy.RestoreStreams, Path: "/data/of/serve"}: "restore the servers' data; or, to accept it, with --keys FILE if serve has that: unibus doctor --repair --data /data/of/serve",
	} {
		if got := hintRemedy(r); got != want {
			t.Errorf("%+v: %q, not %q", r, got, want)
		}
	}
}

// TestRemediesPasted: whatever a room or a file is called, a hint that has its name is no other command to a shell. A room with
// such a subject is named by its id, if that is known.
func TestRemediesPasted(t *testing.T) {
	const subject, path = "x;touch${IFS}y;#", "/a;touch y"
	id := crypto.ID{1}
	for k := remedy.MakeIdentity; k <= remedy.AddOwner; k++ {
		for _, room := range []crypto.ID{{}, id} {
			hint := hintRemedy(remedy.Remedy{Kind: k, Room: subject, RoomID: room, User: "bob", Path: path})
			inert := strings.ReplaceAll(strings.ReplaceAll(hint, "'"+path+"'", ""), "'"+subject+"'", "")
			if strings.Contains(inert, "touch") || !room.IsZero() && strings.Contains(hint, subject) {
				t.Errorf("of the remedy %d it says %s", k, hint)
			}
		}
	}
}
