package crypto_test

import (
	"bytes"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

func FuzzFrame(f *testing.F) {
	for _, encrypted := range []bool{true, false} {
		raw, _, _, _, _ := frame(f, encrypted)
		f.Add(raw)
	}
	_, id, room, key, _ := frame(f, true)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := crypto.ParseHeader(b)
		if err != nil {
			return
		}
		k := key
		if h.Suite == crypto.SuiteSigned {
			k = nil
		}
		content, err := crypto.OpenFrame(b, room, id.Key(), k)
		if err == nil {
			_, _ = crypto.ParseContent(h.Flags, content)
		}
	})
}

func FuzzContent(f *testing.F) {
	_, _, _, _, content := frame(f, false)
	f.Add(byte(0), content)
	f.Add(byte(0), crypto.AppendPadding(bytes.Clone(content)))
	f.Add(byte(crypto.FlagFollows), crypto.AppendFollows(crypto.AppendContentTime(nil, 1), make([]crypto.Follows, 2)))
	f.Fuzz(func(t *testing.T, flags byte, b []byte) {
		c, err := crypto.ParseContent(flags, b)
		if err != nil {
			return
		}
		again := crypto.AppendContentTime(nil, c.Time)
		if flags&crypto.FlagFollows != 0 {
			again = crypto.AppendFollows(again, c.Follows)
		}
		for r := range c.Records() {
			again = crypto.AppendRecord(again, r.Headers, r.Body)
		}
		if len(again) > len(b) || !bytes.Equal(again, b[:len(again)]) || len(bytes.Trim(b[len(again):], "\x00")) > 0 {
			t.Fatalf("%x parses, but is written %x", b, again)
		}
	})
}

func FuzzCard(f *testing.F) {
	card, err := person(f, 1).Card()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(card)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := crypto.OpenCard(b, crypto.PublicKey{}); err == nil && len(c.Sealing) != crypto.SealingKeySize {
			t.Fatal("a card without a sealing key")
		}
		if len(b) > 64 { // past the signature
			_, _ = crypto.OpenCard(person(t, 1).Sign(crypto.KindCard, b[64:]), crypto.PublicKey{})
		}
	})
}

func FuzzToken(f *testing.F) {
	token, err := person(f, 1).Token(crypto.Token{Use: crypto.UseAPI, Bus: &crypto.ID{1}, Rooms: []crypto.ID{{2}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Fuzz(func(t *testing.T, s string) {
		if tok, err := crypto.DecodeToken(s); err == nil && (tok.Until.Before(tok.From) || len(tok.Rooms) > crypto.MaxTokenRooms) {
			t.Fatalf("%+v", tok)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add(person(f, 1).Key().String())
	f.Add("SUAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if key, err := crypto.ParsePublicKey(s); err == nil {
			if again, err := crypto.ParsePublicKey(key.String()); err != nil || again != key {
				t.Fatalf("%q", s)
			}
		}
		_, _ = crypto.ParseID(s)
		_, _ = crypto.ParseHash(s)
		_, _ = crypto.ParseIdentity([]byte(s))
		var n crypto.Number
		_ = crypto.Unmarshal([]byte(s), &n)
	})
}
