package api

import (
	"strconv"
	"time"
)

// ThrottleEntries counts what is kept of so many addresses.
func ThrottleEntries(addresses int) int {
	t := newThrottle(time.Now)
	for i := range addresses {
		t.allow(strconv.Itoa(i))
	}
	return t.lru.order.Len()
}
