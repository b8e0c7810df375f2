package repo

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// The kinds of Shortage.Of.
const (
	ShortQuota  = "quota"
	ShortTotal  = "total quota"
	ShortTrash  = "trash quota"
	ShortDisk   = "disk"
	ShortInodes = "inodes"
)

var shortKinds = [...]string{ShortQuota, ShortTotal, ShortTrash, ShortDisk, ShortInodes}

// Shortage says of what a repository has too little, and what would help.
type Shortage struct {
	Of   string `json:"of"`
	Help string `json:"help"` // one line, for an administrator
}

// shortFor is how long a refusal is remembered.
const shortFor = time.Hour

// shortages remembers when something was refused for each of shortKinds; Unix ms, 0: never. The zero value works.
type shortages [len(shortKinds)]atomic.Int64

// refuse remembers why something is refused, and returns err.
func (r *Repository) refuse(err error) error {
	if err == nil {
		return nil
	}
	of := ""
	if space, ok := errors.AsType[*SpaceError](err); ok {
		of = space.Of
	} else if short, ok := errors.AsType[*ShortError](err); ok && short.Kind == ErrQuota {
		of = ShortQuota
	} else if errors.As(err, new(*TotalError)) {
		of = ShortTotal
	} else if errors.As(err, new(*TrashError)) {
		of = ShortTrash
	} else if errors.As(err, new(*QuotaError)) || errors.As(err, new(*ChargesError)) || errors.As(err, new(*HistoryError)) {
		of = ShortQuota
	} else if errors.Is(err, ErrNoSpace) {
		of = ShortDisk
	}
	for i, kind := range shortKinds {
		if kind == of {
			r.short[i].Store(r.env.Now().UnixMilli())
		}
	}
	return err
}

// Short tells for what clients were refused within the last hour.
func (r *Repository) Short() (short []Shortage) {
	now := r.env.Now()
	for i, kind := range shortKinds {
		if at := r.short[i].Load(); at != 0 && now.Sub(time.UnixMilli(at)) < shortFor {
			short = append(short, Shortage{kind, r.helpFor(kind)})
		}
	}
	return short
}

func (r *Repository) helpFor(kind string) string {
	switch kind {
	case ShortQuota:
		return `prune and compact with the client, or raise the quota ("packhouse repo quota")`
	case ShortTotal:
		return "prune and compact with the clients, or raise total_quota"
	case ShortTrash:
		return `"packhouse trash empty" removes what can be restored, with a shorter grace less is kept, with a larger trash_quota more`
	}
	help := "prune and compact with the client, or enlarge the disk"
	if kind == ShortInodes {
		help = "prune and compact with the client, or use a file system with more inodes"
	}
	if bytes := r.restorableBytes(); bytes > 0 {
		return fmt.Sprintf(`%d bytes can still be restored: "packhouse trash empty" or a shorter grace frees them; %s`, bytes, help)
	}
	return help
}

// restorableBytes is how many bytes of the trash stay until their grace time is over.
func (r *Repository) restorableBytes() int64 {
	if r.grace.Load() == 0 {
		return 0
	}
	return r.index.Counters().TrashBytes
}
