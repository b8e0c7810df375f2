package api

import (
	"net/http"
	"strconv"
	"strings"
)

// accessTime is how Apache writes a time.
const accessTime = "02/Jan/2006:15:04:05 -0700"

// logAccess adds a request to the access log:
//
//	host - user [time] "method target protocol" status bytes "referer" "agent"
//
// host is the client's, "@" on a Unix socket without a proxy that names anyone; user is "-" where nobody has logged in. rest-server
// names nobody. Requests of the program's own commands are not in it.
func (s *Server) logAccess(r *http.Request, x *requestState, status int, sent int64) {
	if s.o.AccessLog == nil || x.trusted {
		return
	}
	line := make([]byte, 0, 256)
	if client := s.proxies.Load().clientAddress(r); client.IsValid() {
		line = client.AppendTo(line)
	} else {
		line = append(line, '@')
	}
	line = append(line, " - "...)
	if x.principal.Name == "" || s.auth.Load().noAuth {
		line = append(line, '-')
	} else {
		line = appendAccess(line, strings.ReplaceAll(x.principal.Name, " ", "_"))
	}
	line = append(line, " ["...)
	line = s.o.Now().AppendFormat(line, accessTime)
	line = append(line, `] "`...)
	line = appendAccess(line, r.Method)
	line = append(line, ' ')
	line = appendAccess(line, shown(r.RequestURI))
	line = append(line, ' ')
	line = append(line, r.Proto...)
	line = append(line, `" `...)
	line = strconv.AppendInt(line, int64(status), 10)
	line = append(line, ' ')
	line = strconv.AppendInt(line, sent, 10)
	line = append(line, ` "`...)
	line = appendAccess(line, shown(r.Referer()))
	line = append(line, `" "`...)
	line = appendAccess(line, shown(r.UserAgent()))
	line = append(line, "\"\n"...)
	// It is a queue, and counts what it loses.
	_, _ = s.o.AccessLog.Write(line)
}

// appendAccess appends text that a client has chosen: it can end neither the field nor the line.
func appendAccess(line []byte, text string) []byte {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			line = append(line, '\\', c)
		case c < ' ' || c == 0x7f:
			line = append(line, '\\', 'x')
			line = append(line, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			line = append(line, c)
		}
	}
	return line
}
