package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// body answers every request with itself.
type body struct{ io.Reader }

func (b body) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(b)}, nil
}

func answering(r io.Reader) *Client {
	return &Client{HTTP: &http.Client{Transport: body{r}}}
}

// TestElements: an answer that is not whole is an error, whatever was read of it.
func TestElements(t *testing.T) {
	for _, test := range []struct{ text, got, err string }{
		{`{"jobs":[]}`, "", ""},
		{`{"n":1,"jobs":[{"a":1},2],"m":{"jobs":[3]}}` + "\n", `{"a":1} 2`, ""},
		{`{}`, "", ""},
		{``, "", "unexpected EOF"},
		{`{"jobs":[1`, "1", "unexpected EOF"},
		{`{"jobs":[1,2]`, "1 2", "unexpected EOF"},
		{`{"jobs":[1]}x`, "1", "invalid character"},
		{`{"jobs":[1]}{`, "1", "unexpected text at its end"},
		{`{"jobs":{}}`, "", "got {, expected ["},
		{`[]`, "", "got [, expected {"},
		{`{"jobs":[7]}`, "7", "stop"},
	} {
		var got []string
		err := answering(strings.NewReader(test.text)).elements(t.Context(), "/", "jobs", func(text json.RawMessage) error {
			got = append(got, string(text))
			if string(text) == "7" {
				return fmt.Errorf("stop")
			}
			return nil
		})
		if strings.Join(got, " ") != test.got || fmt.Sprint(err) != "<nil>" != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %v, %v; want %v, %q", test.text, got, err, test.got, test.err)
		}
	}
	// All was sent, and then the connection was cut.
	cut := io.MultiReader(strings.NewReader(`{"jobs":[1]}`), errorReader{})
	if err := answering(cut).elements(t.Context(), "/", "jobs", func(json.RawMessage) error { return nil }); err == nil {
		t.Error("an answer that was cut off passed as whole")
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
