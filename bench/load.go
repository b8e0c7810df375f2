package bench

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxErrors is how many of the failures of an operation are told one by one.
const maxErrors = 3

// load is a number of connections over which requests are sent, each waiting for its answer.
type load struct {
	connections int
	from, to    int           // numbers of the requests; to is not sent
	time        time.Duration // after which no request begins but the first of each connection; 0: no limit
}

// done is what one successful request did.
type done struct{ items, bytes int64 }

// run sends the requests and sums up what they did. worker tells the connections apart, for what they must not share. A
// request that fails is counted, and ends nothing. used is the number of the first request that was not sent.
func (l load) run(ctx context.Context, name string, send func(ctx context.Context, worker, i int) (done, error)) (o Operation, used int, err error) {
	next := atomic.Int64{}
	next.Store(int64(l.from))
	operations := make([]Operation, l.connections)
	start := time.Now()
	var group sync.WaitGroup
	for w := range l.connections {
		group.Go(func() {
			o := &operations[w]
			for first := true; ctx.Err() == nil && (first || l.time == 0 || time.Since(start) < l.time); first = false {
				i := int(next.Add(1) - 1)
				if i >= l.to {
					return
				}
				begin := time.Now()
				did, err := send(ctx, w, i)
				o.add(time.Since(begin), did, err)
			}
		})
	}
	group.Wait()
	return merge(name, operations), min(int(next.Load()), l.to), ctx.Err()
}

// add counts one request.
func (o *Operation) add(took time.Duration, did done, err error) {
	if err != nil {
		o.Failures++
		if text := err.Error(); len(o.Errors) < maxErrors && !slices.Contains(o.Errors, text) {
			o.Errors = append(o.Errors, text)
		}
		return
	}
	o.Requests++
	o.Items += did.items
	o.Bytes += did.bytes
	o.Latency.Add(took)
}

// merge makes one operation of those of several connections.
func merge(name string, parts []Operation) Operation {
	total := Operation{Name: name}
	for _, o := range parts {
		total.Requests += o.Requests
		total.Items += o.Items
		total.Bytes += o.Bytes
		total.Failures += o.Failures
		for _, text := range o.Errors {
			if len(total.Errors) < maxErrors {
				total.Errors = append(total.Errors, text)
			}
		}
		total.Latency.Merge(o.Latency)
	}
	return total
}
