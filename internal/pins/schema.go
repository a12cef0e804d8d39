package pins

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	sqlitedriver "modernc.org/sqlite"
)

// A disk that gives back other bytes than it was given, or older ones, must not make this identity trust what it would
// have refused. So every row has a checksum, by triggers, which is compared whenever the row is read or changed. How many
// rows a table has, and the sum of their checksums, stand elsewhere in the file; they are compared before a table is used,
// and each row before one is taken for one that never was. No table has an index of its own that could lead elsewhere.
// How often anything changed stands in a file beside (changes.go). This is for accidents: whoever may write the file
// holds the identity's seed as well.

// table is one of the file's tables.
type table struct {
	name    string
	key     string   // its primary key: columns
	columns []string // each as it is declared
	grows   bool     // no row of it is ever deleted
}

// forms are the tables that each version of the file's form has added, from schema on.
var forms = [][]table{{
	{"logs", "log", []string{"log BLOB NOT NULL", "seq INTEGER NOT NULL", "snapshot BLOB NOT NULL"}, true},
	{"servers", "address", []string{"address TEXT NOT NULL", "bus BLOB NOT NULL"}, true},
	{"names", "bus, name", []string{"bus BLOB NOT NULL", "name TEXT NOT NULL", "key BLOB NOT NULL"}, true},
	{"subjects", "bus, subject", []string{"bus BLOB NOT NULL", "subject TEXT NOT NULL", "room BLOB NOT NULL"}, true},
	{"settings", "name", []string{"name TEXT NOT NULL", "value TEXT NOT NULL"}, true},
	{"offers", "log", []string{ // one at a time
		"log BLOB NOT NULL", "seq INTEGER NOT NULL", "statement BLOB NOT NULL", "at INTEGER NOT NULL", "epoch INTEGER NOT NULL", "key BLOB",
	}, false},
	{"signed", "log, seq", []string{ // what was in offers, in case its log goes back
		"log BLOB NOT NULL", "seq INTEGER NOT NULL", "statement BLOB NOT NULL", "at INTEGER NOT NULL", "epoch INTEGER NOT NULL", "key BLOB",
		"answered INTEGER NOT NULL", // whoever signed it knows what came of it
	}, false},
	{"places", "room", []string{
		"room BLOB NOT NULL",
		"anew INTEGER NOT NULL", // the log's entry with which what is stored began
		"place INTEGER NOT NULL", "hash BLOB NOT NULL",
		"own INTEGER NOT NULL", "own_hash BLOB NOT NULL", // the highest that was acknowledged
		"accepted INTEGER NOT NULL", // a person has said that up to here all is well
		"disputed INTEGER NOT NULL", // there was another frame before
	}, false},
	{"streams", "room, stream", []string{
		"room BLOB NOT NULL", "stream BLOB NOT NULL", "frames INTEGER NOT NULL", "at INTEGER NOT NULL", "place INTEGER NOT NULL", "sealed INTEGER NOT NULL",
		"ended INTEGER NOT NULL",   // nothing of it is on its way
		"written INTEGER NOT NULL", // in Unix seconds
	}, false},
	{"forks", "room, sender, at, head", []string{
		"room BLOB NOT NULL", "sender BLOB NOT NULL", "at INTEGER NOT NULL",
		"head BLOB NOT NULL", // how the hash begins that the sender has there
		"settled INTEGER NOT NULL",
	}, true},
}, {
	{"cards", "endpoint", []string{"endpoint BLOB NOT NULL", "sealing BLOB NOT NULL"}, true},
}}

var tables = slices.Concat(forms...)

// schema is the first version of the file's form.
const schema = 8

// migrations make the file, each the next version of its form. Of each table T there is a view intact_T, which is read
// instead.
func migrations() []string {
	all := make([]string, len(forms))
	for i, added := range forms {
		all[i] = migration(added)
	}
	all[0] = "CREATE TABLE counts (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, checksums INTEGER NOT NULL, changes INTEGER NOT NULL) STRICT, WITHOUT ROWID;\n" + all[0]
	return all
}

