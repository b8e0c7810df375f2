//go:build !linux

package platform

var _ = Packhouse_runs_on_Linux_only__README_says_why
