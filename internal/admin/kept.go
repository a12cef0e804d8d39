package admin

import (
	"context"
	"errors"

	"github.com/dustin/go-humanize/english"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/shown"
	"github.com/unibus/unibus/internal/store"
)

// Whether what a store keeps can be read, and is all that was acknowledged: each store says so itself, a file by file and
// records that the servers hold by record. What its logs say is for views.go.

// file is a store that is kept in a file, with what was acknowledged beside it.
type file interface {
	CheckFile(ctx context.Context) error
	CheckHeads(ctx context.Context) error
	Unrecorded(ctx context.Context) (int, error)
	ResetHeads(ctx context.Context) error
}

// records is a store whose servers may not be able to read all that they have.
type records interface {
	CheckRecords(ctx context.Context) error
}

// Kept looks at the file that a store is kept in, and at whether it holds what was acknowledged, as the check database; or
// at whether the servers can read all that they have, as the check records. A repair takes what a file holds for all
// there is.
func Kept(ctx context.Context, s store.Backend, look Look) {
	if k, ok := s.(records); ok {
		r := look.check("records")
		if err := k.CheckRecords(ctx); err != nil {
			r.fail(restoring(remedy.RestoreStore, s), "%v", err)
			return
		}
		r.pass("the servers can read all that they keep")
	}
	if f, ok := s.(file); ok {
		database(ctx, f, look)
	}
}

// database looks at a file, and at whether it is behind what was acknowledged.
func database(ctx context.Context, f file, look Look) {
	r := look.check("database")
	if err := f.CheckFile(ctx); err != nil {
		r.fail(help(remedy.RestoreStore), "%v", err)
		return
	}
	unrecorded := 0
	err := f.CheckHeads(ctx)
	if err == nil {
		unrecorded, err = f.Unrecorded(ctx)
	}
	switch {
	case unrecorded > 0:
		r.warn(help(remedy.StartService), "whole; but nothing says what was acknowledged of %s: that it is an older copy would not be noticed", english.Plural(unrecorded, "log", ""))
	case err == nil:
		r.pass("whole, and with all that was acknowledged")
	case !look.Repair:
		r.fail(help(remedy.RestoreOrAccept), "%v", err)
	default:
		if reset := f.ResetHeads(ctx); reset != nil {
			r.fail(help(remedy.RestoreStore), "%v", errors.Join(err, reset))
			return
		}
		r.warn(noHelp, "what is there is taken for all there is (%v)", err)
	}
}

// restoring is a remedy for a store, with where that is kept.
func restoring(kind remedy.Kind, s store.Backend) remedy.Remedy {
	_, servers := s.(records)
	return remedy.Remedy{Kind: kind, InServers: servers}
}

// Cards verifies the card of everyone, as the check cards: without one nobody seals a room's key to its owner, and no room
// that they are in gets another key.
func Cards(ctx context.Context, s store.Backend, look Look) {
	r := look.check("cards")
	var broken []string
	all := 0
	for card, err := range s.AllCards(ctx) {
		if err != nil {
			r.unknown(err)
			return
		}
		all++
		if _, err := crypto.OpenCard(card.Statement, card.Endpoint); err != nil {
			broken = append(broken, card.Endpoint.String())
		}
	}
	if len(broken) > 0 {
		r.fail(help(remedy.MendCards), "%d of %d are not what was signed: %s", len(broken), all, shown.Few(broken))
		return
	}
	r.pass("%d, each signed by whose it is", all)
}
