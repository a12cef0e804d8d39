package unibus

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/remedy"
)

// NewIdentity makes an identity from fresh randomness.
func NewIdentity() (*Identity, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, err
	}
	return crypto.NewIdentity(seed)
}

// SaveIdentity writes an identity to a new file that only its owner may read, with a name in a
// comment. It never overwrites: ErrExists. ErrInvalid for a name that nobody can have on a bus.
func SaveIdentity(path string, id *Identity, name string) error {
	if err := ledger.ValidName(name); err != nil {
		return fmt.Errorf("name %q: %w: %w", name, ErrInvalid, err)
	}
	seed, err := id.Seed()
	if err != nil {
		return err
	}
	text := fmt.Appendf(nil, "# unibus identity: whoever reads this file can act as its owner\n# name: %s\n# public key: %s\n%s\n", name, id.Key(), seed)
	switch err := newfile.Write(path, text); {
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("save the identity: %s: %w", path, ErrExists)
	case err != nil:
		return fmt.Errorf("save the identity: %w", err)
	}
	return nil
}

// LoadIdentity reads an identity from a file. ErrNotFound without one.
func LoadIdentity(path string) (*Identity, error) {
	id, _, err := readIdentity(path)
	return id, err
}

// IdentityName returns the name that an identity's file carries; empty for none.
func IdentityName(path string) string {
	_, name, _ := readIdentity(path) // a file that cannot be read has no name to give
	return name
}

func readIdentity(path string) (*Identity, string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", remedy.With(fmt.Errorf("read the identity: %w: there is no file %s", ErrNotFound, path), remedy.Remedy{Kind: remedy.MakeIdentity, Path: path})
	}
	if err == nil {
		err = newfile.Private(path)
	}
	if errors.Is(err, newfile.ErrShared) {
		return nil, "", remedy.With(fmt.Errorf("read the identity: %w", err), remedy.Remedy{Kind: remedy.MakePrivate, Path: path})
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the identity: %w", err)
	}
	var seed []byte
	var name string
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if comment, ok := bytes.CutPrefix(line, []byte("#")); ok {
			if n, ok := strings.CutPrefix(strings.TrimSpace(string(comment)), "name: "); ok {
				name = n
			}
		} else if len(line) > 0 {
			seed = line
		}
	}
	id, err := crypto.ParseIdentity(seed)
	if err != nil {
		return nil, "", fmt.Errorf("read the identity %s: %w: %v", path, ErrInvalid, err)
	}
	return id, name, nil
}

// ParseKey reads a user's key as people write it: surrounding space and case do not matter. A seed
// is refused without being repeated.
func ParseKey(s string) (PublicKey, error) {
	key, err := crypto.ParsePublicKey(s)
	if err != nil {
		return key, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	return key, nil
}
