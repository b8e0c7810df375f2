package compact

// SetRoom makes the engine's memory for plans smaller. The engine must be idle.
func (e *Engine) SetRoom(items int64) {
	e.calls, e.jobs, e.looks = newRoom(items), newRoom(items), newRoom(items)
}
