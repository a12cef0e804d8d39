package run

import (
	"fmt"
	"os"
	"strconv"
	"strings"
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
	most := MemoryOf(pid, "VmHWM") >> 20
	m.mu.Lock()
	defer m.mu.Unlock()
	m.most = max(m.most, most)
}

// MemoryOf is what Linux says of a process's memory in a field of its status, in bytes; 0 when it has ended.
func MemoryOf(pid int, field string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // digits
			return kib << 10
		}
	}
	return 0
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
