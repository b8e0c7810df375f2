package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. A second one ends the process
// at once, with 128 and the signal's number. stop gives the signals back.
func untilSignal(ctx context.Context, log *slog.Logger, flush func()) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for stopping := false; ; stopping = true {
			select {
			case <-done:
				return
			case s := <-signals:
				if stopping {
					log.Warn("exiting immediately", "signal", s.String())
					flush()
					number, _ := s.(syscall.Signal)
					os.Exit(128 + int(number))
				}
				log.Info("stopping: waiting for running requests", "signal", s.String())
				cancel()
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}
