package jetstream

// This file puts the parts of a bucket together, and names the buckets of a store.

// bucket is one key-value bucket, history 1: writes, which say what they replace (write.go), barriers (barrier.go), and
// reads, which believe only a replica that has reached a barrier (read.go, scan.go). Its keys are never deleted, but for
// staged copies of room keys that are of use to nobody.
type bucket struct {
	*writer
	*barrier
	*reader
}

// newBucket is the bucket with a name. It asks nothing of the servers yet.
func newBucket(c *conn, name string) *bucket {
	w := &writer{conn: c, stream: "KV_" + name, prefix: "$KV." + name + "."}
	b := &barrier{conn: c, writer: w}
	return &bucket{writer: w, barrier: b, reader: &reader{conn: c, bucket: w, barrier: b}}
}

// buckets are those of a store: the log is the truth, the others are views, and sealed keys and cards.
type buckets struct {
	log, rooms, members, roomsOf, keys, users *bucket
}

// Buckets are the names of the key-value buckets, the log first.
var Buckets = []string{"unibus_log", "unibus_rooms", "unibus_members", "unibus_rooms_by_member", "unibus_room_keys", "unibus_users"}

// newBuckets asks nothing of the servers yet.
func newBuckets(c *conn) *buckets {
	b := &buckets{}
	for i, to := range []**bucket{&b.log, &b.rooms, &b.members, &b.roomsOf, &b.keys, &b.users} {
		*to = newBucket(c, Buckets[i])
	}
	return b
}

// all are the buckets, the log first.
func (b *buckets) all() []*bucket {
	return []*bucket{b.log, b.rooms, b.members, b.roomsOf, b.keys, b.users}
}
