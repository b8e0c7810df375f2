package alert

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"
)

// mailer sends messages by a mail server. Either all recipients are accepted, or nothing is sent.
type mailer struct {
	r      Receiver
	server string // the name of this one
}

// smtpTimeout is how long the mail server may take for an answer.
const smtpTimeout = 30 * time.Second

func (d *mailer) deliver(ctx context.Context, m Message) error {
	letter, err := d.letter(m)
	if err != nil {
		return err
	}
	host, service, err := net.SplitHostPort(d.r.SMTP)
	if err != nil {
		return err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(smtpTimeout), mail.WithoutNoop(), mail.WithDialContextFunc(d.dialer(ctx, host))}
	login := mail.SMTPAuthAutoDiscover
	switch d.r.tls() {
	case TLSImplicit:
		options = append(options, mail.WithSSL())
	case TLSOff:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
		login = mail.SMTPAuthPlainNoEnc // to this machine only, see Receiver.Check
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if d.r.User != "" {
		options = append(options, mail.WithUsername(d.r.User), mail.WithPassword(d.r.Password), mail.WithSMTPAuth(login))
	}
	client, err := mail.NewClient(host, options...)
	if err != nil {
		return fmt.Errorf("mail server %s: %w", d.r.SMTP, err)
	}
	if err := client.DialAndSendWithContext(ctx, letter); err != nil {
		if letter.IsDelivered() {
			return nil // the server has accepted it, and only the connection did not end well
		}
		if ctx.Err() != nil {
			return fmt.Errorf("mail server %s did not answer in time", d.r.SMTP)
		}
		return fmt.Errorf("mail server %s: %w", d.r.SMTP, err)
	}
	return nil
}

// dialer returns a function that connects to the mail server, by TLS at once if that is asked for. The connection is closed when ctx ends: the library keeps
// to it while it connects only.
func (d *mailer) dialer(ctx context.Context, host string) mail.DialContextFunc {
	return func(dialing context.Context, network, address string) (conn net.Conn, err error) {
		if d.r.tls() == TLSImplicit {
			conn, err = (&tls.Dialer{Config: &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}}).DialContext(dialing, network, address)
		} else {
			conn, err = new(net.Dialer).DialContext(dialing, network, address)
		}
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
}

// letter is the mail.
func (d *mailer) letter(m Message) (*mail.Msg, error) {
	letter := mail.NewMsg()
	if err := letter.From(d.r.From); err != nil {
		return nil, err
	}
	if err := letter.To(d.r.To...); err != nil {
		return nil, err
	}
	letter.Subject("[packhouse] " + m.Title)
	letter.SetUserAgent("packhouse")
	letter.SetDate()
	letter.SetMessageID()
	letter.SetGenHeader("Auto-Submitted", "auto-generated")
	letter.SetGenHeader(mail.HeaderXPriority, strconv.Itoa(priorityOf(m, 5, 3, 1)))
	letter.SetBodyString(mail.TypeTextPlain, m.Text+"\n\n-- \npackhouse on "+d.server+"\n")
	return letter, nil
}
