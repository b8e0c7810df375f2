package repo

import (
	"context"
	"strconv"
	"time"

	"packhouse/index"
)

// metaSalvage is the name of the meta value that says until when damaged items are served as they lie; Unix ms, decimal.
const metaSalvage = "salvage until"

// MaxSalvage is for how long damaged items are served at most: nobody is to forget it.
const MaxSalvage = 7 * 24 * time.Hour

// Salvage makes damaged items be served and copied, with their wrong bytes, for a limited time, so that a client's own repair can keep
// what is intact; 0 ends it. It survives a restart.
func (r *Repository) Salvage(ctx context.Context, d time.Duration) (until time.Time, err error) {
	if d < 0 || d > MaxSalvage {
		return until, Errorf(ErrInvalid, "damaged items can be served for at most %d hours", int(MaxSalvage/time.Hour))
	}
	r.settingsMu.Lock()
	defer r.settingsMu.Unlock()
	var value []byte
	if d > 0 {
		until = r.env.Now().Add(d).Truncate(time.Millisecond)
		value = []byte(strconv.FormatInt(until.UnixMilli(), 10))
	}
	if _, err := r.apply(ctx, index.SetMeta{Name: metaSalvage, Value: value}); err != nil {
		return time.Time{}, err
	}
	r.setSalvage(value)
	if d > 0 {
		r.env.Logger.Warn("damaged items are served with wrong bytes", "repository", r.Name(), "until", until)
	} else {
		r.env.Logger.Info("damaged items are no longer served", "repository", r.Name())
	}
	return until, nil
}

func (r *Repository) setSalvage(value []byte) {
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		ms = 0
	}
	r.salvage.Store(ms)
}

// SalvagedUntil is the time until which damaged items are served with their wrong bytes; zero: they are not served.
func (r *Repository) SalvagedUntil() time.Time {
	if until := time.UnixMilli(r.salvage.Load()); until.After(r.env.Now()) {
		return until
	}
	return time.Time{}
}

// Salvaging reports whether damaged items are served with their wrong bytes.
func (r *Repository) Salvaging() bool { return !r.SalvagedUntil().IsZero() }
