package jetstream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(t testing.TB, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'a', n})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// open opens the store of an account over a connection of its own.
func (c *cluster) open(i, account int, timeout time.Duration) *Store {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Open(ctx, c.connect(i, account), Options{OpTimeout: timeout, Replicas: min(len(c.servers), 3)})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprintf("R%d", servers), func(t *testing.T) {
			c := newCluster(t, servers)
			account := 0
			storetest.Run(t, func(t *testing.T) storetest.Backend {
				const timeout = 5 * time.Second
				account++
				s := c.open(0, account, timeout)
				other := c.open(servers-1, account, timeout) // by way of another server
				admin := identity(t, 0)
				return storetest.Backend{
					Admin: admin, OpTimeout: timeout,
					As: func(by *crypto.Identity) store.Store {
						if by.Key() == admin.Key() {
							return s
						}
						return other
					},
					Break: func() { s.Close() },
				}
			})
		})
	}
}
