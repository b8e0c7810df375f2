package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/layout"
	"packhouse/repo/policy"
)

// Policies are what a server's configuration says of its repositories. The server keeps them in the data
// directory, so that the processes that hold a repository while it does not run keep to them too.
type Policies struct {
	Default      Policy            `json:"default"`
	Repositories map[string]Policy `json:"repositories,omitempty"`
	AuditFile    string            `json:"audit_file,omitempty"` // absolute; "": none
}

// DefaultPolicy is what holds when nobody configured anything.
func DefaultPolicy() Policy { return Defaults().Policy }

// Policies of a configuration.
func (c *Config) Policies() Policies {
	p := Policies{Default: c.Policy, Repositories: make(map[string]Policy)}
	if file := c.AuditFile(); file != "" {
		p.AuditFile, _ = filepath.Abs(file) // without a working directory the server has not found it either
	}
	for _, r := range c.Repositories {
		p.Repositories[r.Name] = r.Policy
	}
	return p
}

// Of returns what holds for a repository.
func (p Policies) Of(name string) Policy {
	if policy, ok := p.Repositories[name]; ok {
		return policy
	}
	return p.Default
}

// policyText is how a policy is written.
type policyText struct {
	Quota       int64  `json:"quota"` // bytes; negative: none
	Reserve     int64  `json:"reserve"`
	AppendOnly  bool   `json:"append_only"`
	LockTTL     string `json:"lock_ttl"`
	Grace       string `json:"grace"`
	Permissions string `json:"permissions"`

	TrashQuota   int64  `json:"trash_quota,omitempty"`   // bytes; negative: none, 0: as much as quota
	ImpliedGrace bool   `json:"grace_not_set,omitempty"` // and "grace" is 0, which is all that earlier versions know
	Protect      string `json:"protect,omitempty"`
	MinAge       string `json:"min_age,omitempty"`
	Guard        string `json:"guard,omitempty"`
	KeepLast     int64  `json:"keep_last,omitempty"`
	MaxRemoved   string `json:"max_removed,omitempty"`
	CompactGrace string `json:"compact_grace,omitempty"` // not in files of versions that did not know it
	CompactYoung string `json:"compact_young,omitempty"`
}

// MarshalJSON is read back by UnmarshalJSON.
func (p Policy) MarshalJSON() ([]byte, error) {
	return json.Marshal(policyText{
		Quota: p.Quota, TrashQuota: p.TrashQuota, Reserve: p.Reserve, AppendOnly: p.AppendOnly, LockTTL: p.LockTTL.String(),
		Grace: max(0, p.Grace).String(), ImpliedGrace: p.Grace < 0, Protect: p.Protect.String(),
		MinAge: p.Guard.MinAge.String(), Guard: guardText(p.Guard.Refuse), KeepLast: p.Guard.KeepLast, MaxRemoved: maxRemovedText(p.Guard.MaxRemoved),
		Permissions: p.Permissions.String(), CompactGrace: p.CompactGrace.String(), CompactYoung: p.CompactYoung.String(),
	})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Policy) UnmarshalJSON(b []byte) error {
	t := policyText{
		CompactGrace: DefaultPolicy().CompactGrace.String(), CompactYoung: DefaultPolicy().CompactYoung.String(),
		Protect: DefaultPolicy().Protect.String(), MinAge: "0s", Guard: guardText(false), MaxRemoved: maxRemovedText(repo.MaxRemoved{}),
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	lockTTL, lockErr := time.ParseDuration(t.LockTTL)
	grace, graceErr := time.ParseDuration(t.Grace)
	compactGrace, keepErr := time.ParseDuration(t.CompactGrace)
	compactYoung, youngErr := time.ParseDuration(t.CompactYoung)
	protect, protectErr := time.ParseDuration(t.Protect)
	minAge, ageErr := time.ParseDuration(t.MinAge)
	refuse, refuseErr := ParseGuard(t.Guard)
	maxRemoved, removedErr := ParseMaxRemoved(t.MaxRemoved)
	permissions, err := policy.Parse(t.Permissions)
	if err := errors.Join(lockErr, graceErr, keepErr, youngErr, protectErr, ageErr, refuseErr, removedErr, err); err != nil {
		return err
	}
	if t.ImpliedGrace {
		grace = DefaultPolicy().Grace
	}
	*p = Policy{
		Quota: t.Quota, TrashQuota: t.TrashQuota, Reserve: t.Reserve, AppendOnly: t.AppendOnly, LockTTL: lockTTL, Grace: grace, Permissions: permissions,
		CompactGrace: compactGrace, CompactYoung: compactYoung, Protect: protect,
		Guard: repo.Guard{MinAge: minAge, Refuse: refuse, KeepLast: t.KeepLast, MaxRemoved: maxRemoved},
	}
	return nil
}

// policyFile is the name of the file that stores a data directory's policies.
func policyFile(data string) string { return filepath.Join(layout.ServerDir(data), "policy.json") }

// Keep writes the policies to a data directory that a server holds, durably and as a whole. If they are there, nothing is written: a server has to start
// on a full disk, too, from which clients can read.
func (p Policies) Keep(data string) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if there, err := os.ReadFile(policyFile(data)); err == nil && bytes.Equal(there, text) {
		return nil
	}
	return vfs.Replace(vfs.OS(), policyFile(data), text)
}

// KeptPolicies reads what Keep wrote to a data directory; without such a file they are the defaults. A file that cannot be read is
// an error: to go on without would lift what an administrator forbade.
func KeptPolicies(data string) (Policies, error) {
	text, err := os.ReadFile(policyFile(data))
	if errors.Is(err, os.ErrNotExist) {
		return Policies{Default: DefaultPolicy()}, nil
	}
	var p Policies
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return Policies{}, fmt.Errorf("read the policies stored in the data directory: %w", err)
	}
	return p, nil
}
