package compact

// SetBudget makes the engine's memory for plans smaller. The engine must be idle.
func (e *Engine) SetBudget(items int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.budget = items
	clear(e.lanes)
}

// CallWaits tells whether a call waits for memory: to a newcomer there is none then, however little it needs.
func (e *Engine) CallWaits() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.lanes {
		if !l.calls.free.TryAcquire(1) {
			return true
		}
		l.calls.free.Release(1)
	}
	return false
}
