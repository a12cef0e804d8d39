package sqlite

import (
	"encoding/json"
	"fmt"
	"strings"
)

// This file reads values from rows. Whatever a damaged file holds in their place is an error, and no panic.

// Blob reads a value that is as long as it is itself; of a damaged file it may have any length.
type Blob []byte

// Scan implements sql.Scanner.
func (b Blob) Scan(value any) error {
	read, _ := value.([]byte)
	if len(read) != len(b) {
		return fmt.Errorf("a value of %d bytes has %d", len(b), len(read))
	}
	copy(b, read)
	return nil
}

// encoded reads JSON into what it points to.
type encoded struct{ into any }

// Scan implements sql.Scanner.
func (e encoded) Scan(value any) error {
	text, _ := value.(string)
	return json.Unmarshal([]byte(text), e.into)
}

// isMistyped reports whether an error says that a value is not what its column holds, as only damage makes it: the
// tables are strict. The database package has no other sign of it.
func isMistyped(err error) bool {
	return err != nil && strings.Contains(err.Error(), "sql: Scan error")
}
