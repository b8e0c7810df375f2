//go:build !linux

package index

// prefetch is for systems that can read ahead at places that are given.
func (c *structureCheck) prefetch(*page, []int) {}
