package main

import (
	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/policy"
)

// appendOnly is what append_only leaves to the clients of a dialect.
func appendOnly(d api.Dialect) *policy.Permissions {
	if _, ok := d.(*vger.Dialect); !ok {
		return config.AppendOnly()
	}
	p, err := policy.New(vger.AppendOnly())
	if err != nil {
		return config.Nothing() // the table is a constant, and valid
	}
	return p
}
