package ui

import (
	"fmt"
	"slices"
	"strings"

	"packhouse/api/alert"
)

// alertState asks what is wrong: the worst first, of those the oldest.
func (v *visit) alertState() (alert.State, error) {
	state, _, err := v.Alerts(v.r.Context())
	slices.SortStableFunc(state.Alerts, func(a, b alert.Alert) int {
		if a.Level != b.Level {
			return strings.Compare(string(a.Level), string(b.Level)) // critical before warning
		}
		return a.Since.Compare(b.Since)
	})
	return state, err
}

// alertsPage is what the page "alerts" shows.
type alertsPage struct {
	alert.State
	Rows  []alert.Alert // of this page
	Pager pager
}

func (v *visit) alerts() error {
	state, err := v.alertState()
	if err != nil {
		return err
	}
	skip, err := v.number("skip", 0, 0)
	if err != nil {
		return err
	}
	p := alertsPage{State: state, Pager: pages("alerts", len(state.Alerts), &skip)}
	p.Rows = state.Alerts[skip:min(skip+rowsShown, len(state.Alerts))]
	return v.page("alerts", "Alerts", p)
}

func (v *visit) confirmTestAlerts() error {
	state, err := v.alertState()
	if err != nil {
		return err
	}
	receiver := v.r.FormValue("receiver")
	c := confirmation{
		What: "A test message will be sent to these receivers now. It changes nothing of what they are told otherwise.", Action: "alerts/test", Button: "Send",
		Fields: []field{{"receiver", receiver}}, Back: link("alerts"),
	}
	for _, r := range state.Receivers {
		if receiver == "" || r.Name == receiver {
			c.Details = append(c.Details, detail{r.Name, fmt.Sprintf("%s, to %s", r.Type, r.To)})
		}
	}
	if len(c.Details) == 0 {
		return wrongInput("there is no such receiver")
	}
	return v.confirm("Test the alerts", c)
}

func (v *visit) testAlerts() error {
	results, _, err := v.TestAlerts(v.r.Context(), v.r.PostFormValue("receiver"))
	if err != nil {
		return err
	}
	var accepted, failed []string
	for _, r := range results.Results {
		if r.Error == "" {
			accepted = append(accepted, r.Name)
		} else {
			failed = append(failed, r.Name+": "+short(200, r.Error))
		}
	}
	var said []string
	if len(accepted) > 0 {
		said = append(said, "Accepted by "+strings.Join(accepted, ", ")+".")
	}
	if len(failed) > 0 {
		said = append(said, "Not delivered. "+strings.Join(failed, "; ")+".")
	}
	return v.done(link("alerts"), "%s", short(2000, strings.Join(said, " ")))
}
