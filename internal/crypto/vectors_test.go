package crypto_test

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/vectors"
)

func load(t testing.TB) *vectors.File {
	t.Helper()
	f, err := vectors.Load()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestVectorIdentities(t *testing.T) {
	for _, v := range load(t).Identities {
		t.Run(v.Name, func(t *testing.T) {
			id, err := crypto.NewIdentity([32]byte(v.Seed))
			if err != nil {
				t.Fatal(err)
			}
			if got := id.Key().String(); got != v.Key {
				t.Errorf("key %s, want %s", got, v.Key)
			}
			if got := id.ConnectionKey().String(); got != v.ConnectionKey {
				t.Errorf("connection key %s, want %s", got, v.ConnectionKey)
			}
			want := ed25519.NewKeyFromSeed(v.ConnectionSeed)
			if !bytes.Equal(id.SignNonce([]byte("n")), ed25519.Sign(want, []byte("n"))) {
				t.Error("connection key signs otherwise")
			}
			card, err := id.Card()
			if err != nil || !bytes.Equal(card, v.Card) {
				t.Errorf("card differs (%v)", err)
			}
			seed, err := id.Seed()
			if err != nil || string(seed) != v.NkeySeed {
				t.Errorf("seed differs (%v)", err)
			}
			back, err := crypto.ParseIdentity(append(seed, '\n'))
			if err != nil || back.Key() != id.Key() {
				t.Errorf("seed does not parse back: %v", err)
			}
		})
	}
}

func TestVectorCards(t *testing.T) {
	for _, v := range load(t).Cards {
		of, err := crypto.ParsePublicKey(v.Of)
		if err != nil {
			t.Fatal(err)
		}
		_, err = crypto.OpenCard(v.Card, of)
		if (err == nil) != v.OK {
			t.Errorf("ok %v %s: got %v", v.OK, v.Why, err)
		}
	}
}

func TestVectorTokens(t *testing.T) {
	for _, v := range load(t).Tokens {
		t.Run(v.Name, func(t *testing.T) {
			bus := parseID(t, v.Bus)
			tok, err := crypto.OpenToken(v.Token, v.Use, &bus, time.UnixMilli(v.Now))
			if (err == nil) != v.OK {
				t.Fatalf("ok %v %s: got %v", v.OK, v.Why, err)
			}
			if v.Key != "" && (tok.Key.String() != v.Key || tok.Connection.String() != v.Connection) {
				t.Errorf("got %s by %s", tok.Key, tok.Connection)
			}
		})
	}
}

func TestVectorRoomKeys(t *testing.T) {
	f := load(t)
	for _, v := range f.Commitments {
		if got := crypto.RoomKey(v.Key).Commit(v.Epoch).String(); got != v.Commit {
			t.Errorf("epoch %d: commitment %s, want %s", v.Epoch, got, v.Commit)
		}
	}
	ids := identities(t, f)
	for _, v := range f.Sealed {
		commit, err := crypto.ParseHash(v.Commit)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ids[v.Member].OpenKey(v.Sealed, parseID(t, v.Room), v.Epoch, commit)
		if (err == nil) != v.OK {
			t.Errorf("ok %v %s: got %v", v.OK, v.Why, err)
		}
		if v.OK && !bytes.Equal(key[:], v.Key) {
			t.Errorf("opened another key")
		}
	}
	for _, v := range f.Previous {
		room, old := parseID(t, v.Room), crypto.RoomKey(v.PreviousKey)
		got, err := crypto.OpenPrevious(crypto.RoomKey(v.Key), room, v.Epoch, v.Previous, old.Commit(v.Epoch-1))
		if err != nil || got != old {
			t.Errorf("previous key: %v", err)
		}
		again, err := crypto.SealPrevious(crypto.RoomKey(v.Key), room, v.Epoch, old, [24]byte(v.Previous[:24]))
		if err != nil || !bytes.Equal(again, v.Previous) {
			t.Errorf("previous key seals otherwise: %v", err)
		}
	}
}

// TestVectorFramesSeal seals every frame whose randomness the vectors tell, byte for byte.
func TestVectorFramesSeal(t *testing.T) {
	f := load(t)
	ids := identities(t, f)
	rooms := map[string]vectors.Log{}
	for _, l := range f.RoomLogs {
		rooms[l.Name] = l
	}
	n := 0
	for _, v := range f.Frames {
		if v.MadeWith.Fresh == nil {
			continue
		}
		n++
		t.Run(v.Name, func(t *testing.T) {
			room := parseID(t, rooms[v.RoomLog].ID)
			h, err := crypto.ParseHeader(v.Frame)
			if err != nil {
				t.Fatal(err)
			}
			var key *crypto.FrameKey
			if h.Suite == crypto.SuiteEncrypted {
				key, err = crypto.NewFrameKey(crypto.RoomKey(f.Commitments[h.Epoch-1].Key), room, h.Epoch)
				if err != nil {
					t.Fatal(err)
				}
			}
			content := crypto.AppendContentTime(nil, v.Time)
			for _, r := range v.Records {
				var fields []crypto.Field
				for _, kv := range r.Headers {
					fields = append(fields, crypto.Field{Key: kv[0], Value: kv[1]})
				}
				content = crypto.AppendRecord(content, fields, r.Body)
			}
			if v.Name == "padded" { // by 100 zeros: readers accept any amount
				content = append(content, make([]byte, len(v.Frame)-crypto.FrameOverhead-len(content))...)
			}
			h.Nonce = [24]byte{}
			got, err := ids[v.Sender].SealFrame(nil, room, key, h, content, [32]byte(v.MadeWith.Fresh))
			if err != nil || !bytes.Equal(got, v.Frame) {
				t.Errorf("sealed otherwise (%v)\n got %x\nwant %x", err, got, v.Frame)
			}
		})
	}
	if n == 0 {
		t.Fatal("no frame to seal")
	}
}

func identities(t testing.TB, f *vectors.File) map[string]*crypto.Identity {
	t.Helper()
	ids := map[string]*crypto.Identity{}
	for _, v := range f.Identities {
		id, err := crypto.NewIdentity([32]byte(v.Seed))
		if err != nil {
			t.Fatal(err)
		}
		ids[v.Key] = id
	}
	return ids
}

func parseID(t testing.TB, s string) crypto.ID {
	t.Helper()
	id, err := crypto.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
