package borgstore

import "strings"

// query is the parameters of a request: one value per key, never an empty one.
type query map[string]string

// parseQuery reads a raw query as the reference does: "&" separates, "+" is a blank, percent sequences are UTF-8
// with replacement of what is none, and broken ones stay as they are. Keys with an empty value count as
// absent; of repeated keys the first counts. It never fails. All of it is looked at: a command behind
// many unknown parameters is none to ignore.
func parseQuery(raw string) query {
	q := make(query)
	for raw != "" {
		var parameter string
		parameter, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(parameter, "=")
		if value == "" {
			continue
		}
		key = unescape(key)
		if _, ok := q[key]; !ok {
			q[key] = unescape(value)
		}
	}
	return q
}

func unescape(text string) string {
	if !strings.ContainsAny(text, "%+") {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(text) && digit(text[i+1]) >= 0 && digit(text[i+2]) >= 0:
			b = append(b, byte(digit(text[i+1])<<4|digit(text[i+2])))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// digit is the value of a hexadecimal digit, -1 for anything else.
func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
