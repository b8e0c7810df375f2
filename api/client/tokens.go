package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"packhouse/api/admin"
)

// pathTokens is that of all tokens.
const pathTokens = "/-/tokens"

// Tokens returns all tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context) ([]admin.Token, json.RawMessage, error) {
	var list admin.TokenList
	text, err := c.Request(ctx, http.MethodGet, pathTokens, nil, &list)
	return list.Tokens, text, err
}

// CreateToken creates a token. The answer is the only one that has its secret.
func (c *Client) CreateToken(ctx context.Context, wanted admin.NewToken) (made admin.Token, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodPost, pathTokens, wanted, &made)
	return made, text, err
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	_, err := c.Request(ctx, http.MethodDelete, pathTokens+"/"+url.PathEscape(name), nil, nil)
	return err
}
