package demo

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/unibus/unibus"
)

// The steps in which the key is renewed and bob is revoked: he has to lose what he had, and to get nothing more, not
// even with the server's files in his hands.

// rekey renews the room's key, of which bob is handed his.
func (d *demo) rekey() (string, error) {
	before := d.room.Info().Epoch
	if err := d.room.Rekey(d.ctx); err != nil {
		return "", err
	}
	if err := d.theirs.Refresh(d.ctx); err != nil {
		return "", err
	}
	// The epoch has to be the next one, and bob has to hold its key: it was sealed for him as well.
	after := d.theirs.Info().Epoch
	held, err := d.theirs.HoldsKey(d.ctx)
	if err != nil {
		return "", err
	}
	if after != before+1 || !held {
		return "", mismatch("epoch %d after %d; bob holds its key: %v", after, before, held)
	}
	return fmt.Sprintf("epoch %d, and bob was handed its key", after), nil
}

// revoke takes bob off the allowlist while he reads; his subscription has to end.
func (d *demo) revoke() (string, error) {
	live, err := d.theirs.Subscribe(d.ctx, unibus.SubscribeOptions{})
	if err != nil {
		return "", err
	}
	defer live.Close()
	// alice owns the room, but the allowlist is the operator's.
	operator, err := d.connect("operator")
	if err != nil {
		return "", err
	}
	defer operator.Close()
	if err := operator.RevokeUsers(d.ctx, "the demo's end", d.bob.Key()); err != nil {
		return "", err
	}
	began := time.Now()
	guard := time.AfterFunc(5*time.Second, func() { _ = live.Close() }) // else a failure here would hang
	defer guard.Stop()
	var ended error
	for _, err := range live.Messages() {
		ended = err
	}
	if !errors.Is(ended, unibus.ErrDenied) {
		return "", mismatch("bob's subscription ended with: %v", ended)
	}
	took := time.Since(began)
	d.facts.RevokeDrop = took.Round(time.Millisecond).String()
	return fmt.Sprintf("his subscription ended %d ms later", took.Milliseconds()), nil
}

// refuse has bob connect again, in vain.
func (d *demo) refuse() (string, error) {
	c, err := d.connect("bob")
	if !errors.Is(err, unibus.ErrDenied) {
		if c != nil {
			_ = c.Close()
		}
		return "", mismatch("bob was not refused (%v)", err)
	}
	return "not on the allowlist (any more)", nil
}

// shutOut lets alice publish, which renews the key of a room that a revoked member still holds, and
// then gives bob the server's own files.
func (d *demo) shutOut() (string, error) {
	if _, err := d.alice.BusLog(d.ctx); err != nil { // a process that starts now would look, too
		return "", err
	}
	before := d.room.Info().Epoch
	if err := d.room.PublishOnce(d.ctx, []byte("for alice's eyes only")); err != nil {
		return "", err
	}
	info := d.room.Info()
	if info.Epoch != before+1 || info.Members != 1 {
		return "", mismatch("epoch %d and %d members after alice's next message", info.Epoch, info.Members)
	}
	// bob with the server's own database, as if he had stolen it, and nothing that his clients had learned.
	thief, err := unibus.Connect(d.ctx, unibus.Options{
		Identity: d.keys["bob"], StateDir: filepath.Join(d.dir, "thief"), Store: "sqlite:" + filepath.Join(d.dir, "server", "unibus.db"),
	})
	if err != nil {
		return "", err
	}
	defer thief.Close()
	room, err := thief.Room(d.ctx, info.ID.String())
	if err != nil {
		return "", err
	}
	held, err := room.HoldsKey(d.ctx)
	if err != nil {
		return "", err
	}
	if held {
		return "", mismatch("bob can open epoch %d", info.Epoch)
	}
	return fmt.Sprintf("no key of epoch %d for him on the server", info.Epoch), nil
}

// verify has alice check both logs from their first entry.
func (d *demo) verify() (string, error) {
	bus, err := d.alice.BusLog(d.ctx)
	if err != nil {
		return "", err
	}
	room, err := d.room.Log(d.ctx)
	if err != nil {
		return "", err
	}
	// Founding, adding and revoking; and in the room bob's removal, which alice's message brought with the new key.
	last := room[len(room)-1]
	if len(bus) != 3 || last.Op != "remove" {
		return "", mismatch("the bus log has %d entries, and the room's ends with %s", len(bus), last.Op)
	}
	return fmt.Sprintf("bus %d and room %d entries, all of them", len(bus), len(room)), nil
}
