package room_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/roomtest"
)

// live is a policy of a room that stores nothing.
func live() ledger.Policy {
	p := ledger.DefaultPolicy()
	p.Retain = nil
	return p
}

// joined is a policy under which newcomers read nothing from before they came.
func joined() ledger.Policy {
	p := live()
	p.History = ledger.HistoryJoined
	return p
}

// plain is a policy without encryption.
func plain() ledger.Policy {
	p := live()
	p.Encryption = ledger.EncryptionNone
	return p
}

// changes is how a room's log is changed.
func changes(r *room.Room) room.Changes { return room.Changes{Room: r} }

// refused fails the test unless an error is of a kind, has the remedy that helps, and says all of some words.
func refused(t *testing.T, err, kind error, helps remedy.Kind, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) || remedy.Of(err).Kind != helps {
		t.Fatalf("%v (remedy %d), want %v (remedy %d)", err, remedy.Of(err).Kind, kind, helps)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

// trio is a room with its owner, a member and a reader, each with a client.
type trio struct {
	*roomtest.World
	owner, member, reader *room.Room
	bob, carol            *roomtest.Client // the member, and the reader
}

func newTrio(t *testing.T, p ledger.Policy) *trio {
	t.Helper()
	w := roomtest.New(t)
	o := &trio{World: w, owner: w.Room("room", p), bob: w.User("bob"), carol: w.User("carol")}
	w.Must(changes(o.owner).Invite(w.Ctx, ledger.RoleMember, o.bob.Key()))
	w.Must(changes(o.owner).Invite(w.Ctx, ledger.RoleReader, o.carol.Key()))
	o.member, o.reader = o.bob.Open(o.owner.ID), o.carol.Open(o.owner.ID)
	return o
}

// sync brings rooms up to date, with the bus.
func (o *trio) sync(rooms ...*room.Room) {
	o.Helper()
	for _, r := range rooms {
		o.Must(r.Bus.Sync(o.Ctx))
		o.Must(r.Sync(o.Ctx))
	}
}

// frame seals a frame for a room as a client would now, after whatever change is asked for.
func (o *trio) frame(r *room.Room, change func(h *crypto.Header)) []byte {
	o.Helper()
	h, key, err := r.Writing(o.Ctx)
	o.Must(err)
	if change != nil {
		change(&h)
	}
	content := crypto.AppendRecord(crypto.AppendContentTime(nil, 1), nil, []byte("text"))
	frame, err := r.Identity.SealFrame(nil, r.ID, key, h, content, [32]byte{1})
	o.Must(err)
	return frame
}
