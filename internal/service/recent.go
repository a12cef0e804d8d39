package service

import (
	"sync"

	"golang.org/x/time/rate"
)

// recent remembers what was used lately: at least the last n keys, at most twice as many. There are two
// generations; what is used moves to the younger one, and when that is full the older one goes.
type recent[K comparable, V any] struct {
	n int

	mu         sync.Mutex
	young, old map[K]V
}

func newRecent[K comparable, V any](n int) *recent[K, V] { return &recent[K, V]{n: n} }

func (r *recent[K, V]) get(k K) (v V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(k)
}

func (r *recent[K, V]) put(k K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(k, v)
}

// getOrMake returns what is remembered, or what to remember from now on.
func (r *recent[K, V]) getOrMake(k K, fresh func() V) V {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.find(k)
	if !ok {
		v = fresh()
		r.set(k, v)
	}
	return v
}

func (r *recent[K, V]) find(k K) (V, bool) {
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	if ok {
		r.set(k, v)
	}
	return v, ok
}

func (r *recent[K, V]) set(k K, v V) {
	if _, known := r.young[k]; !known && len(r.young) >= r.n || r.young == nil {
		r.young, r.old = make(map[K]V), r.young
	}
	r.young[k] = v
}

// rates gives each key a limit of its own, and forgets those that were not asked for lately.
type rates[K comparable] struct {
	limiters *recent[K, *rate.Limiter]
	each     rate.Limit // in a second
	burst    int
}

func newRates[K comparable](n int, each rate.Limit, burst int) *rates[K] {
	return &rates[K]{newRecent[K, *rate.Limiter](n), each, burst}
}

func (r *rates[K]) of(k K) *rate.Limiter {
	return r.limiters.getOrMake(k, func() *rate.Limiter { return rate.NewLimiter(r.each, r.burst) })
}
