package crypto_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/vectors"
)

// tokenFile is testdata/tokens.json: logins and tokens with inboxes, byte by byte.
type tokenFile struct {
	Seed          vectors.Bytes
	Key           string
	ConnectionKey string `json:"connection_key"`
	Nonce         struct {
		Nonce, URL, Standard string
		Signature            vectors.Bytes
	}
	Tokens []tokenVector
}

type tokenVector struct {
	Name, Use, Bus, Token, Why string
	Rooms                      []string
	Inbox, Payload             vectors.Bytes
	InboxText                  string `json:"inbox_text"`
	AskedUse                   string `json:"asked_use"`
	From, Until, Now           int64
	OK                         bool
}

func loadTokens(t *testing.T) (f tokenFile, id *crypto.Identity) {
	t.Helper()
	raw, err := os.ReadFile("../../testdata/tokens.json")
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err = crypto.NewIdentity([32]byte(f.Seed))
	if err != nil {
		t.Fatal(err)
	}
	return f, id
}

// token is what the vector says, before it is signed.
func (v *tokenVector) token(t *testing.T) crypto.Token {
	t.Helper()
	want := crypto.Token{Use: v.Use, From: time.UnixMilli(v.From), Until: time.UnixMilli(v.Until)}
	copy(want.Inbox[:], v.Inbox)
	parse := func(text string) crypto.ID {
		id, err := crypto.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if v.Bus != "" {
		id := parse(v.Bus)
		want.Bus = &id
	}
	for _, room := range v.Rooms {
		want.Rooms = append(want.Rooms, parse(room))
	}
	return want
}

// TestVectorTokensMade: a token says the same in the same bytes every time.
func TestVectorTokensMade(t *testing.T) {
	f, id := loadTokens(t)
	for _, v := range f.Tokens {
		want := v.token(t)
		text, err := id.Token(want)
		if err != nil || text != v.Token {
			t.Errorf("%s: %s (%v), want %s", v.Name, text, err, v.Token)
		}
		statement, err := base64.RawURLEncoding.DecodeString(v.Token)
		if err != nil || string(statement[64:]) != string(v.Payload) {
			t.Errorf("%s: the payload differs (%v)", v.Name, err)
		}
		if len(v.Inbox) > 0 && want.Inbox.String() != v.InboxText {
			t.Errorf("%s: inbox %s, want %s", v.Name, want.Inbox, v.InboxText)
		}
	}
}

// TestVectorTokensOpened: each is accepted for what it says, or refused for the reason named.
func TestVectorTokensOpened(t *testing.T) {
	f, _ := loadTokens(t)
	reasons := map[string]error{
		"": nil, "life": crypto.ErrTokenLife, "use": crypto.ErrTokenUse, "expired": crypto.ErrTokenExpired,
	}
	for _, v := range f.Tokens {
		want, known := reasons[v.Why]
		if !known || v.OK != (want == nil) {
			t.Fatalf("%s: the vector is wrong: ok %v, why %q", v.Name, v.OK, v.Why)
		}
		expected := v.token(t)
		got, err := crypto.OpenToken(v.Token, v.AskedUse, expected.Bus, time.UnixMilli(v.Now))
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", v.Name, err, want)
			continue
		}
		if want == nil && (got.Inbox != expected.Inbox || len(got.Rooms) != len(expected.Rooms) || got.Key.String() != f.Key || got.Connection.String() != f.ConnectionKey) {
			t.Errorf("%s: it says %+v", v.Name, got)
		}
	}
}

// TestVectorNonce: the signature of a nonce is that of the connection key, and no other's.
func TestVectorNonce(t *testing.T) {
	f, id := loadTokens(t)
	if got := id.SignNonce([]byte(f.Nonce.Nonce)); string(got) != string(f.Nonce.Signature) {
		t.Errorf("signature %x", got)
	}
	if got := base64.RawURLEncoding.EncodeToString(f.Nonce.Signature); got != f.Nonce.URL {
		t.Errorf("url base64 %s", got)
	}
	if got := base64.StdEncoding.EncodeToString(f.Nonce.Signature); got != f.Nonce.Standard {
		t.Errorf("standard base64 %s", got)
	}
	if err := crypto.VerifyNonce(id.ConnectionKey(), []byte(f.Nonce.Nonce), f.Nonce.Signature); err != nil {
		t.Error(err)
	}
	if err := crypto.VerifyNonce(id.Key(), []byte(f.Nonce.Nonce), f.Nonce.Signature); !errors.Is(err, crypto.ErrSignature) {
		t.Errorf("under the identity key: %v", err)
	}
}
