//go:build fallbackroots

package main

// Where a machine has no certificates of authorities, as in an image with nothing but this program, those that Mozilla trusted when it
// was built are used. Without them no receiver of alerts and no server elsewhere could be reached over TLS.
import _ "golang.org/x/crypto/x509roots/fallback"
