"""
An Exim and an OpenSMTPD of our own: unpacked by ``tests/fetch-peers --all``, never the system's.

Both have fixed paths and accounts of their own.  Each runs in a mount namespace of its own, where
the folders that it insists on are below its home and its accounts stand in ``/etc/passwd``; the
system itself is left as it is.  Neither is given a certificate.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.postfix_tools import postfix_environment, unpacked_program

_ACCOUNTS = {"Debian-exim": 991, "opensmtpd": 992, "opensmtpq": 993}
_EXIM_CONF = """\
primary_hostname = exim.example
exim_path = {program}
spool_directory = /var/spool/exim4
log_file_path = /var/spool/exim4/%slog
keep_environment = LD_LIBRARY_PATH
deliver_drop_privilege
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts =
host_lookup =
acl_smtp_rcpt = accept
message_size_limit = 20M
smtp_accept_max = 200
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
queue_run_max = 20
begin routers
hop:
  driver = manualroute
  transport = out
  route_list = * {next_host}
  self = send
begin transports
out:
  driver = smtp
  port = {next_port}
begin retry
* * F,1h,1s
"""
_OPENSMTPD_CONF = """\
listen on 127.0.0.1 port {port}
smtp max-message-size 20M
smtp limit max-mails 1000000
mta limit conn-delay-route 0
mta limit reconn-delay-route 0
action "out" relay host smtp://{next_host}:{next_port}
match from any for any action "out"
"""
#: Folders that are the server's own in its namespace, and what has to be there.
_FOLDERS = {
    "spool": "/var/spool",
    "lib": "/var/lib",
    "run": "/run",
}
_ENTER = 'for pair in $1; do mount --bind "${pair%%=*}" "${pair#*=}"; done; shift; exec "$@"'


def start_exim(
    home: Path, port: int, next_hop: tuple[str, int], files: tuple[Path, Path] | None = None
) -> subprocess.Popen[bytes]:
    """
    Run an Exim that relays everything to *next_hop*, a process for each message.

    :param home: a folder of its own; everything it writes is below.
    :raises ValueError: it is to have a certificate.
    """
    program = unpacked_program("exim4")
    conf = _prepare(home, files, "spool/exim4")
    _write(conf, _EXIM_CONF, port, next_hop, program)
    os.chown(home / "spool/exim4", _ACCOUNTS["Debian-exim"], _ACCOUNTS["Debian-exim"])
    return _start(home, [program, "-C", str(conf), "-bdf", "-q5s"])


def start_opensmtpd(
    home: Path, port: int, next_hop: tuple[str, int], files: tuple[Path, Path] | None = None
) -> subprocess.Popen[bytes]:
    """
    Run an OpenSMTPD that relays everything to *next_hop*.

    :param home: a folder of its own; everything it writes is below.
    :raises ValueError: it is to have a certificate.
    """
    program = unpacked_program("smtpd")
    conf = _prepare(home, files, "spool/smtpd", "lib/opensmtpd/empty")
    _write(conf, _OPENSMTPD_CONF, port, next_hop, program)
    (home / "spool/smtpd").chmod(0o711)
    return _start(home, [program, "-F", "-f", str(conf)])


def _prepare(home: Path, files: tuple[Path, Path] | None, *folders: str) -> Path:
    """The folders and accounts; where the configuration is to be."""
    if files is not None:
        raise ValueError("Exim and OpenSMTPD are measured without TLS")
    for folder in (*_FOLDERS, *folders):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for name in ("passwd", "group"):
        more = [
            f"{account}:x:{number}:" + (f"{number}::/:/bin/false" if name == "passwd" else "")
            for account, number in _ACCOUNTS.items()
        ]
        known = Path("/etc", name).read_text("utf-8")
        (home / name).write_text(known + "\n".join(more) + "\n", "utf-8")
    return home / "conf"


def _write(conf: Path, text: str, port: int, next_hop: tuple[str, int], program: str) -> None:
    next_host, next_port = next_hop
    conf.write_text(
        text.format(port=port, next_host=next_host, next_port=next_port, program=program), "utf-8"
    )
    conf.chmod(0o644)


def _start(home: Path, command: list[str]) -> subprocess.Popen[bytes]:
    bound = {home / name: path for name, path in _FOLDERS.items()}
    bound |= {home / name: f"/etc/{name}" for name in ("passwd", "group")}
    pairs = " ".join(f"{ours}={theirs}" for ours, theirs in bound.items())
    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _ENTER, "sh", pairs, *command],
            env=postfix_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
