"""A realm of Kerberos on loopback: a key server of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from attrs import define, field

from tests.support.process import LOOPBACK, Clean, Process, reserve_port, takes_connections

REALM = "EXAMPLE.COM"
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local")


def missing() -> str:
    """What has to be installed for it; empty: nothing."""
    if find_spec("gssapi") is None:
        return (
            "the extra kerberos is not installed: it is compiled, which takes minutes "
            "(apt-get install libkrb5-dev; pip install gssapi)"
        )
    if any(_program(name) is None for name in _PROGRAMS):
        return "there is no key server (apt-get install krb5-kdc krb5-admin-server)"
    return ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


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
            [str(_program("krb5kdc")), "-n", "-P", str(self.folder / "pid")],
            self.folder / "kdc.log",
        )
        process.start(clean, environment=os.environ | self.environment)
        process.wait_until(lambda: takes_connections(f"{LOOPBACK}:{port}"), "the key server")

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(_program(program)), *arguments],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
            timeout=30,
        )

    def keytab(self, principal: str) -> Path:
        """The key of a new *principal*."""
        path = self.folder / f"{principal.replace('/', '-')}.keytab"
        for line in (f"addprinc -randkey {principal}", f"ktadd -k {path} {principal}"):
            self.run("kadmin.local", "-r", REALM, "-q", line)
        return path
