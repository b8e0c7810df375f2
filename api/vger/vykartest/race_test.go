//go:build race

package vykartest_test

func init() { raceDetector = true }
