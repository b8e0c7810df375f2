package main

import (
	"errors"
	"net"

	"github.com/spf13/cobra"

	"packhouse/bench/floor"
)

// benchFloor is the bare server that `bench store` starts to measure others beside it. Nobody else needs it.
func benchFloor() *cobra.Command {
	var dir, listen, certificate, key string
	cmd := &cobra.Command{
		Use:    "floor",
		Hidden: true,
		Short:  "Serve the floor of `bench store`",
		Args:   exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilInterrupt(cmd.Context())
			defer stop()
			s, err := floor.Open(dir)
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return errors.Join(err, s.Close())
			}
			return errors.Join(s.Serve(ctx, l, certificate, key), s.Close())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` of what it stores")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`address` to listen on")
	cmd.Flags().StringVar(&certificate, "tls-cert", "", "`file` of the TLS certificate")
	cmd.Flags().StringVar(&key, "tls-key", "", "`file` of the TLS key")
	return cmd
}
