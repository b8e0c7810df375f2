package datadir

import "sync"

// keyedMutex is one mutex per name, there only while somebody holds or waits for it.
type keyedMutex struct {
	mu    sync.Mutex
	named map[string]*namedMutex
}

type namedMutex struct {
	mu    sync.Mutex
	users int // guarded by keyedMutex.mu
}

// lock takes the mutex of name and returns what frees it.
func (k *keyedMutex) lock(name string) (unlock func()) {
	k.mu.Lock()
	if k.named == nil {
		k.named = make(map[string]*namedMutex)
	}
	m := k.named[name]
	if m == nil {
		m = new(namedMutex)
		k.named[name] = m
	}
	m.users++
	k.mu.Unlock()
	m.mu.Lock()
	return func() {
		m.mu.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if m.users--; m.users == 0 {
			delete(k.named, name)
		}
	}
}
