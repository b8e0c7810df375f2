package alert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// mailer sends messages to one address by a mail server.
type mailer struct {
	r      Receiver // Receiver.To has one address
	server string   // the name of this one
	roots  *x509.CertPool
}

// smtpTimeout is how long the mail server may take until the login is done, and then until it has the mail. Whether it accepts it may take as long as a
// delivery may: who does not wait for that sends the mail twice.
const smtpTimeout = 30 * time.Second

const quitTimeout = 5 * time.Second

// smtpAnswers is the most that a mail server may say in one delivery, in bytes.
const smtpAnswers = 1 << 20

func (d *mailer) deliver(ctx context.Context, m Message) error {
	letter, err := d.letter(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := d.connect(ctx)
	if err != nil {
		return d.fault(ctx, "", err)
	}
	defer client.Close()
	doing, err := d.send(ctx, client, letter)
	if err != nil {
		return d.fault(ctx, doing, err)
	}
	_ = client.UpdateDeadline(quitTimeout)
	_ = client.Quit() // the mail is accepted, however the connection ends
	return nil
}

// connect opens a connection and logs in. It is closed when ctx ends.
func (d *mailer) connect(ctx context.Context) (*smtp.Client, error) {
	host, service, err := net.SplitHostPort(d.r.SMTP)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil, err
	}
	secure := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: d.roots}
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(smtpTimeout), mail.WithTLSConfig(secure), mail.WithDialContextFunc(d.dialer(ctx, secure))}
	// What every server has that knows the user is asked for first: TLS protects it, or it does not leave this machine, see Receiver.Check.
	logins := []mail.SMTPAuthType{mail.SMTPAuthPlain, mail.SMTPAuthLogin, mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthCramMD5}
	switch d.r.tls() {
	case TLSImplicit:
		options = append(options, mail.WithSSL())
	case TLSOff:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
		logins[0], logins[1] = mail.SMTPAuthPlainNoEnc, mail.SMTPAuthLoginNoEnc
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if d.r.User != "" {
		options = append(options, mail.WithUsername(d.r.User), mail.WithPassword(d.r.Password), mail.WithOpportunisticSMTPAuth(logins...))
	}
	client, err := mail.NewClient(host, options...)
	if err != nil {
		return nil, err
	}
	return client.DialToSMTPClientWithContext(ctx)
}

// dialer returns a function that connects to the mail server, by TLS at once if that is asked for. The connection is closed when ctx ends: the library keeps
// to it while it connects only.
func (d *mailer) dialer(ctx context.Context, secure *tls.Config) mail.DialContextFunc {
	return func(dialing context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(dialing, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		limited := &limitedConn{conn, smtpAnswers}
		if d.r.tls() != TLSImplicit {
			return limited, nil
		}
		encrypted := tls.Client(limited, secure)
		return encrypted, encrypted.HandshakeContext(dialing)
	}
}

// limitedConn is a connection of which only so much is read.
type limitedConn struct {
	net.Conn
	left int
}

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("it says too much")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// What send was doing when it failed.
const (
	namingSender    = "the sender"
	namingRecipient = "the recipient"
	sending         = "the mail"
	ending          = "the mail as a whole" // all of it was sent
)

// send has the mail server accept a mail: it is the server's to deliver when err is nil.
func (d *mailer) send(ctx context.Context, client *smtp.Client, letter *mail.Msg) (doing string, err error) {
	from, err := letter.GetSender(false)
	if err != nil {
		return "", err
	}
	to, err := letter.GetRecipients()
	if err != nil {
		return "", err
	}
	if err := client.UpdateDeadline(smtpTimeout); err != nil {
		return "", err
	}
	if err := client.Mail(from); err != nil {
		return namingSender, err
	}
	for _, address := range to {
		if err := client.Rcpt(address); err != nil {
			return namingRecipient, err
		}
	}
	body, err := client.Data()
	if err != nil {
		return sending, err
	}
	if _, err := letter.WriteTo(body); err != nil {
		return sending, err // without its end, which has the server forget it
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := client.UpdateDeadline(time.Until(deadline)); err != nil {
			return sending, err
		}
	}
	return ending, body.Close()
}

// fault says what went wrong while the mail server was told something.
func (d *mailer) fault(ctx context.Context, doing string, err error) error {
	where := "mail server " + d.r.SMTP
	if said, ok := errors.AsType[*textproto.Error](err); ok {
		what := "refused the connection or the login"
		switch doing {
		case namingSender:
			what = "refused the sender " + d.r.From
		case namingRecipient:
			what = "refused the recipient " + d.r.to()
		case sending, ending:
			what = "refused the mail"
		}
		return &fault{error: fmt.Errorf("%s %s: %d %s", where, what, said.Code, printable(said.Msg)), refused: said.Code >= 500}
	}
	late := ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		late = true
	}
	switch {
	case doing == ending && late:
		return fmt.Errorf("%s has the mail, and did not say in time whether it accepts it: it may come twice", where)
	case doing == ending:
		return fmt.Errorf("%s has the mail, and ended the connection before it said whether it accepts it: it may come twice (%w)", where, err)
	case late:
		return fmt.Errorf("%s did not answer in time", where)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s ended the connection", where)
	}
	return fmt.Errorf("%s: %w", where, err)
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
	letter.Subject("[packhouse] " + shorten(printable(m.Title), 300))
	letter.SetUserAgent("packhouse")
	letter.SetDate()
	letter.SetMessageID()
	letter.SetGenHeader("Auto-Submitted", "auto-generated")
	letter.SetGenHeader(mail.HeaderXPriority, strconv.Itoa(priorityOf(m, 5, 3, 1)))
	letter.SetBodyString(mail.TypeTextPlain, printableLines(m.Text)+"\n\n-- \npackhouse on "+d.server+"\n")
	return letter, nil
}
