"""
A real Active Directory: Samba's domain controller, from a folder of its own, on a local socket.

It takes half a minute to be made, so it is used only where it is installed
(``apt-get install samba samba-ad-provision samba-dsdb-modules``), and by root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import ldap3  # type: ignore[import-untyped]
from attrs import define, field

from tests.support.process import Clean, Process

TOOL, SERVER = shutil.which("samba-tool"), shutil.which("samba", path="/usr/sbin:/usr/bin")
MISSING = ""
if TOOL is None or SERVER is None:
    MISSING = "Samba is not installed; it is optional (see tests/support/samba.py)"
elif os.geteuid() != 0:
    MISSING = "Samba's domain controller wants to be root; it is optional"

BASE = "DC=ad,DC=example,DC=com"
ADMINISTRATOR = f"CN=Administrator,CN=Users,{BASE}"
PASSWORD = "A-password-0f-the-tests"
_START_SECONDS = 60


@define
class Samba:
    """:ivar folder: everything it writes; as short a path as sockets need."""

    folder: Path
    process: Process = field(init=False)

    @property
    def socket(self) -> Path:
        return self.folder / "private/ldapi"

    @property
    def url(self) -> str:
        return f"ldapi://{quote(str(self.socket), safe='')}"

    def start(self, clean: Clean) -> None:
        """Make the domain, and run its LDAP server."""
        assert TOOL is not None and SERVER is not None
        command = [TOOL, "domain", "provision", "--realm=AD.EXAMPLE.COM", "--domain=AD"]
        command += [f"--adminpass={PASSWORD}", "--dns-backend=NONE", "--host-ip=127.0.0.1"]
        command += ["--server-role=dc", "--host-name=dc1", f"--targetdir={self.folder}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise AssertionError(f"samba-tool: {done.stderr}")
        options = {
            "server services": "ldap",
            "ldap server require strong auth": "no",
            # There is none: TCP has fixed ports.
            "interfaces": "127.0.0.77",
            "bind interfaces only": "yes",
            "pid directory": str(self.folder / "run"),
            "ncalrpc dir": str(self.folder / "run/ncalrpc"),
            "log file": str(self.folder / "log.samba"),
        }
        (self.folder / "run").mkdir()
        self.process = Process(
            [
                *(SERVER, "--interactive", "--no-process-group", "--model=single", "-s"),
                str(self.folder / "etc/smb.conf"),
                *(f"--option={name}={value}" for name, value in options.items()),
            ],
            self.folder / "log",
        )
        self.process.start(clean)
        self.process.wait_until(self._answers, "Samba answers", _START_SECONDS)

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            with self.connection():
                return True
        except ldap3.core.exceptions.LDAPExceptionError:
            return False

    def connection(self) -> ldap3.Connection:
        """Bound as the administrator."""
        server = ldap3.Server(f"ldapi://{self.socket}", get_info=ldap3.NONE)
        return ldap3.Connection(server, ADMINISTRATOR, PASSWORD, auto_bind=True)

    def load(self, entries: Sequence[tuple[str, str, dict[str, object]]]) -> None:
        """:param entries: DN, object class, attributes."""
        with self.connection() as connection:
            for dn, kind, attributes in entries:
                if not connection.add(dn, kind, attributes):
                    raise AssertionError(f"{dn}: {connection.result}")
