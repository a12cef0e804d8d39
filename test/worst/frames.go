package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// maker makes frames of one room, and stores them.
type maker struct {
	peer   *attack.Peer
	js     jetstream.JetStream
	room   crypto.ID
	key    *crypto.FrameKey
	header crypto.Header
	filler []byte
	frames int
	bytes  int64
}

// whole is how many bytes a frame's content has at most.
const whole = 1<<20 - crypto.FrameOverhead - 4096

// acked is how long an acknowledgement may take.
const acked = 5 * time.Minute

// kind is a kind of frames.
type kind struct {
	name  string
	share float64 // of all bytes
	make  func(m *maker, turn int) error
}

var kinds = []kind{
	{"unfinished", 2, func(m *maker, _ int) error { // messages that nobody ends
		return m.store(stream(rand.Uint64()), 0, crypto.FlagMore, m.records(whole))
	}},
	{"pieces", 2, func(m *maker, turn int) error { // the largest messages, several at once, that end
		at, flags := uint64(turn/4), byte(crypto.FlagMore)
		if at%60 == 59 {
			flags = 0
		}
		return m.store(stream(uint64(turn%4)), at, flags, m.records(whole))
	}},
	{"ahead", 2, func(m *maker, turn int) error { // frames behind one that does not come
		at := uint64(turn % 64)
		if at > 0 {
			at++
		}
		return m.store(stream(uint64(turn/64)), at, 0, m.records(whole))
	}},
	{"forged", 1, func(m *maker, turn int) error { // that do not open
		frame, err := m.seal(stream(uint64(turn)), 0, 0, m.records(whole))
		if err != nil {
			return err
		}
		frame[len(frame)-1] ^= 1
		return m.send(frame)
	}},
	{"tiny", 0.1, func(m *maker, turn int) error { // half a million messages in a frame
		var content []byte
		for len(content) < whole-2 {
			content = crypto.AppendRecord(content, nil, nil)
		}
		return m.store(stream(1), uint64(turn), 0, content)
	}},
	{"headers", 1, func(m *maker, turn int) error { // messages of nothing but empty headers
		return m.store(stream(1), uint64(turn), 0, crypto.AppendRecord(nil, make([]crypto.Field, whole/2-8), nil))
	}},
	{"streams", 0.2, func(m *maker, turn int) error { // each of a stream that begins in the middle
		return m.store(stream(rand.Uint64()), uint64(1+turn%3), 0, m.records(64))
	}},
	{"follows", 0.2, func(m *maker, _ int) error { // that tell of streams nobody has seen
		others := make([]crypto.Follows, crypto.MaxFollows)
		for i := range others {
			others[i] = crypto.Follows{Stream: stream(rand.Uint64()), Frames: 1 << 40, At: m.header.At, Place: 1, Sealed: uint64(time.Now().UnixMicro())}
		}
		return m.store(stream(rand.Uint64()), 0, crypto.FlagFollows, append(crypto.AppendFollows(nil, others), m.records(64)...))
	}},
	{"holes", 0.2, func(m *maker, turn int) error { // every other frame of many streams
		return m.store(stream(uint64(turn%1000)), uint64(turn/1000*2), 0, m.records(64))
	}},
}

// stream is the id of one of the maker's streams.
func stream(n uint64) (id [16]byte) {
	for i := range 8 {
		id[i] = byte(n >> (8 * i))
	}
	id[15] = 1
	return id
}

func newMaker(ctx context.Context, peer *attack.Peer, room crypto.ID) (*maker, error) {
	js, err := jetstream.New(peer.Conn, jetstream.WithPublishAsyncMaxPending(64))
	if err != nil {
		return nil, err
	}
	m := &maker{peer: peer, js: js, room: room, filler: make([]byte, whole)}
	for i := range m.filler {
		m.filler[i] = byte(rand.Uint32())
	}
	var entries struct{ Entries [][]byte }
	if err := m.get(ctx, "/logs/"+room.String(), &entries); err != nil {
		return nil, err
	}
	state, err := ledger.Verify(entries.Entries)
	if err != nil {
		return nil, err
	}
	epoch := state.Room.Epoch()
	var copies struct {
		Commit string
		Sealed []struct{ Sealed []byte }
	}
	if err := m.get(ctx, "/rooms/"+room.String()+"/keys/latest", &copies); err != nil {
		return nil, err
	}
	if commit, err := hex.DecodeString(copies.Commit); err != nil || crypto.Hash(commit) != epoch.Commit || len(copies.Sealed) == 0 {
		return nil, fmt.Errorf("no key of epoch %d: %v", epoch.Number, err)
	}
	key, err := peer.ID.OpenKey(copies.Sealed[0].Sealed, room, epoch.Number, epoch.Commit)
	if err != nil {
		return nil, err
	}
	m.header = crypto.Header{Suite: crypto.SuiteEncrypted, Epoch: epoch.Number, At: state.Head.Seq, Head: [16]byte(state.Head.Hash[:16])}
	m.key, err = crypto.NewFrameKey(key, room, epoch.Number)
	return m, err
}

// get asks the API.
func (m *maker) get(ctx context.Context, path string, v any) error {
	body, status, err := m.peer.Call(ctx, http.MethodGet, path, nil)
	if err == nil && !attack.OK(status) {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return json.Unmarshal(body, v)
}

// records is a message that fills a content of so many bytes.
func (m *maker) records(size int) []byte { return crypto.AppendRecord(nil, nil, m.filler[:size-16]) }

func (m *maker) seal(stream [16]byte, counter uint64, flags byte, rest []byte) ([]byte, error) {
	h := m.header
	h.Stream, h.Counter, h.Flags = stream, counter, flags
	content := append(crypto.AppendContentTime(make([]byte, 0, len(rest)+8), uint64(time.Now().UnixMicro())), rest...)
	fresh := [32]byte{}
	copy(fresh[:], stream[:])
	return m.peer.ID.SealFrame(nil, m.room, m.key, h, content, fresh)
}

// store seals a frame and stores it.
func (m *maker) store(stream [16]byte, counter uint64, flags byte, rest []byte) error {
	frame, err := m.seal(stream, counter, flags, rest)
	if err != nil {
		return err
	}
	return m.send(frame)
}

func (m *maker) send(frame []byte) error {
	m.frames++
	m.bytes += int64(len(frame))
	subject := bus.StoredSubject(m.room, m.peer.ID.Key())
	_, err := m.js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: frame}, jetstream.WithStallWait(acked))
	return err
}

// all stores frames of a kind, until there are so many bytes.
func (m *maker) all(k kind, bytes int64) error {
	for turn := 0; m.bytes < bytes; turn++ {
		if err := k.make(m, turn); err != nil {
			return err
		}
	}
	select {
	case <-m.js.PublishAsyncComplete():
		return nil
	case <-time.After(acked):
		return fmt.Errorf("%d frames are not acknowledged", m.js.PublishAsyncPending())
	}
}
