package recovery_test

import (
	"context"

	"packhouse/repo/repotest"
)

var (
	ctx = context.Background()

	checkAll      = repotest.Check
	newSet        = repotest.NewSet
	create        = repotest.Create
	mustPut       = repotest.MustPut
	get           = repotest.Get
	wantContent   = repotest.WantContent
	waitFor       = repotest.WaitFor
	memoryDir     = repotest.MemoryDir
	newRepository = repotest.NewRepository
	contents      = repotest.Contents
	damageIndex   = repotest.DamageIndex
	newClock      = repotest.NewClock
	fixedClock    = repotest.FixedClock
	trash         = repotest.Trash
)
