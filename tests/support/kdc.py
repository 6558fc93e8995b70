"""A realm of Kerberos on loopback: a key server of the tests' own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from attrs import define, field

from tests.support.postfix_tools import PeerMissing
from tests.support.process import LOOPBACK, Clean, Process, reserve_port, takes_connections

REALM = "EXAMPLE.COM"


def _program(name: str) -> str:
    """:raises PeerMissing: it is not installed."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise PeerMissing(
            f"{name} is missing: apt-get install krb5-kdc krb5-admin-server krb5-user"
        )
    return found


@define(eq=False)
class KeyServer:
    """
    :ivar folder: where its files go.
    :ivar environment: in which programs find it.
    """

    folder: Path
    environment: dict[str, str] = field(init=False)

    def start(self, clean: Clean) -> None:
        port = reserve_port()
        files = {"KRB5_CONFIG": "krb5.conf", "KRB5_KDC_PROFILE": "kdc.conf"}
        self.environment = {name: str(self.folder / file) for name, file in files.items()}
        (self.folder / "krb5.conf").write_text(
            f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n"
            " dns_canonicalize_hostname = false\n rdns = false\n"
            f"[realms]\n {REALM} = {{\n  kdc = {LOOPBACK}:{port}\n }}\n"
        )
        (self.folder / "kdc.conf").write_text(
            f"[kdcdefaults]\n kdc_listen = {LOOPBACK}:{port}\n kdc_tcp_listen = {LOOPBACK}:{port}\n"
            f"[realms]\n {REALM} = {{\n  database_name = {self.folder}/principal\n"
            f"  key_stash_file = {self.folder}/stash\n }}\n"
        )
        self.run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
        process = Process(
            [_program("krb5kdc"), "-n", "-P", str(self.folder / "pid")],
            self.folder / "kdc.log",
        )
        process.start(clean, environment=os.environ | self.environment)
        process.wait_until(lambda: takes_connections(f"{LOOPBACK}:{port}"), "the key server")

    def run(self, program: str, *arguments: str, said: str = "") -> str:
        """
        What *program* writes.

        :param said: what it hears on standard input.
        """
        return subprocess.run(
            [_program(program), *arguments],
            env=os.environ | self.environment,
            input=said,
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout

    def keytab(self, principal: str) -> Path:
        """The key of a new *principal*."""
        path = self.folder / f"{principal.replace('/', '-')}.keytab"
        wanted = f"addprinc -randkey {principal}\nktadd -k {path} {principal}\n"
        self.run("kadmin.local", "-r", REALM, said=wanted)
        return path

    def keys(self, keytab: Path) -> list[str]:
        """The keys in *keytab*, in hexadecimal digits."""
        return re.findall(r"\(0x([0-9a-f]+)\)", self.run("klist", "-k", "-K", str(keytab)))
