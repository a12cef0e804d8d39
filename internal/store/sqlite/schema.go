package sqlite

// This file is the schema: the table entries is the truth, room_keys and cards are what clients put, all others are views
// that apply.go writes and repair.go writes anew.

// oldest is the version that the first migration makes. A file of an earlier one is refused: nothing
// converts it.
const oldest = 5

// migrations bring an older file to the next version, in order; user_version counts them, from oldest on.
var migrations = []string{`
CREATE TABLE entries (
  n         INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival, for watchers
  log       BLOB NOT NULL,
  seq       INTEGER NOT NULL,
  statement BLOB NOT NULL,
  UNIQUE (log, seq)
) STRICT;
CREATE TABLE bus (
  one BLOB PRIMARY KEY CHECK (one = x'01'), -- at most one row
  log BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rooms (
  id         BLOB PRIMARY KEY,
  subject    TEXT NOT NULL UNIQUE,
  epoch      INTEGER NOT NULL,
  policy     TEXT NOT NULL,
  seq        INTEGER NOT NULL,
  archived   INTEGER NOT NULL,
  creator    BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX rooms_by_creator ON rooms (creator) WHERE NOT archived;
CREATE TABLE members (
  room     BLOB NOT NULL,
  endpoint BLOB NOT NULL,
  role     TEXT NOT NULL,
  PRIMARY KEY (room, endpoint)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_endpoint ON members (endpoint, room);
CREATE TABLE epochs (
  room       BLOB NOT NULL,
  epoch      INTEGER NOT NULL,
  commitment BLOB NOT NULL,
  author     BLOB NOT NULL,
  PRIMARY KEY (room, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE room_keys (
  room       BLOB NOT NULL,
  epoch      INTEGER NOT NULL,
  commitment BLOB NOT NULL,
  endpoint   BLOB NOT NULL,
  sealer     BLOB NOT NULL,
  sealed     BLOB NOT NULL,
  staged_at  INTEGER NOT NULL, -- Unix ms; 0: an entry names its key
  PRIMARY KEY (room, epoch, commitment, endpoint, sealer)
) STRICT;
CREATE INDEX room_keys_staged ON room_keys (staged_at) WHERE staged_at > 0;
CREATE TABLE cards (
  endpoint  BLOB PRIMARY KEY,
  statement BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE users (
  endpoint BLOB PRIMARY KEY,
  name     TEXT NOT NULL,
  role     TEXT NOT NULL,
  active   INTEGER NOT NULL,
  expires  INTEGER NOT NULL, -- Unix ms; 0: never
  revoked  INTEGER NOT NULL, -- Unix ms; 0: never
  added    INTEGER NOT NULL,
  added_by BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX users_admins ON users (role, active);
`, `
CREATE TABLE copying (one BLOB PRIMARY KEY CHECK (one = x'01')) STRICT; -- a row: a bus is being copied here
`}