// migration adds tables.
func migration(added []table) string {
	var b strings.Builder
	for _, t := range added {
		var names, same []string
		for _, c := range t.columns {
			name, _, _ := strings.Cut(c, " ")
			names = append(names, name)
		}
		for key := range strings.SplitSeq(t.key, ", ") {
			same = append(same, key+" = NEW."+key)
		}
		old, new := "OLD."+strings.Join(names, ", OLD."), "NEW."+strings.Join(names, ", NEW.")
		sum := "unibus_checksum(" + new + ")"
		seal := fmt.Sprintf("UPDATE %s SET checksum = %s WHERE %s", t.name, sum, strings.Join(same, " AND "))
		all := strings.Join(names, ", ")
		fmt.Fprintf(&b, "CREATE TABLE %s (checksum INTEGER NOT NULL DEFAULT 0, %s, PRIMARY KEY (%s)) STRICT, WITHOUT ROWID;\n", t.name, strings.Join(t.columns, ", "), t.key)
		fmt.Fprintf(&b, "CREATE VIEW intact_%s AS SELECT %s FROM %s WHERE unibus_intact(checksum, %s);\n", t.name, all, t.name, all)
		fmt.Fprintf(&b, "INSERT INTO counts (name, rows, checksums, changes) VALUES ('%s', 0, 0, 0);\n", t.name)
		count := func(rows, checksums string) string {
			return fmt.Sprintf("UPDATE counts SET rows = rows + %s, checksums = checksums + %s, changes = changes + 1 WHERE name = '%s'", rows, checksums, t.name)
		}
		trigger(&b, t, "inserted", "AFTER INSERT", seal, count("1", sum))
		trigger(&b, t, "updating", "BEFORE UPDATE OF "+all, "SELECT unibus_intact(OLD.checksum, "+old+")")
		trigger(&b, t, "deleting", "BEFORE DELETE", "SELECT unibus_intact(OLD.checksum, "+old+")")
		trigger(&b, t, "updated", "AFTER UPDATE OF "+all, seal, count("0", sum+" - OLD.checksum"))
		if !t.grows {
			trigger(&b, t, "deleted", "AFTER DELETE", count("-1", "-OLD.checksum"))
		}
	}
	return b.String()
}

// trigger writes one of a table's triggers, which does several things one after the other.
func trigger(b *strings.Builder, t table, name, when string, do ...string) {
	fmt.Fprintf(b, "CREATE TRIGGER %s_%s %s ON %s BEGIN %s; END;\n", t.name, name, when, t.name, strings.Join(do, "; "))
}

// registered is whether SQLite has the functions that views and triggers call. They are given to it before anything
// opens a file: the driver does not expect them later.
var registered = errors.Join(
	sqlitedriver.RegisterDeterministicScalarFunction("unibus_checksum", -1, func(_ *sqlitedriver.FunctionContext, row []driver.Value) (driver.Value, error) {
		return checksum(row), nil
	}),
	sqlitedriver.RegisterDeterministicScalarFunction("unibus_intact", -1, func(_ *sqlitedriver.FunctionContext, args []driver.Value) (driver.Value, error) {
		if args[0] != checksum(args[1:]) {
			return nil, errors.New("a row has another checksum than it was written with")
		}
		return int64(1), nil
	}),
)

// checksum is that of a row's values and their types.
func checksum(row []driver.Value) driver.Value {
	sum := crc32.NewIEEE()
	var head [9]byte
	for _, value := range row {
		var content []byte
		switch v := value.(type) {
		case nil:
			head[0] = 0
		case int64:
			head[0], content = 1, binary.BigEndian.AppendUint64(nil, uint64(v))
		case string:
			head[0], content = 2, []byte(v)
		case []byte:
			head[0], content = 3, v
		}
		binary.BigEndian.PutUint64(head[1:], uint64(len(content)))
		sum.Write(head[:])
		sum.Write(content)
	}
	return int64(sum.Sum32())
}
