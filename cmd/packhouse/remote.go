package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"packhouse/api/client"
)

// serverFlags say which server a command asks: the one of a data directory, or one elsewhere.
type serverFlags struct {
	admin     adminFlags
	server    string
	tokenFile string
	cert, key string
}

func (f *serverFlags) add(cmd *cobra.Command) {
	f.admin.add(cmd)
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.server, "server", "", "send requests to the server at this `URL` instead of the one that runs on the data directory")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the token for --server (default: the variable PACKHOUSE_TOKEN)")
	flags.StringVar(&f.cert, "cert", "", "`file` of a client certificate (PEM) for --server, instead of a token")
	flags.StringVar(&f.key, "key", "", "`file` of the key of --cert (PEM)")
}

// open runs do with an admin client.
func (f *serverFlags) open(cmd *cobra.Command, s streams, do func(c *adminClient) error) error {
	if f.server == "" {
		return withAdminClient(cmd, s, &f.admin, do)
	}
	c, err := f.remote()
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.Close())
}

// remote is the client of a server elsewhere.
func (f *serverFlags) remote() (*adminClient, error) {
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
	c, err := client.Remote(f.server, token, certificate)
	if err != nil {
		return nil, usage("--server: %w", err)
	}
	return &adminClient{&client.Session{Client: c}}, nil
}
