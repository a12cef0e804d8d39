package run

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// often is how often the memory of a process is looked at: what it took at most is read, so that only what it takes
// in its last moment can be missed.
const often = 20 * time.Millisecond

// Memory is the most memory that a process has had.
type Memory struct {
	mu   sync.Mutex
	most int64
	stop chan struct{}
	gone chan struct{}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// Watch looks at the memory of a process until Stop.
func Watch(pid int) *Memory {
	m := &Memory{stop: make(chan struct{}), gone: make(chan struct{})}
	go func() {
		defer close(m.gone)
		for {
			m.look(pid)
			select {
			case <-m.stop:
				return
			case <-time.After(often):
			}
		}
	}()
	return m
}

func (m *Memory) look(pid int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return // it has ended
	}
	if match := highWater.FindSubmatch(status); match != nil {
		kib, _ := strconv.ParseInt(string(match[1]), 10, 64) // digits
		m.mu.Lock()
		defer m.mu.Unlock()
		m.most = max(m.most, kib>>10)
	}
}

// Most is the most memory so far, in MiB.
func (m *Memory) Most() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.most
}

// Stop looks no more, and returns Most.
func (m *Memory) Stop() int64 {
	close(m.stop)
	<-m.gone
	return m.Most()
}
