package main

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"packhouse/api/client"
)

// The variables that stand for flags, so that they need not be given with each command.
const (
	configVariable = "PACKHOUSE_CONFIG" // for --config
	serverVariable = "PACKHOUSE_SERVER" // for --server, where no directory is named
)

// address is the URL of the server elsewhere that a command line is about; "": it is about a directory.
func (f *adminFlags) address(cmd *cobra.Command) (string, error) {
	for _, name := range []string{"data-dir", "config"} {
		switch {
		case !cmd.Flags().Changed(name):
		case f.server != "":
			return "", usage("--server and --%s exclude each other: one is a server elsewhere, the other a directory on this machine", name)
		default:
			return "", nil
		}
	}
	return cmp.Or(f.server, os.Getenv(serverVariable)), nil
}

// configFile is the configuration that a command line names; "": none.
func (f *adminFlags) configFile(cmd *cobra.Command) string {
	if cmd.Flags().Changed("config") {
		return f.config
	}
	return os.Getenv(configVariable)
}

// remote is the client of a server elsewhere.
func (f *adminFlags) remote(address string) (*adminClient, error) {
	token := os.Getenv("PACKHOUSE_TOKEN")
	if f.tokenFile != "" {
		text, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, err
		}
		token = strings.TrimSpace(string(text))
	}
	var certificate *tls.Certificate
	switch {
	case (f.cert == "") != (f.key == ""):
		return nil, usage("--cert and --key belong together; one of them is missing")
	case f.cert != "":
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		certificate = &pair
		if f.tokenFile == "" {
			token = "" // of a variable that may be there for other servers
		}
	case token == "":
		return nil, usage("--server needs a token, or a client certificate: set PACKHOUSE_TOKEN or --token-file, or --cert and --key")
	}
	c, err := client.Remote(address, token, certificate)
	if err != nil {
		return nil, usage("--server: %w", err)
	}
	return &adminClient{&client.Session{Client: c}}, nil
}
