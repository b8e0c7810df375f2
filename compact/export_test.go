package compact

// SetBudget makes the engine's memory for plans smaller. The engine must be idle.
func (e *Engine) SetBudget(items int64) {
	e.calls, e.jobs, e.estimates = newItemBudget(items), newItemBudget(items), newItemBudget(items)
}

// CallWaits tells whether a call waits for memory: to a newcomer there is none then, however little it needs.
func (e *Engine) CallWaits() bool {
	if !e.calls.free.TryAcquire(1) {
		return true
	}
	e.calls.free.Release(1)
	return false
}
