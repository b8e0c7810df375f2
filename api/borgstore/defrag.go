package borgstore

import (
	"math"
	"strconv"
	"strings"

	"packhouse/compact"
)

// defrag answers ?cmd=defrag: one new object from ranges of others, in one index commit.
func (q *request) defrag() error {
	operation, err := q.defragTarget()
	if err != nil {
		return err
	}
	if err := q.open(); err != nil {
		return err
	}
	operation.Ranges, err = readSources(q.Body, q.t.Limits.PlanBytes)
	if err != nil {
		return err
	}
	if err := q.mayDefrag(operation); err != nil {
		return err
	}
	operation.Empty = len(operation.Ranges) == 0
	plan := q.d.o.Engine.NewPlan(compact.Limits{Operations: 1, Ranges: maxSources, Output: q.t.Limits.ItemBytes})
	defer plan.Close()
	if err := plan.Add(operation); err != nil {
		return aboutPlan(err)
	}
	name := ""
	err = q.d.o.Engine.Run(q.Context(), q.access, plan, func(_ int, o compact.Outcome) error {
		name = o.Key
		return nil
	})
	if err != nil {
		return aboutPlan(err)
	}
	q.t.Log.Key = name
	return q.text(name)
}

// mayDefrag wants W, also for a new object, as the reference does (contract, 4.2): a client that may add and not replace has no
// use for a copy of what it cannot remove.
func (q *request) mayDefrag(operation compact.Operation) error {
	target := operation.Target
	if target == "" {
		target = strings.TrimPrefix(operation.Naming.Prefix+"/"+"01234567", "/")
	}
	return q.access.May(target, "W")
}

// defragTarget reads from the query where the new object goes.
func (q *request) defragTarget() (operation compact.Operation, err error) {
	target, algorithm := q.query["target"], q.query["algorithm"]
	switch {
	case target != "":
		if operation.Target, err = cleanName(target); err == nil && operation.Target == "" {
			err = badRequest("Missing target or algorithm for defrag")
		}
		q.t.Log.Key = operation.Target
		return operation, err
	case algorithm == "":
		return operation, badRequest("Missing target or algorithm for defrag")
	}
	naming := &operation.Naming
	if naming.Algorithm, err = q.algorithm(""); err != nil {
		return operation, err
	}
	levels, err := parseLevels(q.query["levels"])
	if err != nil {
		return operation, err
	}
	// A level takes three characters of the name's hundred; more than there are digits for are none.
	naming.Levels = levels
	if levels > naming.Algorithm.Size {
		return operation, badRequest("levels must not exceed %d, the bytes of a %s digest", naming.Algorithm.Size, naming.Algorithm.Name)
	}
	namespace := strings.TrimRight(q.query["namespace"], "/")
	digits := strings.Repeat("0", 2*naming.Algorithm.Size)
	name := strings.Repeat("00/", levels) + digits
	if namespace != "" {
		name = namespace + "/" + name
	}
	if err := checkName(name); err != nil {
		return operation, err
	}
	naming.Prefix, err = cleanName(namespace)
	return operation, err
}

// parseLevels reads a decimal integer; negative ones nest nothing.
func parseLevels(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n > math.MaxInt32 {
		return 0, badRequest("levels must be a whole number, but is %s", printable(text))
	}
	return max(n, 0), nil
}
