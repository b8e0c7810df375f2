"""A mail server on loopback, by aiosmtpd, for mail_test.go.

Usage: mailserver.py STARTTLS_PORT TLS_PORT CERTIFICATE KEY DIRECTORY

Both ports want the login ops / s3cret-pass, after TLS. Each mail becomes a file in the directory: a line for each address that it is for, an empty line, the
mail. Addresses that begin with "nobody" do not exist, and of mails to those that begin with "cut" it does not say whether it accepts them.
"""
import asyncio
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

start, first, certificate, key, directory = sys.argv[1:]
count = 0


def authenticate(server, session, envelope, mechanism, login):
    good = login.login == b"ops" and login.password == b"s3cret-pass"
    # Without handled=False the answer to a wrong password would be left to this function.
    return AuthResult(success=good, handled=False)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        global count
        count += 1
        name = pathlib.Path(directory, f"{count:04}")
        name.with_suffix(".part").write_bytes("\n".join(envelope.rcpt_tos).encode() + b"\n\n" + envelope.content)
        name.with_suffix(".part").rename(name.with_suffix(".eml"))
        if envelope.rcpt_tos[0].startswith("cut"):
            server.transport.abort()
        return "250 OK"


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    common = {"hostname": "mail.test", "authenticator": authenticate, "auth_required": True}
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: SMTP(Handler(), require_starttls=True, tls_context=context, **common), "127.0.0.1", int(start)),
        # It knows nothing of the TLS below it, and so would take no login.
        await loop.create_server(lambda: SMTP(Handler(), auth_require_tls=False, **common), "127.0.0.1", int(first), ssl=context),
    ]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main())
