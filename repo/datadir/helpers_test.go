package datadir_test

import (
	"context"

	"packhouse/repo/repotest"
)

var (
	ctx = context.Background()

	checkAll      = repotest.Check
	newSet        = repotest.NewSet
	newAccess     = repotest.NewAccess
	create        = repotest.Create
	put           = repotest.Put
	mustPut       = repotest.MustPut
	get           = repotest.Get
	wantContent   = repotest.WantContent
	list          = repotest.List
	waitFor       = repotest.WaitFor
	memoryDir     = repotest.MemoryDir
	newRepository = repotest.NewRepository
	contents      = repotest.Contents
	damageIndex   = repotest.DamageIndex
	blobFiles     = repotest.BlobFiles
	changePages   = repotest.ChangePages
	circle        = repotest.Circle
	fill          = repotest.Fill
	newClock      = repotest.NewClock
)
