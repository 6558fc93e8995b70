"""
A Postfix of our own: unpacked, on a high port, with its own configuration folder.

It is never the system's mail service.  Postfix wants an owner and a group that
nobody else uses; where it runs as root, accounts that every Debian has serve.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.postfix_tools import postfix_environment, postfix_root

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {home}/conf
mail_owner = {owner}
setgid_group = {group}
default_privs = nobody
import_environment = MAIL_CONFIG TZ LANG=C LD_LIBRARY_PATH SASL_PATH
myhostname = postfix.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
relayhost = [{next_host}]:{next_port}
smtp_dns_support_level = disabled
smtp_destination_concurrency_limit = 20
default_process_limit = 100
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
alias_maps =
local_recipient_maps =
message_size_limit = 20971520
"""
#: For incoming sessions; sessions and tickets are not kept, as clients are all new.
TLS_CF = """\
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_session_cache_database =
smtpd_tls_loglevel = 0
"""
MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
"""
OWNER, GROUP = "news", "uucp"
QUEUES = (
    *("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming"),
    *("private", "public", "saved", "trace", "maildrop", "pid"),
)


def start_postfix(
    home: Path,
    port: int,
    next_hop: tuple[str, int],
    files: tuple[Path, Path] | None = None,
    main: str = "",
    master: str = "",
) -> subprocess.Popen[bytes]:
    """
    Run a Postfix that relays everything to *next_hop*.

    :param home: a folder of its own; everything it writes is below.  Debian's reads
        ``conf/sasl/smtpd.conf`` where it takes logins.
    :param files: certificate and key, where it is to offer STARTTLS.
    :param main: further lines of its ``main.cf``; the last of a parameter counts.
    :param master: further lines of its ``master.cf``.
    :raises SystemExit: not root: Postfix changes users.
    """
    if os.geteuid() != 0:
        raise SystemExit("the Postfix beside us has to be started by root")
    root = postfix_root()
    conf, queue, data = home / "conf", home / "queue", home / "data"
    for folder in (conf, queue, data):
        folder.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    basis = MAIN_CF.format(
        home=home, root=root, owner=OWNER, group=GROUP, next_host=next_hop[0], next_port=next_hop[1]
    )
    if files is not None:
        basis += TLS_CF.format(certificate=files[0], key=files[1])
    (conf / "main.cf").write_text(basis + main, "utf-8")
    (conf / "master.cf").write_text(MASTER_CF.format(port=port) + master, "utf-8")
    (conf / "dynamicmaps.cf").touch()
    for name in QUEUES:
        (queue / name).mkdir()
        if name != "pid":
            shutil.chown(queue / name, OWNER)
    for name, mode in (("public", 0o710), ("maildrop", 0o730)):
        shutil.chown(queue / name, OWNER, GROUP)
        (queue / name).chmod(mode)
    shutil.chown(data, OWNER)
    return subprocess.Popen(
        [str(root / "usr/lib/postfix/sbin/master"), "-c", str(conf), "-d"],
        env=postfix_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
