package crypto_test

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// person is an identity from a fixed seed.
func person(t testing.TB, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{n})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestParsePublicKey(t *testing.T) {
	key := person(t, 1).Key()
	text := key.String()
	for _, s := range []string{text, strings.ToLower(text), "  " + text + "\n", "\t" + strings.ToLower(text)} {
		got, err := crypto.ParsePublicKey(s)
		if err != nil || got != key {
			t.Errorf("%q: %v", s, err)
		}
	}
	seed := string(must[[]byte](t)(person(t, 1).Seed()))
	server := must[nkeys.KeyPair](t)(nkeys.CreateServer())
	serverKey := must[string](t)(server.PublicKey())
	for s, want := range map[string]error{
		seed:                          crypto.ErrSeed,
		strings.ToLower(seed):         crypto.ErrSeed,
		serverKey:                     crypto.ErrKey,
		"":                            crypto.ErrKey,
		"bob":                         crypto.ErrKey,
		"UA":                          crypto.ErrKey,
		text[:55]:                     crypto.ErrKey,
		text + "A":                    crypto.ErrKey,
		text[:20] + "0" + text[21:]:   crypto.ErrKey,
		strings.Repeat("Z", 56):       crypto.ErrKey,
		"U" + strings.Repeat("A", 55): crypto.ErrKey,
	} {
		_, err := crypto.ParsePublicKey(s)
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", s, err, want)
		}
		if s != "" && err != nil && len(s) > 5 && strings.Contains(strings.ToUpper(err.Error()), strings.ToUpper(s)) {
			t.Errorf("the error repeats what was given: %v", err)
		}
	}
	// The checksum finds any single mistyped character.
	for i := 1; i < len(text); i++ {
		c := byte('A')
		if text[i] == c {
			c = 'B'
		}
		if _, err := crypto.ParsePublicKey(text[:i] + string(c) + text[i+1:]); err == nil {
			t.Errorf("a typo at %d is not noticed", i)
		}
	}
	if !crypto.LooksLikeKey(text) || !crypto.LooksLikeKey(strings.ToLower(seed)) || crypto.LooksLikeKey("bob") || crypto.LooksLikeKey(strings.Repeat("bob.", 15)) {
		t.Error("LooksLikeKey")
	}
}

