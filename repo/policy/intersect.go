package policy

// nothing is a table, unlike nil, and so the least that two tables can grant together.
var nothing = must(map[string]string{"": ""})

// Nothing grants nothing.
func Nothing() *Permissions { return nothing }

// Intersect grants what both a and b grant; nil grants everything.
//
// The prefix that decides for a key in the result is the longer of those that decide in a and in b. Below
// it neither has another, so that what each grants there is what it grants for the key.
func Intersect(a, b *Permissions) *Permissions {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	both := &Permissions{letters: make(map[string]string, len(a.letters)+len(b.letters))}
	for _, p := range []*Permissions{a, b} {
		for prefix := range p.letters {
			letters := ""
			for _, letter := range All {
				if a.Allows(prefix, string(letter)) && b.Allows(prefix, string(letter)) {
					letters += string(letter)
				}
			}
			both.letters[prefix] = letters
		}
	}
	return both
}

// must makes permissions of a table that is written in this package.
func must(table map[string]string) *Permissions {
	p, err := New(table)
	if err != nil {
		panic("policy: " + err.Error()) // a test has them all
	}
	return p
}
