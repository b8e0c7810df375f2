package config

import (
	"strings"
	"testing"
	"time"
)

func TestMaintenance(t *testing.T) {
	c, err := Parse("f", []byte(`
[maintenance]
window = "01:00-05:00"
time_zone = "UTC"
jitter = "0s"
scrub = "0 2 * * SUN"
scrub_share = 0.25
snapshots = "off"
snapshots_kept = 5
rate = "100M"
workers = 1
keep_results = "30d"
plan_bytes = "1G"
plan_operations = 10
plan_ranges = 20
plan_output = 30
`), nil)
	want := Maintenance{
		Window: "01:00-05:00", TimeZone: "UTC", Jitter: -1, Scrub: "0 2 * * SUN", ScrubShare: 0.25, Snapshots: "off",
		SnapshotsKept: 5, Rate: 100 << 20, Workers: 1, KeepResults: 720 * time.Hour,
		PlanBytes: 1 << 30, PlanOperations: 10, PlanRanges: 20, PlanOutput: 30,
	}
	if err != nil || c.Maintenance != want {
		t.Errorf("got %+v, %v, want %+v", c.Maintenance, err, want)
	}
	for text, problem := range map[string]string{
		`window = "1"`:            "two times of day",
		`window = "01:00-01:00"`:  "is empty",
		`time_zone = "Nowhere"`:   "not a time zone",
		`scrub = "sometimes"`:     "schedule",
		`scrub = "0 0 31 2 *"`:    "no such time",
		`scrub_share = 0`:         "above 0",
		`scrub_share = 2`:         "at most 1",
		`snapshots_kept = 0`:      "from 1 to",
		`workers = "two"`:         "a whole number",
		`windows = "01:00-05:00"`: `did you mean "window"`,
		`keep_results = "1m"`:     "too short",
		`keep_results = "0"`:      "too short",
		`jitter = 5`:              "a string such as",
	} {
		_, err := Parse("f", []byte("[maintenance]\n"+text+"\n"), nil)
		if err == nil || !strings.Contains(err.Error(), problem) || !strings.HasPrefix(err.Error(), "f:2: ") {
			t.Errorf("%s: got %v, want %q at line 2", text, err, problem)
		}
	}
}
