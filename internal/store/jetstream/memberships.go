package jetstream

import (
	"context"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
)

// Unlisted are the rooms with members whose own lists lack them, or say of them what an earlier entry did: a membership is kept by
// room, and once more by member (views.go), and whoever asks for their rooms is given the second list alone. While it looks it
// holds all memberships in memory. What was written meanwhile may be among them.
func (r *repairer) Unlisted(ctx context.Context) (map[crypto.ID]bool, error) {
	kept := map[string][]byte{} // by the key that each has in the list of its member
	err := r.members.scan(ctx, ">", func(found record) error {
		room, endpoint, _ := strings.Cut(found.key, ".")
		kept[endpoint+"."+room] = found.value
		return nil
	})
	if err == nil {
		err = r.roomsOf.scan(ctx, ">", func(found record) error {
			if later := kept[found.key]; seqOf(found.value) >= seqOf(later) || alike(found.value, later) {
				delete(kept, found.key)
			}
			return nil
		})
	}
	if err != nil {
		return nil, failure(err)
	}
	rooms := map[crypto.ID]bool{}
	for key := range kept {
		_, room, _ := strings.Cut(key, ".")
		if id, err := crypto.ParseID(room); err == nil { // else whoever asks for it is told
			rooms[id] = true
		}
	}
	return rooms, nil
}
