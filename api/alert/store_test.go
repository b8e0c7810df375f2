package alert_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"packhouse/api/alert"
	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/repotest"
)

// TestCrashWhileStoring: whichever call of a write fails, and if the process ends there, the file has what was told before or after it: no message is lost,
// and at most that of the last delivery is sent again.
func TestCrashWhileStoring(t *testing.T) {
	for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
		for n := 1; ; n++ {
			hit := false
			t.Run(fmt.Sprintf("%v call %d", when, n), func(t *testing.T) {
				p := newPlace(t, alert.Receiver{Summary: "off"})
				fsys := vfstest.NewFailing(vfs.OS())
				p.o.FS = fsys
				p.restart()
				p.See([]alert.Condition{late("a")})
				p.expect("problem backup a")
				p.Flush()
				fsys.Reset()
				fsys.StopAt(n, when, syscall.EIO)
				p.See([]alert.Condition{late("a"), late("b")})
				p.expect("problem backup b")
				p.Flush()
				hit = fsys.Hit()
				p.o.FS = vfs.OS()
				p.restart()
				p.See([]alert.Condition{late("a"), late("b")})
				p.sent = nil
				p.Deliver("ops")
				if len(p.sent) > 1 || len(p.sent) == 1 && p.sent[0] != "problem backup b" || !hit && len(p.sent) > 0 {
					t.Errorf("after the restart it is told %q", p.sent)
				}
				p.pass(5 * time.Minute)
				p.expect("over backup a", "over backup b")
			})
			if !hit {
				break
			}
		}
	}
}

// TestStoredLater: what could not be written, as the directory is not the one that was opened or its disk fails, is written when it can be.
func TestStoredLater(t *testing.T) {
	for name, away := range map[string]error{"detached": repo.ErrDetached, "disk": nil} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, nil)
			s.create("a")
			fsys := vfstest.NewFailing(vfs.OS())
			var mu sync.Mutex
			c := alert.DefaultConfig()
			c.Interval = time.Millisecond
			c.Receivers = []alert.Receiver{{Name: "ops", Type: alert.Webhook, URL: "http://127.0.0.1:1/", Summary: "off"}}
			o := alert.Options{Config: c, Server: "here", Now: s.clock.Now, Path: s.dir + "/alerts.json", FS: fsys, MayRecord: func() error {
				mu.Lock()
				defer mu.Unlock()
				return away
			}}
			if away == nil {
				fsys.FailOp(vfstest.Create, 1, vfstest.Before, syscall.EIO)
			}
			told := make(chan string, 9)
			deliver := func(_ context.Context, m alert.Message) error {
				told <- m.Title
				return nil
			}
			m := alert.New(o)
			m.DeliverBy("ops", deliver)
			m.Start(s.set)
			m.JobEnded("a", "scrub", "disk error")
			<-told
			mu.Lock()
			away = nil
			mu.Unlock()
			repotest.WaitFor(t, "file", func() bool {
				f, err := alert.StoredTold(o.Path, "ops")
				return err == nil && f == 1
			})
			m.Close()

			m = alert.New(o)
			m.DeliverBy("ops", deliver)
			m.Start(s.set)
			m.JobEnded("a", "vacuum", "disk error")
			if got, want := <-told, "here: a: job (vacuum)"; got != want {
				t.Errorf("after a restart: got %q, want %q", got, want)
			}
			m.Close()
			if len(told) > 0 {
				t.Errorf("one more: %q", <-told)
			}
		})
	}
}

// TestEndWaitsForDeliveries: a delivery under way has a short time to end, as it would come a second time otherwise. One that hangs, and does not even end when
// it is told to, does not keep the server from ending.
func TestEndWaitsForDeliveries(t *testing.T) {
	s := newScene(t, nil)
	s.create("a")
	c := alert.DefaultConfig()
	c.Interval = time.Millisecond
	c.Receivers = []alert.Receiver{{Name: "ops", Type: alert.Webhook, URL: "http://127.0.0.1:1/", Summary: "off"}, {Name: "other", Type: alert.Webhook, URL: "http://127.0.0.1:1/", Summary: "off"}}
	o := alert.Options{Config: c, Server: "here", Now: s.clock.Now, Path: s.dir + "/alerts.json"}
	m := alert.New(o)
	began, hang := make(chan bool), make(chan bool)
	defer close(hang)
	m.DeliverBy("ops", func(ctx context.Context, _ alert.Message) error {
		began <- true
		select {
		case <-time.After(200 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	m.DeliverBy("other", func(context.Context, alert.Message) error {
		began <- true
		<-hang
		return nil
	})
	m.Start(s.set)
	m.JobEnded("a", "scrub", "disk error")
	<-began
	<-began
	start := time.Now()
	m.Close()
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("the end took %v", took)
	}
	for name, want := range map[string]int{"ops": 1, "other": 0} {
		if n, err := alert.StoredTold(o.Path, name); n != want || err != nil {
			t.Errorf("%s was told of %d, %v; want %d", name, n, err, want)
		}
	}
}

// TestEndKeepsFailures: a delivery that the end of the server interrupts is no failure of its receiver, and is made after the next start.
func TestEndKeepsFailures(t *testing.T) {
	s := newScene(t, nil)
	s.create("a")
	c := alert.DefaultConfig()
	c.Interval = time.Millisecond
	c.Receivers = []alert.Receiver{{Name: "ops", Type: alert.Webhook, URL: "http://127.0.0.1:1/", Summary: "off"}}
	o := alert.Options{Config: c, Server: "here", Now: s.clock.Now, Path: s.dir + "/alerts.json"}
	m := alert.New(o)
	began := make(chan bool)
	m.DeliverBy("ops", func(ctx context.Context, _ alert.Message) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	m.Start(s.set)
	m.JobEnded("a", "scrub", "disk error")
	<-began
	m.Close()
	if r := m.State().Receivers[0]; r.Failed != 0 || r.Waiting != 1 {
		t.Errorf("got %+v", r)
	}
	told := make(chan string, 9)
	m = alert.New(o)
	m.DeliverBy("ops", func(_ context.Context, msg alert.Message) error {
		told <- msg.Title
		return errors.New("enough")
	})
	m.Start(s.set)
	if got := <-told; got != "here: a: job (scrub)" {
		t.Errorf("got %q", got)
	}
	m.Close()
}
