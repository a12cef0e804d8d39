package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
)

// This file makes stores, and fills them with users and rooms.

// onNATS is an empty store in one plain NATS server.
func onNATS(ctx context.Context, dir string) (*jetstream.Store, func(), error) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, JetStream: true, StoreDir: dir, SyncAlways: true})
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	s.ReadyForConnections(10 * time.Second)
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.Open(ctx, nc, jetstream.Options{OpTimeout: time.Minute})
	return js, func() { js.Close(); nc.Close(); s.Shutdown(); s.WaitForShutdown() }, err
}

// fill makes a bus with users and rooms, ten of them with one user in it as a member.
func fill(ctx context.Context, s store.Store, users, rooms int) (*crypto.Identity, error) {
	admin, err := identity(0)
	if err != nil {
		return nil, err
	}
	state, err := store.Found(ctx, s, admin, "admin", time.Now())
	if err != nil {
		return nil, err
	}
	member, err := identity(1)
	if err != nil {
		return nil, err
	}
	if err := addUsers(ctx, s, state.Fold(), admin, users); err != nil {
		return nil, err
	}
	for i := range rooms {
		room, err := addRoom(ctx, s, state.ID, admin, i)
		if err == nil && i%max(rooms/10, 1) == 0 {
			err = appendTo(ctx, s, room, admin, &ledger.Invite{Members: []ledger.NewMember{{Key: member.Key(), Role: ledger.RoleMember}}})
		}
		if err != nil {
			return nil, err
		}
	}
	return member, nil
}

// addUsers allows users, a thousand by one entry.
func addUsers(ctx context.Context, s store.Store, log *ledger.Fold, admin *crypto.Identity, users int) error {
	for i := 1; i <= users; {
		add := &ledger.Add{}
		for ; i <= users && len(add.Users) < 1000; i++ {
			id, err := identity(i)
			if err != nil {
				return err
			}
			add.Users = append(add.Users, ledger.NewUser{Key: id.Key(), Name: fmt.Sprintf("user-%d", i), Role: ledger.RoleUser})
		}
		if err := appendTo(ctx, s, log, admin, add); err != nil {
			return err
		}
	}
	return nil
}

// addRoom makes the nth room of a bus, with the admin's copy of its key.
func addRoom(ctx context.Context, s store.Store, busID crypto.ID, admin *crypto.Identity, n int) (*ledger.Fold, error) {
	key := crypto.RoomKey(sha256.Sum256([]byte{byte(n), byte(n >> 8)}))
	commit := key.Commit(1)
	create := &ledger.Create{Bus: busID, Subject: fmt.Sprintf("room.%d", n), Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit}
	room := new(ledger.Fold)
	statement, err := room.State().Next(admin, create, time.Now())
	if err != nil {
		return nil, err
	}
	id, _, _, err := ledger.Place(statement)
	if err != nil {
		return nil, err
	}
	sealed := []store.SealedKey{{Endpoint: admin.Key(), Sealed: make([]byte, crypto.SealedSize)}}
	if err := s.PutKeys(ctx, id, 1, commit, admin.Key(), sealed); err != nil {
		return nil, err
	}
	c, err := store.Advance(room, statement)
	if err != nil {
		return nil, err
	}
	return room, s.Append(ctx, c)
}

// appendTo appends an entry to a log.
func appendTo(ctx context.Context, s store.Store, log *ledger.Fold, by *crypto.Identity, body ledger.Body) error {
	statement, err := log.State().Next(by, body, time.Now())
	if err != nil {
		return err
	}
	c, err := store.Advance(log, statement)
	if err != nil {
		return err
	}
	return s.Append(ctx, c)
}
