package service

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what /metrics counts of logins and requests; what the watch finds it adds itself (watch.go). They are in a
// registry of their own, so that several services of one process do not meet.
type metrics struct {
	registry *prometheus.Registry
	logins   *prometheus.CounterVec
	requests *prometheus.CounterVec
	seconds  prometheus.ObserverVec
	dropped  *prometheus.CounterVec
}

// newMetrics counts from zero, also what nothing was counted of yet: that something happened for the first time shows
// as a rise only where it was zero before.
func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.logins = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "unibus_logins_total", Help: "Connections asking to be let in, by outcome (allowed, denied, unavailable).",
	}, []string{"outcome"})
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "unibus_api_requests_total", Help: "Requests to the membership API, by status and method.",
	}, []string{"code", "method"})
	m.dropped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "unibus_dropped_total", Help: "What was left without an answer: requests (unanswerable, busy, barred, unread), hello, logins (login-busy, login-fast, login-barred, door-full, bus-full).",
	}, []string{"what"})
	for _, outcome := range []string{"allowed", "denied", "unavailable"} {
		m.logins.WithLabelValues(outcome)
	}
	for _, what := range []string{
		"unanswerable", "busy", "barred", "unread", "hello",
		"login-busy", "login-fast", "login-barred", "door-full", "bus-full",
	} {
		m.dropped.WithLabelValues(what)
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "unibus_api_request_seconds", Help: "Time to answer a request to the membership API.",
	}, []string{"method"})
	m.seconds = seconds
	m.registry.MustRegister(m.logins, m.requests, m.dropped, seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// drop counts something that is left without an answer, by the reason.
func (m *metrics) drop(what string) { m.dropped.WithLabelValues(what).Inc() }

// login counts a login, by its outcome.
func (m *metrics) login(outcome string) { m.logins.WithLabelValues(outcome).Inc() }

// count counts and times the requests to next.
func (m *metrics) count(next http.Handler) http.Handler {
	return promhttp.InstrumentHandlerDuration(m.seconds, promhttp.InstrumentHandlerCounter(m.requests, next))
}
