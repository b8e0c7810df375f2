package config

// Keys are all keys a file can have, table after table.
func Keys() []string {
	var all []string
	for _, t := range tables() {
		all = append(all, t.keys...)
	}
	return all
}
