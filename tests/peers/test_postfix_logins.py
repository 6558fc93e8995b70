"""Postfix with TLS and logins: as the host that we log in at, and as a client of ours."""

from __future__ import annotations

import os
import smtplib
import subprocess
from typing import Any

from tests.bench.postfix_instance import start_postfix
from tests.peers.test_logins import SECRET, LoginCase
from tests.support.peer_case import SENDER, Server, content
from tests.support.postfix_tools import postfix_environment, unpacked_program
from tests.support.process import (
    PATIENCE_SECONDS,
    reserve_address,
    split_address,
    takes_connections,
    wait_until,
)

#: What Cyrus SASL has of ours, as Postfix spells it.
PASSWORD_MECHANISMS = ("plain", "login", "scram-sha-256")
#: It says what it does in a file.
LOG = """\
maillog_file = {log}
maillog_file_prefixes = {folder}
"""
HOST = (
    LOG
    + """\
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_received_header = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = postfix.example
mynetworks =
smtpd_relay_restrictions = permit_sasl_authenticated, reject
"""
)
SMTPD_CONF = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {sasl}/sasldb
mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256
"""
CLIENT = (
    LOG
    + """\
smtp_tls_security_level = secure
smtp_tls_CAfile = {authority}
smtp_tls_secure_cert_match = mail.example.com
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:{passwords}
smtp_sasl_security_options = noanonymous
transport_maps = texthash:{transports}
"""
)
#: Port 465 of an address that no other run has.
SMTPS_HOST = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
POSTLOG = "postlog unix-dgram n - n - 1 postlogd\n"


def hop_of(address: str) -> str:
    """``host:port`` as Postfix wants a next hop that it shall not look up."""
    host, port = split_address(address)
    return f"[{host}]:{port}"


class PostfixCase(LoginCase):
    """Has a Postfix that says in a file what it does."""

    if os.geteuid() != 0:
        skip = "Postfix changes users, so root has to start it"

    def setUp(self) -> None:
        super().setUp()
        self.home = self.path("postfix")

    def start(self, next_hop: str, main: str, services: dict[str, str], **files: Any) -> str:
        """
        Run it until it takes connections; where.

        :param main: further lines of ``main.cf``.
        :param services: of ``master.cf``, name, type and privacy: program and options.
        """
        self.directory.chmod(0o711)  # its processes have users of their own
        self.log = self.path("postfix.log")
        main = main.format(log=self.log, folder=self.directory, **files)
        rows = [f"{service} - n - - {what}\n" for service, what in services.items()]
        address = reserve_address("127.0.0.1")
        running = start_postfix(
            self.home,
            split_address(address)[1],
            split_address(next_hop),
            (self.certificate, self.key),
            main,
            POSTLOG + "".join(rows),
        )
        self.addCleanup(running.wait)
        self.addCleanup(running.terminate)
        wait_until(lambda: takes_connections(address), "Postfix")
        return address

    def said(self) -> str:
        """What it has written into its log."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def wait_for(self, *words: str) -> None:
        """Until each of *words* stands in its log."""
        wait_until(
            lambda: all(one in self.said() for one in words),
            f"{words}",
            PATIENCE_SECONDS,
            self.said,
        )


