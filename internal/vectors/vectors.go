// Package vectors reads testdata/v1.json: the protocol as an independent implementation in another
// language computes it. Only tests import it.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Bytes is hexadecimal text.
type Bytes []byte

// UnmarshalText decodes hexadecimal.
func (b *Bytes) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	*b = raw
	return err
}

// MarshalText encodes as hexadecimal.
func (b Bytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

// File is testdata/v1.json.
type File struct {
	Identities []struct {
		Name, Key      string
		Seed           Bytes
		NkeySeed       string `json:"nkey_seed"`
		ConnectionSeed Bytes  `json:"connection_seed"`
		ConnectionKey  string `json:"connection_key"`
		SealingPrivate Bytes  `json:"sealing_private"`
		SealingPublic  Bytes  `json:"sealing_public"`
		Card           Bytes
	}
	Cards []struct {
		Card    Bytes
		Of, Why string
		OK      bool
	}
	Tokens []struct {
		Name, Token, Bus, Use, Key, Connection, Why string
		Now                                         int64
		OK                                          bool
	}
	Commitments []struct {
		Key    Bytes
		Epoch  uint32
		Commit string
	}
	Sealed []struct {
		Member, Room, Commit, Why string
		Epoch                     uint32
		Sealed, Key               Bytes
		OK                        bool
	}
	Previous []struct {
		Room          string
		Epoch         uint32
		Key, Previous Bytes
		PreviousKey   Bytes `json:"previous_key"`
	}
	BusLogs  []Log `json:"bus_logs"`
	RoomLogs []Log `json:"room_logs"`
	Frames   []Frame
}

// Log is a chain of statements and what it folds to.
type Log struct {
	Name, Why, ID, Head, Bus, Subject string
	Entries                           []Bytes
	OK                                bool
	Epoch                             uint32
	Users                             []struct {
		Key, Name, Role string
		Active          bool
	}
	Members []struct{ Key, Role string }
}

// Frame is one frame and what a reader says of it.
type Frame struct {
	Name, Sender, Why string
	RoomLog           string `json:"room_log"`
	Frame             Bytes
	Live, OK, Former  bool
	Epoch             uint32
	At, Counter, Time uint64
	Flags             byte
	Records           []struct {
		Headers [][2]string
		Body    Bytes
	}
	MadeWith struct{ Fresh, Stream Bytes } `json:"made_with"`
}

// Load reads the vectors of this source tree.
func Load() (*File, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return nil, fmt.Errorf("vectors: where is the source tree?")
	}
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "testdata", "v1.json"))
	if err != nil {
		return nil, err
	}
	f := new(File)
	return f, json.Unmarshal(raw, f)
}
