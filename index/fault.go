package index

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// attempt runs fn, with its panics as errors, also one for a page that cannot be read: that is how damaged pages are
// met. intact is false where fn ended with a panic that is none of ours: bbolt, if fn called
// it, may have left its mutexes locked and its lists half changed.
func attempt(fn func() error) (intact bool, err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if v := recover(); v != nil {
			err = damageOf(v)
			ours, ok := v.(error)
			intact = ok && errors.Is(ours, ErrCorrupt)
		}
	}()
	return true, fn()
}

// damageOf is the error of a panic, or that panic again, if it is one of a function that was handed in.
func damageOf(v any) error {
	switch v := v.(type) {
	case callersPanic:
		panic(v.value)
	case addressFault:
		return fmt.Errorf("%w: a page cannot be read from the disk", ErrCorrupt)
	case error:
		if errors.Is(v, ErrCorrupt) {
			return v
		}
	}
	return fmt.Errorf("%w: %v", ErrCorrupt, v)
}

// addressFault is the panic of an access to memory that cannot be read.
type addressFault interface {
	runtime.Error
	Addr() uintptr
}

// callersPanic is a panic of a function that was handed in: it is none of a damaged page, and goes on.
type callersPanic struct{ value any }

// callback marks the panics of fn as the caller's, but for faults: fn may be handed what shares the memory of pages.
func callback[T any](fn func(T) error) func(T) error {
	return func(row T) error {
		defer func() {
			switch v := recover().(type) {
			case nil:
			case addressFault:
				panic(v)
			default:
				panic(callersPanic{v})
			}
		}()
		return fn(row)
	}
}

// note remembers an error that tells of damage, for whoever asks how the index is; it returns err.
func (x *Index) note(err error) error {
	if err != nil && errors.Is(err, ErrCorrupt) {
		damage := err // of err itself each call would allocate a copy
		x.damage.CompareAndSwap(nil, &damage)
	}
	return err
}

// Damage returns the first damage that was found in the file since it was opened, or since a Check that found none: ErrCorrupt, or
// nil. Requests that do not need the damaged part can still be served.
func (x *Index) Damage() error {
	if err := x.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// Lost returns why the index can no longer be used although it was not closed, or nil: its file changed so that nothing can be read
// from it safely, or a page could not be read during a change. Close it and open it again.
func (x *Index) Lost() error {
	if err := x.lost.Load(); err != nil {
		return *err
	}
	return nil
}

// lose gives the index up: from now on every call returns the error at once.
func (x *Index) lose(err error) {
	x.broken = true
	if !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	err = withoutPath(err, x.dir)
	x.note(err)
	x.lost.CompareAndSwap(nil, &err)
	x.snapshots.end(err)
}
