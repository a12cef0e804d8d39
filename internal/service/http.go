package service

import (
	"log"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// Bounds of the API over TCP. An answer is at most what fits a NATS message: whoever takes longer for it
// takes too long.
const (
	headerTime = 5 * time.Second
	readTime   = 30 * time.Second
	writeTime  = time.Minute // from the end of the request's header
	idleTime   = time.Minute
	maxHeader  = 2 * maxPath // bytes
)

// newHTTP is the server of the API over TCP.
func newHTTP(handler http.Handler, l *slog.Logger) *http.Server {
	return &http.Server{
		Handler: recovered(handler, l), ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: log.New(&httpLog{log: l}, "", 0),
	}
}

// guarded runs requests, and makes a panic in one an error line.
func guarded(log *slog.Logger) func(func()) {
	return func(do func()) {
		defer func() {
			if v := recover(); v != nil {
				logPanic(log, v)
			}
		}()
		do()
	}
}

// logPanic tells of a panic, with where it happened.
func logPanic(log *slog.Logger, v any) {
	log.Error("panic in a request", "panic", v, "stack", string(debug.Stack()))
}

// recovered answers a request whose handler panics, and logs one line.
func recovered(next http.Handler, l *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				logPanic(l, p)
				http.Error(w, "the service failed", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// httpLog passes on the first line of what net/http complains of, and repeats none: without descriptors
// it complains each second.
type httpLog struct {
	log  *slog.Logger
	last string // written by one goroutine at a time: log.Logger sees to that
}

// Write logs a complaint.
func (h *httpLog) Write(line []byte) (int, error) {
	first, _, _ := strings.Cut(string(line), "\n")
	kind, _, _ := strings.Cut(first, ";") // "…; retrying in 5ms"
	if kind != h.last {
		h.log.Warn(kind)
	}
	h.last = kind
	return len(line), nil
}
