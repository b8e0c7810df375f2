package admin

import (
	"net/http"

	"packhouse/api/alert"
)

// TestRequest is the body of a request for test messages.
type TestRequest struct {
	Receiver string `json:"receiver,omitempty"` // empty: all
}

// TestResults is its answer, also when some could not be delivered.
type TestResults struct {
	Results []alert.TestResult `json:"results"`
}

var (
	errNoAlerts   = &statusError{http.StatusNotFound, "this process sends no alerts: packhouse serve does, while it runs"}
	errNoReceiver = &statusError{http.StatusNotFound, "the server's configuration has no such [[alert]]: packhouse alert list shows those that it has"}
)

func (q *request) showAlerts(string) error {
	if q.h.o.Alerts == nil {
		return errNoAlerts
	}
	return q.reply(http.StatusOK, q.h.o.Alerts.State())
}

func (q *request) testAlerts(string) error {
	if q.h.o.Alerts == nil {
		return errNoAlerts
	}
	var body TestRequest
	if err := q.document(&body); err != nil {
		return err
	}
	q.log.Key = body.Receiver
	results := TestResults{Results: q.h.o.Alerts.Test(q.Context(), body.Receiver)}
	if len(results.Results) == 0 && body.Receiver != "" {
		return errNoReceiver
	}
	return q.reply(http.StatusOK, results)
}
