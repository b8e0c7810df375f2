package main

import (
	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo"
)

// appendOnly is what append_only leaves to the clients of a dialect.
func appendOnly(d api.Dialect) *repo.Permissions {
	if _, ok := d.(*vger.Dialect); !ok {
		return config.AppendOnly()
	}
	p, err := repo.NewPermissions(vger.AppendOnly())
	if err != nil {
		return config.Nothing() // the table is a constant, and valid
	}
	return p
}