// TestNewPublicKey refuses the inputs on which Ed25519 libraries disagree.
func TestNewPublicKey(t *testing.T) {
	for name, h := range map[string]string{
		"identity":                         "0100000000000000000000000000000000000000000000000000000000000000",
		"order 2":                          "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"order 4":                          "0000000000000000000000000000000000000000000000000000000000000000",
		"order 4, sign set":                "0000000000000000000000000000000000000000000000000000000000000080",
		"order 8":                          "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"order 8, other":                   "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"not canonical: p":                 "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"not canonical: p+1":               "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"not canonical: identity, sign":    "0100000000000000000000000000000000000000000000000000000000000080",
		"not canonical: order 2 with sign": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"no point":                         "0200000000000000000000000000000000000000000000000000000000000000",
		"short":                            "01",
		"empty":                            "",
	} {
		if _, err := crypto.NewPublicKey(unhex(t, h)); !errors.Is(err, crypto.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	key := person(t, 1).Key()
	if got, err := crypto.NewPublicKey(key[:]); err != nil || got != key {
		t.Errorf("a good key: %v", err)
	}
}

func TestTexts(t *testing.T) {
	key := person(t, 1).Key()
	id := crypto.ID{1, 2, 3}
	hash := crypto.Hash{4, 5}
	type all struct {
		Key  crypto.PublicKey
		ID   crypto.ID
		Hash crypto.Hash
	}
	raw := must[[]byte](t)(json.Marshal(all{key, id, hash}))
	var back all
	if err := json.Unmarshal(raw, &back); err != nil || back != (all{key, id, hash}) {
		t.Errorf("%s: %v", raw, err)
	}
	for _, bad := range []string{`{"Key":"x"}`, `{"ID":"x"}`, `{"Hash":"x"}`, `{"Hash":"00"}`, `{"ID":"aaaa"}`, `{"ID":"11111111111111111111111111111111"}`,
		`{"ID":"` + strings.Repeat("a", 33) + `"}`, `{"ID":"` + strings.Repeat("a", 16) + `\n` + strings.Repeat("a", 16) + `"}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if got, err := crypto.ParseID(" " + strings.ToUpper(id.String()) + " "); err != nil || got != id {
		t.Errorf("an id in capitals: %v", err)
	}
	if got, err := crypto.ParseID(strings.Replace(crypto.ID{0x50}.String(), "k", "\u212a", 1)); err == nil { // the Kelvin sign
		t.Errorf("another sign for a letter: %v", got)
	}
	if !(crypto.ID{}).IsZero() || id.IsZero() || !(crypto.Hash{}).IsZero() || hash.IsZero() {
		t.Error("IsZero")
	}
	if len(id.String()) != 32 || id.Compare(id) != 0 || id.Compare(crypto.ID{}) == 0 {
		t.Error("ids")
	}
}

func TestIdentity(t *testing.T) {
	id := person(t, 7)
	seed := must[[]byte](t)(id.Seed())
	for _, s := range []string{"", "SU", strings.ToLower(string(seed)), id.Key().String(), string(seed[:57]) + "A"} {
		_, err := crypto.ParseIdentity([]byte(s))
		if !errors.Is(err, crypto.ErrKey) || s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%d characters: %v", len(s), err)
		}
	}
	account := must[nkeys.KeyPair](t)(nkeys.CreateAccount())
	other := must[[]byte](t)(account.Seed())
	if _, err := crypto.ParseIdentity(other); !errors.Is(err, crypto.ErrKey) {
		t.Errorf("an account's seed: %v", err)
	}
	if whole := seedOf(make([]byte, 32)); must[*crypto.Identity](t)(crypto.ParseIdentity(whole)).Key() != person(t, 0).Key() {
		t.Error("the test makes no seeds")
	}
	for _, n := range []int{31, 33} {
		if _, err := crypto.ParseIdentity(seedOf(make([]byte, n))); !errors.Is(err, crypto.ErrKey) {
			t.Errorf("a seed of %d bytes: %v", n, err)
		}
	}
	signature := id.SignNonce([]byte("nonce"))
	if err := crypto.VerifyNonce(id.ConnectionKey(), []byte("nonce"), signature); err != nil {
		t.Error(err)
	}
	if err := crypto.VerifyNonce(id.ConnectionKey(), []byte("other"), signature); !errors.Is(err, crypto.ErrSignature) {
		t.Errorf("another nonce: %v", err)
	}
	if err := crypto.VerifyNonce(id.Key(), []byte("nonce"), signature); !errors.Is(err, crypto.ErrSignature) {
		t.Errorf("by the identity key: %v", err)
	}
	if err := crypto.VerifyNonce(id.ConnectionKey(), []byte("nonce"), nil); !errors.Is(err, crypto.ErrSignature) {
		t.Errorf("no signature: %v", err)
	}
}

// seedOf writes a user nkey seed of however many bytes, which nkeys itself does not.
func seedOf(raw []byte) []byte {
	b := append([]byte{byte(nkeys.PrefixByteSeed) | byte(nkeys.PrefixByteUser)>>5, (byte(nkeys.PrefixByteUser) & 31) << 3}, raw...)
	var sum uint16 // CRC-16/XMODEM
	for _, c := range b {
		sum ^= uint16(c) << 8
		for range 8 {
			high := sum >> 15
			sum = sum<<1 ^ high*0x1021
		}
	}
	return []byte(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(binary.LittleEndian.AppendUint16(b, sum)))
}

// TestNonceOracle: a server that picks a nonce to look like a statement gets nothing of use, since
// nonces are signed by another key and statements begin with what no nonce does.
func TestNonceOracle(t *testing.T) {
	id := person(t, 7)
	payload := []byte{0xa0}
	crafted := append([]byte("\xff\x00unibus/v1 entry\x00"), payload...)
	forged := append(id.SignNonce(crafted), payload...)
	if err := crypto.Verify(crypto.KindEntry, id.Key(), forged); !errors.Is(err, crypto.ErrSignature) {
		t.Errorf("a signed nonce passes as a statement of the identity: %v", err)
	}
	if good := id.Sign(crypto.KindEntry, payload); crypto.Verify(crypto.KindEntry, id.Key(), good) != nil {
		t.Error("the honest statement does not verify")
	} else if crypto.Verify(crypto.KindCard, id.Key(), good) == nil || crypto.Verify(crypto.KindToken, id.Key(), good) == nil {
		t.Error("a statement of one kind passes as another")
	}
}

func TestStatements(t *testing.T) {
	id := person(t, 1)
	for _, b := range [][]byte{nil, make([]byte, 64), make([]byte, 64+crypto.MaxStatement+1)} {
		if _, err := crypto.Payload(b); !errors.Is(err, crypto.ErrEncoding) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
		if err := crypto.Verify(crypto.KindEntry, id.Key(), b); !errors.Is(err, crypto.ErrEncoding) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
		if _, err := crypto.HashStatement(b); !errors.Is(err, crypto.ErrEncoding) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
	a := must[crypto.Hash](t)(crypto.HashStatement(id.Sign(crypto.KindEntry, []byte("x"))))
	b := must[crypto.Hash](t)(crypto.HashStatement(person(t, 2).Sign(crypto.KindCard, []byte("x"))))
	if a != b {
		t.Error("the hash depends on the signature")
	}
	// S + L: the same equation, another encoding.
	s := id.Sign(crypto.KindEntry, []byte("x"))
	l := unhex(t, "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	carry := 0
	for i := range l {
		sum := int(s[32+i]) + int(l[i]) + carry
		s[32+i], carry = byte(sum), sum>>8
	}
	if err := crypto.Verify(crypto.KindEntry, id.Key(), s); !errors.Is(err, crypto.ErrSignature) {
		t.Errorf("S not below L: %v", err)
	}
}

// TestCBOR refuses every encoding but the one.
func TestCBOR(t *testing.T) {
	type sample struct {
		A crypto.Number  `cbor:"a"`
		B []byte         `cbor:"b"`
		C *crypto.Number `cbor:"c,omitempty"`
		K *crypto.ID     `cbor:"k,omitempty"`
		H *crypto.Hash   `cbor:"h,omitempty"`
	}
	n := crypto.Number(7)
	good := must[[]byte](t)(crypto.Marshal(sample{A: crypto.MaxNumber, B: []byte{1}, C: &n, K: &crypto.ID{1}, H: &crypto.Hash{2}}))
	var s sample
	if err := crypto.Unmarshal(good, &s); err != nil || s.A != crypto.MaxNumber || *s.C != 7 || *s.K != (crypto.ID{1}) {
		t.Fatalf("the one good encoding: %v", err)
	}
	if nothing := must[[]byte](t)(crypto.Marshal(sample{})); !bytes.Equal(nothing, unhex(t, "a2 6161 00 6162 40")) {
		t.Errorf("an empty one is %x", nothing)
	}
	for name, h := range map[string]string{
		"empty":              "",
		"trailing byte":      "a2 6161 01 6162 41 01 00",
		"duplicate key":      "a3 6161 01 6161 01 6162 41 01",
		"unknown field":      "a3 6161 01 6162 41 01 617a 01",
		"indefinite map":     "bf 6161 01 6162 41 01 ff",
		"indefinite string":  "a2 6161 01 6162 5f 41 01 ff",
		"long integer":       "a2 6161 1801 6162 41 01",
		"unsorted":           "a2 6162 41 01 6161 01",
		"null":               "a2 6161 01 6162 f6",
		"optional null":      "a3 6161 01 6162 41 01 6163 f6",
		"negative":           "a2 6161 20 6162 41 01",
		"float":              "a2 6161 f93c00 6162 41 01",
		"above 2^53-1":       "a2 6161 1b0020000000000000 6162 41 01",
		"text for bytes":     "a2 6161 01 6162 61 01",
		"tag":                "a2 6161 c001 6162 41 01",
		"no map":             "01",
		"missing field":      "a1 6161 01",
		"case of a name":     "a2 6141 01 6162 41 01",
		"id of 19 bytes":     "a3 6161 01 6162 41 01 616b 53 " + strings.Repeat("00", 19),
		"id as text":         "a3 6161 01 6162 41 01 616b 74 " + strings.Repeat("41", 20),
		"hash of 31 bytes":   "a3 6161 01 6162 41 01 6168 581f " + strings.Repeat("00", 31),
		"cut short":          "a2 6161 01 6162 42 01",
		"deep":               "a2 6161 01 6162 " + strings.Repeat("81", 40) + "01",
		"a huge claimed map": "bb 00000000ffffffff",
	} {
		var s sample
		if err := crypto.Unmarshal(unhex(t, h), &s); !errors.Is(err, crypto.ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := crypto.Unmarshal(make([]byte, crypto.MaxStatement+1), &s); !errors.Is(err, crypto.ErrEncoding) {
		t.Errorf("too large: %v", err)
	}
}

// TestCBORParts: what reads a part of a statement relies on nobody to have looked at it before.
func TestCBORParts(t *testing.T) {
	for name, part := range map[string]interface{ UnmarshalCBOR([]byte) error }{
		"number": new(crypto.Number), "key": new(crypto.PublicKey), "id": new(crypto.ID), "hash": new(crypto.Hash),
	} {
		for _, h := range []string{"", "18", "58", "60", "5820 01", "41 01"} { // nothing, cut short, a text, too short
			if err := part.UnmarshalCBOR(unhex(t, h)); err == nil {
				t.Errorf("%s: %q is taken", name, h)
			}
		}
	}
}

// resigned changes a field of a payload and signs it again, so that only the field is wrong.
func resigned(t testing.TB, id *crypto.Identity, kind string, statement []byte, change func(m map[string]any)) []byte {
	t.Helper()
	payload := must[[]byte](t)(crypto.Payload(statement))
	var m map[string]any
	if err := crypto.Unmarshal(payload, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	return id.Sign(kind, must[[]byte](t)(crypto.Marshal(m)))
}

func TestCards(t *testing.T) {
	id, other := person(t, 1), person(t, 2)
	card := must[[]byte](t)(id.Card())
	if c, err := crypto.OpenCard(card, crypto.PublicKey{}); err != nil || c.Key != id.Key() || c.Connection != id.ConnectionKey() {
		t.Fatalf("%v", err)
	}
	for name, c := range map[string][]byte{
		"version":       resigned(t, id, crypto.KindCard, card, func(m map[string]any) { m["v"] = 2 }),
		"short sealing": resigned(t, id, crypto.KindCard, card, func(m map[string]any) { m["sealing"] = []byte{1} }),
		"other signer":  resigned(t, other, crypto.KindCard, card, func(map[string]any) {}),
		"other kind":    resigned(t, id, crypto.KindToken, card, func(map[string]any) {}),
		"extra field":   resigned(t, id, crypto.KindCard, card, func(m map[string]any) { m["x"] = 1 }),
		"small order":   resigned(t, id, crypto.KindCard, card, func(m map[string]any) { m["connection"] = make([]byte, 32) }),
		"cut":           card[:60],
	} {
		if _, err := crypto.OpenCard(c, id.Key()); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := crypto.OpenCard(must[[]byte](t)(other.Card()), id.Key()); !errors.Is(err, crypto.ErrSignature) {
		t.Errorf("another's card: %v", err)
	}
}

func TestTokens(t *testing.T) {
	id, bus, now := person(t, 1), tokenBus, tokenTime
	good := signedToken(t, func(*crypto.Token) {})
	got, err := crypto.OpenToken(good, crypto.UseConnect, &bus, now)
	if err != nil || got.Key != id.Key() || got.Connection != id.ConnectionKey() || len(got.Rooms) != 1 || *got.Bus != bus || !got.Until.Equal(now.Add(time.Minute)) {
		t.Fatalf("%+v, %v", got, err)
	}
	hello := signedToken(t, func(tok *crypto.Token) { tok.Bus = nil })
	if _, err := crypto.OpenToken(hello, crypto.UseConnect, nil, now); err != nil {
		t.Errorf("hello: %v", err)
	}
	boxed := signedToken(t, func(tok *crypto.Token) { tok.Inbox = crypto.Inbox{0xff} })
	if got, err := crypto.OpenToken(boxed, crypto.UseConnect, &bus, now); err != nil || got.Inbox.String() != "74aaaaaaaaaaaaaaaaaaaaaaaa" {
		t.Errorf("inbox: %v, %v", got.Inbox, err)
	}
}

// TestJudgedTokens: what makes a token good for nothing, and how far each bound reaches (SPEC.md §2). One that is
// malformed is known as such by whoever only peeks at it, too.
func TestJudgedTokens(t *testing.T) {
	id, bus, otherBus, now := person(t, 1), tokenBus, crypto.ID{2}, tokenTime
	make := func(change func(*crypto.Token)) string { return signedToken(t, change) }
	api := func(life time.Duration) func(*crypto.Token) {
		return func(tok *crypto.Token) { tok.Use, tok.Until = crypto.UseAPI, now.Add(life) }
	}
	good, hello := make(func(*crypto.Token) {}), make(func(tok *crypto.Token) { tok.Bus = nil })
	raw := must[[]byte](t)(base64.RawURLEncoding.DecodeString(good))
	encode := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	for name, c := range map[string]struct {
		token string
		use   string
		bus   *crypto.ID
		now   time.Time
		want  error
	}{
		"other use":       {good, crypto.UseAPI, &bus, now, crypto.ErrTokenUse},
		"other bus":       {good, crypto.UseConnect, &otherBus, now, crypto.ErrTokenBus},
		"bus for none":    {good, crypto.UseConnect, nil, now, crypto.ErrTokenBus},
		"none for bus":    {hello, crypto.UseConnect, &bus, now, crypto.ErrTokenBus},
		"expired":         {good, crypto.UseConnect, &bus, now.Add(6*time.Minute + time.Millisecond), crypto.ErrTokenExpired},
		"within skew":     {good, crypto.UseConnect, &bus, now.Add(6 * time.Minute), nil},
		"early":           {good, crypto.UseConnect, &bus, now.Add(-5*time.Minute - time.Millisecond), crypto.ErrTokenExpired},
		"no base64":       {"!" + good, crypto.UseConnect, &bus, now, crypto.ErrEncoding},
		"padded base64":   {good + "=", crypto.UseConnect, &bus, now, crypto.ErrEncoding},
		"empty":           {"", crypto.UseConnect, &bus, now, crypto.ErrEncoding},
		"no CBOR":         {encode(id.Sign(crypto.KindToken, []byte("x"))), crypto.UseConnect, &bus, now, crypto.ErrEncoding},
		"altered":         {encode(append(bytes.Clone(raw[:63]), append([]byte{raw[63] ^ 1}, raw[64:]...)...)), crypto.UseConnect, &bus, now, crypto.ErrSignature},
		"version":         {encode(resigned(t, id, crypto.KindToken, raw, func(m map[string]any) { m["v"] = 2 })), crypto.UseConnect, &bus, now, crypto.ErrEncoding},
		"bus of 3 bytes":  {encode(resigned(t, id, crypto.KindToken, raw, func(m map[string]any) { m["bus"] = []byte{1, 2, 3} })), crypto.UseConnect, &bus, now, crypto.ErrEncoding},
		"until then from": {encode(resigned(t, id, crypto.KindToken, raw, func(m map[string]any) { m["until"] = 1 })), crypto.UseConnect, &bus, now, crypto.ErrEncoding},
		"ten minutes":     {make(func(tok *crypto.Token) { tok.Until = now.Add(10 * time.Minute) }), crypto.UseConnect, &bus, now, nil},
		"eleven minutes":  {make(func(tok *crypto.Token) { tok.Until = now.Add(11 * time.Minute) }), crypto.UseConnect, &bus, now, crypto.ErrTokenLife},
		"api, a day":      {make(api(24 * time.Hour)), crypto.UseAPI, &bus, now, nil},
		"api, longer":     {make(api(24*time.Hour + time.Millisecond)), crypto.UseAPI, &bus, now, crypto.ErrTokenLife},
		"inbox of 3":      {encode(resigned(t, id, crypto.KindToken, raw, func(m map[string]any) { m["inbox"] = []byte{1, 2, 3} })), crypto.UseConnect, &bus, now, crypto.ErrEncoding},
		"empty inbox":     {encode(resigned(t, id, crypto.KindToken, raw, func(m map[string]any) { m["inbox"] = []byte{} })), crypto.UseConnect, &bus, now, crypto.ErrEncoding},
		"too many rooms":  {make(func(tok *crypto.Token) { tok.Rooms = append(tok.Rooms, make1001()...) }), crypto.UseConnect, &bus, now, crypto.ErrEncoding},
	} {
		if _, err := crypto.OpenToken(c.token, c.use, c.bus, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		_, err := crypto.PeekToken(c.token) // needs neither a use nor a signature
		if malformed := c.want == crypto.ErrEncoding; malformed != errors.Is(err, crypto.ErrEncoding) {
			t.Errorf("%s, peeked at: %v", name, err)
		}
	}
}

// What the tokens of signedToken are for, and when they are signed.
var (
	tokenBus  = crypto.ID{1}
	tokenTime = time.UnixMilli(1_700_000_000_000)
)

// signedToken is a token to connect with for a minute, changed before person 1 signs it.
func signedToken(t *testing.T, change func(*crypto.Token)) string {
	t.Helper()
	bus := tokenBus
	tok := crypto.Token{Use: crypto.UseConnect, Bus: &bus, From: tokenTime, Until: tokenTime.Add(time.Minute), Rooms: []crypto.ID{{3}}}
	change(&tok)
	return must[string](t)(person(t, 1).Token(tok))
}

func make1001() []crypto.ID { return make([]crypto.ID, crypto.MaxTokenRooms) }

func TestRoomKeys(t *testing.T) {
	alice, bob := person(t, 1), person(t, 2)
	room := crypto.ID{9}
	key := crypto.RoomKey{8}
	card := must[crypto.Card](t)(crypto.OpenCard(must[[]byte](t)(bob.Card()), bob.Key()))
	sealed := must[[]byte](t)(crypto.SealKey(key, room, 3, bob.Key(), card.Sealing))
	if len(sealed) != crypto.SealedSize {
		t.Fatalf("%d bytes", len(sealed))
	}
	if got, err := bob.OpenKey(sealed, room, 3, key.Commit(3)); err != nil || got != key {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sealed)
	flipped[100] ^= 1
	for name, c := range map[string]struct {
		by     *crypto.Identity
		sealed []byte
		room   crypto.ID
		epoch  uint32
		commit crypto.Hash
	}{
		"another member":     {alice, sealed, room, 3, key.Commit(3)},
		"another room":       {bob, sealed, crypto.ID{1}, 3, key.Commit(3)},
		"another epoch":      {bob, sealed, room, 4, key.Commit(4)},
		"another commitment": {bob, sealed, room, 3, crypto.RoomKey{1}.Commit(3)},
		"altered":            {bob, flipped, room, 3, key.Commit(3)},
		"cut":                {bob, sealed[:1000], room, 3, key.Commit(3)},
		"none":               {bob, nil, room, 3, key.Commit(3)},
	} {
		if _, err := c.by.OpenKey(c.sealed, c.room, c.epoch, c.commit); !errors.Is(err, crypto.ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := crypto.SealKey(key, room, 3, bob.Key(), []byte("no key")); err == nil {
		t.Error("sealed to no key")
	}
	next := crypto.RoomKey{7}
	previous := must[[]byte](t)(crypto.SealPrevious(next, room, 4, key, [24]byte{1}))
	if got, err := crypto.OpenPrevious(next, room, 4, previous, key.Commit(3)); err != nil || got != key {
		t.Fatal(err)
	}
	if _, err := crypto.OpenPrevious(next, room, 4, previous, next.Commit(3)); !errors.Is(err, crypto.ErrCommitment) {
		t.Errorf("another commitment: %v", err)
	}
	if _, err := crypto.OpenPrevious(key, room, 4, previous, key.Commit(3)); !errors.Is(err, crypto.ErrSealed) {
		t.Errorf("another key: %v", err)
	}
	if _, err := crypto.OpenPrevious(next, room, 4, previous[1:], key.Commit(3)); !errors.Is(err, crypto.ErrSealed) {
		t.Errorf("cut: %v", err)
	}
}

// frame seals one, and says how to open it.
func frame(t testing.TB, encrypted bool) (raw []byte, id *crypto.Identity, room crypto.ID, key *crypto.FrameKey, content []byte) {
	t.Helper()
	id, room = person(t, 1), crypto.ID{5}
	if encrypted {
		key = must[*crypto.FrameKey](t)(crypto.NewFrameKey(crypto.RoomKey{4}, room, 2))
	}
	content = crypto.AppendContentTime(nil, 1234)
	content = crypto.AppendRecord(content, []crypto.Field{{Key: "k", Value: "v"}, {Key: "k", Value: ""}}, []byte("body"))
	content = crypto.AppendRecord(content, nil, nil)
	h := crypto.Header{Epoch: 2, At: 3, Head: [16]byte{6}, Stream: [16]byte{7}, Counter: 8, Flags: crypto.FlagFinal}
	raw = must[[]byte](t)(id.SealFrame(nil, room, key, h, content, [32]byte{9}))
	return raw, id, room, key, content
}

func records(c crypto.Content) (all []crypto.Record) {
	for r, last := range c.Records() {
		if all = append(all, r); last {
			break
		}
	}
	return all
}

func TestFrames(t *testing.T) {
	for _, encrypted := range []bool{true, false} {
		raw, id, room, key, content := frame(t, encrypted)
		h := must[crypto.Header](t)(crypto.ParseHeader(raw))
		if h.Epoch != 2 || h.At != 3 || h.Counter != 8 || h.Flags != crypto.FlagFinal || h.Stream != [16]byte{7} {
			t.Errorf("header is %+v", h)
		}
		got, err := crypto.OpenFrame(raw, room, id.Key(), key)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatal(err)
		}
		c := must[crypto.Content](t)(crypto.ParseContent(h.Flags, got))
		if r := records(c); c.Time != 1234 || len(r) != 2 || string(r[0].Body) != "body" || len(r[0].Headers) != 2 || len(r[1].Body) != 0 {
			t.Errorf("content is %+v", c)
		}
		// No bit can change, and no byte can be missing or too many.
		for i := range raw {
			for _, bit := range []byte{1, 0x80} {
				bad := bytes.Clone(raw)
				bad[i] ^= bit
				if _, err := crypto.ParseHeader(bad); err != nil {
					continue
				}
				if _, err := crypto.OpenFrame(bad, room, id.Key(), key); err == nil {
					t.Fatalf("encrypted %v: byte %d can change", encrypted, i)
				}
			}
		}
		for n := range raw {
			if _, err := crypto.ParseHeader(raw[:n]); err != nil {
				continue
			}
			if _, err := crypto.OpenFrame(raw[:n], room, id.Key(), key); err == nil {
				t.Fatalf("encrypted %v: cut to %d bytes it opens", encrypted, n)
			}
		}
		if _, err := crypto.OpenFrame(append(bytes.Clone(raw), 0), room, id.Key(), key); err == nil {
			t.Error("a byte can be added")
		}
		if _, err := crypto.OpenFrame(raw, crypto.ID{1}, id.Key(), key); err == nil {
			t.Error("it opens in another room")
		}
		if _, err := crypto.OpenFrame(raw, room, person(t, 2).Key(), key); err == nil {
			t.Error("it opens for another sender")
		}
	}
	if _, err := crypto.ParseHeader(make([]byte, crypto.MaxFrame+1)); !errors.Is(err, crypto.ErrHeader) {
		t.Errorf("too large: %v", err)
	}
	signed, _, _, _, _ := frame(t, false)
	signed[60] = 1
	if _, err := crypto.ParseHeader(signed); !errors.Is(err, crypto.ErrHeader) {
		t.Errorf("a nonce without encryption: %v", err)
	}
	short := append([]byte("ub1\x01"), make([]byte, 146)...)
	if _, err := crypto.ParseHeader(short); !errors.Is(err, crypto.ErrHeader) {
		t.Errorf("no room for the tag: %v", err)
	}
}

// TestClonedRandomness: a process that repeats its randomness does not repeat a nonce for other
// content.
func TestClonedRandomness(t *testing.T) {
	id, room := person(t, 1), crypto.ID{5}
	key := must[*crypto.FrameKey](t)(crypto.NewFrameKey(crypto.RoomKey{4}, room, 2))
	nonces := map[[24]byte]string{}
	for _, content := range []string{"one", "two", "three"} {
		raw := must[[]byte](t)(id.SealFrame(nil, room, key, crypto.Header{At: 1}, []byte(content), [32]byte{1}))
		h := must[crypto.Header](t)(crypto.ParseHeader(raw))
		if other, ok := nonces[h.Nonce]; ok {
			t.Errorf("%s and %s share a nonce", content, other)
		}
		nonces[h.Nonce] = content
	}
}

func TestContent(t *testing.T) {
	stamp := crypto.AppendContentTime(nil, 1)
	with := func(s string) []byte { return append(bytes.Clone(stamp), unhex(t, s)...) }
	for name, b := range map[string][]byte{
		"no time":                 stamp[:7],
		"length cut short":        with("80"),
		"length not minimal":      with("8100 00"),
		"length of 11 bytes":      with("ffffffffffffffffffff01"),
		"record longer":           with("05 00"),
		"padding not zero":        with("00 00 01"),
		"no header count":         with("01 80"),
		"more headers than bytes": with("03 ff7f 00"),
		"header cut short":        with("03 01 05 41"),
		"value cut short":         with("04 01 01 41 05"),
		"key is no UTF-8":         with("04 01 01 ff 00"),
		"value is no UTF-8":       with("05 01 01 41 01 ff"),
		"header length over-long": with("05 01 8100 4100"),
		"huge length":             with("ffffffffffffffff7f"),
		"no value length":         with("03 01 01 41"),
	} {
		if _, err := crypto.ParseContent(0, b); !errors.Is(err, crypto.ErrContent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c, err := crypto.ParseContent(0, stamp); err != nil || c.Time != 1 || len(records(c)) != 0 {
		t.Errorf("nothing: %v", err)
	}
	// A claim of very many headers costs no memory.
	claim := append(bytes.Clone(stamp), 12)
	claim = append(binary.AppendUvarint(claim, math.MaxUint32), make([]byte, 7)...)
	if n := testing.AllocsPerRun(10, func() { _, _ = crypto.ParseContent(0, claim) }); n > 20 {
		t.Errorf("%v allocations", n)
	}
	big := crypto.AppendRecord(bytes.Clone(stamp), []crypto.Field{{Key: strings.Repeat("k", 200), Value: "v"}}, make([]byte, 300))
	if len(big)-len(stamp) > crypto.RecordSize([]crypto.Field{{Key: strings.Repeat("k", 200), Value: "v"}}, 300) {
		t.Error("RecordSize is too small")
	}
	padded := crypto.AppendPadding(bytes.Clone(big))
	if len(padded) != crypto.Padme(len(big)) {
		t.Errorf("padded to %d", len(padded))
	}
	c, err := crypto.ParseContent(0, padded)
	if r := records(c); err != nil || len(r) != 1 || len(r[0].Body) != 300 {
		t.Errorf("padded: %v", err)
	}
	// A frame of very many records costs no more than itself.
	many := slices.Concat(stamp, bytes.Repeat([]byte{1, 0}, 1<<19))
	if n := testing.AllocsPerRun(10, func() {
		for range must[crypto.Content](t)(crypto.ParseContent(0, many)).Records() {
		}
	}); n > 20 {
		t.Errorf("%v allocations for many records", n)
	}
}

func TestFollows(t *testing.T) {
	others := []crypto.Follows{{Stream: [16]byte{1}, Frames: 2, At: 3, Place: 4, Sealed: 5}, {Stream: [16]byte{6}}}
	content := crypto.AppendFollows(crypto.AppendContentTime(nil, 7), others)
	content = crypto.AppendRecord(content, nil, []byte("body"))
	c := must[crypto.Content](t)(crypto.ParseContent(crypto.FlagFollows, content))
	if r := records(c); !slices.Equal(c.Follows, others) || len(r) != 1 || string(r[0].Body) != "body" {
		t.Errorf("content is %+v", c)
	}
	for n := 8; n < len(content)-6; n++ {
		if _, err := crypto.ParseContent(crypto.FlagFollows, content[:n]); !errors.Is(err, crypto.ErrContent) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	crowd := crypto.AppendFollows(crypto.AppendContentTime(nil, 7), make([]crypto.Follows, crypto.MaxFollows+1))
	if _, err := crypto.ParseContent(crypto.FlagFollows, crowd); !errors.Is(err, crypto.ErrContent) {
		t.Errorf("too many: %v", err)
	}
	seal := func(h crypto.Header) []byte {
		return must[[]byte](t)(person(t, 1).SealFrame(nil, crypto.ID{5}, nil, h, content, [32]byte{9}))
	}
	if h := must[crypto.Header](t)(crypto.ParseHeader(seal(crypto.Header{Flags: crypto.FlagFollows}))); h.Flags != crypto.FlagFollows {
		t.Errorf("header is %+v", h)
	}
	for _, h := range []crypto.Header{{Flags: crypto.FlagFollows, Counter: 1}, {Flags: 8}} {
		if _, err := crypto.ParseHeader(seal(h)); !errors.Is(err, crypto.ErrHeader) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

func TestPadme(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1: 1, 2: 2, 8: 8, 9: 10, 100: 104, 1000: 1024, 1025: 1088, 100_000: 100_352} {
		if got := crypto.Padme(n); got != want {
			t.Errorf("Padme(%d) = %d, want %d", n, got, want)
		}
	}
	for n := 1; n < 1<<20; n += 997 {
		if p := crypto.Padme(n); p < n || float64(p) > float64(n)*1.12+1 {
			t.Fatalf("Padme(%d) = %d", n, p)
		}
	}
}