class HostTests(PostfixCase):
    """We relay to a Postfix that takes mail from who has logged in by TLS, and else none."""

    def setUp(self) -> None:
        super().setUp()
        self.certificate, self.key = self.authority.issue(
            "postfix", "postfix.example", "smtps.example"
        )
        sasl = self.home / "conf/sasl"
        sasl.mkdir(parents=True)
        (sasl / "smtpd.conf").write_text(SMTPD_CONF.format(sasl=sasl))
        subprocess.run(
            [
                unpacked_program("saslpasswd2"), "-p", "-c", "-f", str(sasl / "sasldb"),
                "-u", "postfix.example", "relay",
            ],
            env=postfix_environment(), input=SECRET.encode(), check=True, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        (sasl / "sasldb").chmod(0o644)

    def test_each_mechanism(self) -> None:
        """
        DEL-21: by each mechanism that Postfix is told to offer, over verified TLS; at port 465
        TLS comes first.
        """
        sink = self.start_sink()
        offers = {one: reserve_address("127.0.0.1") for one in (*PASSWORD_MECHANISMS, "cram-md5")}
        self.start(
            sink.address,
            HOST,
            {
                f"{address} inet n": f"smtpd -o smtpd_sasl_mechanism_filter={one}"
                for one, address in offers.items()
            }
            | {f"{SMTPS_HOST}:465 inet n": "smtpd -o smtpd_tls_wrappermode=yes"},
        )
        first = self.start_first(offers)
        for one in (*offers, "smtps"):
            first.submit(f"user@{one}.test", content(one))
        first.submit("user@wrong.test", content("wrong"))
        first.submit("user@other.test", content("other"))

        sink.wait_for(*PASSWORD_MECHANISMS, "smtps")
        for one in PASSWORD_MECHANISMS:
            self.wait_for(f"sasl_method={one.upper()}, sasl_username=relay@postfix.example")
        for octets in sink.taken():
            self.assertIn(b"(using TLSv1.3 with cipher", octets)
        for domain, status, words in (
            ("wrong", "4.7.8", "535 5.7.8"),
            ("cram-md5", "4.7.4", "the host offers CRAM-MD5, we may use"),
            ("other", "4.7.5", "its certificate is not for other.example"),
        ):
            waiting = first.wait_for_attempts(f"user@{domain}.test")
            self.assertEqual(status, waiting.status, domain)
            self.assertIn(words, waiting.words or "", domain)
        self.assertNotIn(SECRET, first.process.said() + self.said())

    def start_first(self, offers: dict[str, str]) -> Server:
        """A mailhost with a remote domain for each mechanism, and two that are wrong."""
        domains = [self.way(one, address) for one, address in offers.items()]
        domains.append(self.way("wrong", offers["plain"], password="not-the-word"))
        domains.append(self.way("other", offers["plain"], host="other.example"))
        domains.append(self.way("smtps", f"{SMTPS_HOST}:465", host="smtps.example"))
        names = {one: {"A": ["127.0.0.1"]} for one in ("postfix.example", "other.example")}
        return self.start_server(
            access={"relay": {"except": ["127.0.0.1"]}},
            domains=domains,
            delivery={"outbound": {"retry": ["1h"]}},
            resolver=self.start_dns(names | {"smtps.example": {"A": [SMTPS_HOST]}}),
        )

    def way(
        self, name: str, address: str, password: str = SECRET, host: str = "postfix.example"
    ) -> dict[str, Any]:
        secret = self.path("secret")
        secret.touch(0o600)
        secret.write_text(password)
        return {
            "name": f"{name}.test",
            "type": "remote",
            "route": [f"{host}:{split_address(address)[1]}"],
            "security": {
                "auth": "basic",
                "username": "relay@postfix.example",
                "password_file": str(secret),
                "tls": "verified",
                "ca": str(self.authority.file),
            },
        }


class ClientTests(PostfixCase):
    """A Postfix that sends to us, who take mail only from who has logged in, by TLS."""

    def test_each_mechanism(self) -> None:
        """ACC-02, ACC-11: by STARTTLS with each mechanism, and where TLS comes first."""
        self.passwd("all@example.com", SECRET, "--cram-md5")
        implicit = reserve_address()
        server = self.start_taking(implicit)
        ways = {
            one: (server.address, f"-o smtp_sasl_mechanism_filter={one}")
            for one in (*PASSWORD_MECHANISMS, "cram-md5")
        }
        ways["smtps"] = (implicit, "-o smtp_tls_wrappermode=yes")
        ways["stranger"] = (server.address, "-o smtp_sasl_auth_enable=no")
        ways["elsewhere"] = (server.address, "-o smtp_tls_secure_cert_match=other.example")
        postfix = self.start_client(ways)
        with smtplib.SMTP(*split_address(postfix), timeout=PATIENCE_SECONDS) as client:
            for one in ways:
                client.sendmail(SENDER, f"{one}@{one}.test", content(one))

        for one in (*PASSWORD_MECHANISMS, "cram-md5", "smtps"):
            (delivered,) = server.wait_for_drop(f"{one}@example.com")
            self.assertIn(b" with ESMTPSA id ", delivered.content, one)
        for one in (*PASSWORD_MECHANISMS, "cram-md5"):
            server.process.wait_for_words(f"as all@example.com by {one.upper()}")
        self.wait_for("said: 530 5.7.0", "Server certificate not verified")
        self.assertEqual(5, len(server.root.drop()))
        self.assertNotIn(SECRET, server.process.said())

    def start_taking(self, implicit: str) -> Server:
        """Ours; everything is for local domains, named as what they are sent by."""
        names = (*PASSWORD_MECHANISMS, "cram-md5", "smtps", "stranger", "elsewhere")
        access = {
            **self.tls_settings(require=True),
            "users": str(self.users),
            "basic": {"enabled": True},
            "scram": True,
            "cram_md5": True,
            "anonymous": False,
        }
        server = self.make_server(
            access=access, domains=[{"name": f"{one}.test", "type": "alias"} for one in names]
        )
        server.configure(listen=[server.address, {"address": implicit, "tls": "implicit"}])
        server.start()
        return server

    def start_client(self, ways: dict[str, tuple[str, str]]) -> str:
        """Postfix with a transport for each way."""
        hops = {
            one: "[{}]:{}".format(*split_address(address)) for one, (address, _) in ways.items()
        }
        transports, passwords = self.path("transports"), self.path("passwords")
        transports.write_text("".join(f"{one}.test {one}:{hop}\n" for one, hop in hops.items()))
        passwords.touch(0o600)
        passwords.write_text(
            "".join(f"{hop} all@example.com:{SECRET}\n" for hop in sorted(set(hops.values())))
        )
        services = {f"{one} unix -": f"smtp {options}" for one, (_, options) in ways.items()}
        return self.start(
            reserve_address(),
            CLIENT,
            services,
            authority=self.authority.file,
            passwords=passwords,
            transports=transports,
        )
