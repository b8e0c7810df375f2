// Package tokens keeps the tokens that an administrator has issued, besides the server's own: each has a name, a role, and
// repositories where it holds. They are created, listed and revoked while the server runs.
//
// It promises that a change is durable before it is reported, that a token which was revoked or has expired is not accepted
// from that moment on, and that whoever waits for its end (Session.Life) is told at once. Of a secret only a hash is kept: a
// secret has 256 random bits, so that a fast hash is as safe as a slow one.
//
// It does not know requests, nor what a role allows. Package api authenticates with it, and the server narrows what the holder
// of a token may do to Token.Permissions.
//
// The file is JSON: {"version": 1, "tokens": [token …]}, mode 0600, replaced as a whole by each change. A token has the members
// of Token, and sha256: the hash of the secret in hexadecimal.
//
// Beside it lies a file of when each token was last used, which may be lost: see use.go.
//
// Start reading at Store.
package tokens
