"""
What a configuration would meet on this machine: ports, directories, LDAP servers.

:Room: ``cli`` (floor 7)
:Called by: `mailhost.cli.check`.

Nothing is made or changed; a port is bound for an instant and never listened on, and a
connection to an LDAP server is closed as soon as it stands.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path as FilePath

from mailhost.authentication.access_tokens import read_tokens
from mailhost.authentication.kerberos import check_keytab
from mailhost.authentication.users import read_file, read_users
from mailhost.cli.link import Link
from mailhost.config.checks import Finding, Severity
from mailhost.config.faults import Path
from mailhost.config.settings import (
    ListenAddress,
    RemoteControlSettings,
    Settings,
    VirtualServerSettings,
)
from mailhost.errors import AuthenticationProblem
from mailhost.model.security import Login, Secret
from mailhost.net.certificates import CertificateFiles, CertificateProblem, doubts
from mailhost.secrets import SecretProblem, reveal
from mailhost.server.certificates import certificate_files, name_for
from mailhost.smtp.sasl.base import NT_HASH, PASSWORD

#: For a server that does not answer at all.
_PATIENCE_SECONDS = 3.0
_ADVICE = {
    errno.EADDRINUSE: "taken already; advised: another port, or end the program that has it",
    errno.EACCES: "not allowed to this user; advised: a port from 1024, or start as root",
    errno.EPERM: "not allowed to this user; advised: a port from 1024, or start as root",
    errno.EADDRNOTAVAIL: "not an address of this machine; advised: one that is, or 0.0.0.0",
    errno.EAFNOSUPPORT: "of a family this machine does not have; advised: an IPv4 address",
}


def probe_machine(settings: Settings, now: float) -> Iterator[Finding]:
    """
    Warnings about addresses, certificates and directories that cannot be used.

    What the server has taken that runs with this configuration is no wonder.

    :param now: seconds since the epoch.
    """
    ours = Link(settings.control).addresses()
    if settings.log.file is not None:
        words = probe_directory(settings.log.file.absolute().parent)
        if words is not None:
            told = f"the directory of '{settings.log.file}' {words}"
            yield Finding(Severity.WARNING, ("log", "file"), told)
    for name, told in probe_remote_control(settings.remote_control, now):
        yield Finding(Severity.WARNING, ("remote_control", name), told)
    for index, server in enumerate(settings.virtual_servers):
        at: Path = ("virtual_servers", index)
        for place, address in enumerate(server.listen):
            words = probe_address(address)
            if words is not None and (address.host, address.port) not in ours:
                yield Finding(Severity.WARNING, (*at, "listen", place), f"{address} is {words}")
        for files, key in certificate_files(server):
            for words in probe_certificate(files, name_for(server, key), now):
                yield Finding(Severity.WARNING, (*at, *key), words)
        for words in probe_users(server):
            yield Finding(Severity.WARNING, (*at, "access", "users"), words)
        for path, secret, file in _secrets(server):
            yield from probe_secret((*at, *path), secret, file)
        for path, keytab in _keytabs(server):
            words = probe_keytab(keytab)
            if words is not None:
                yield Finding(Severity.WARNING, (*at, *path), words)
        for path, words in probe_ldap(server):
            yield Finding(Severity.WARNING, (*at, "ldap", *path), words)
        for path, directory in _directories(server):
            words = probe_directory(directory)
            if words is not None:
                yield Finding(Severity.WARNING, (*at, *path), f"'{directory}' {words}")


def _directories(server: VirtualServerSettings) -> Iterator[tuple[Path, FilePath]]:
    yield ("home",), server.home
    if server.drop.directory is not None:
        yield ("drop", "directory"), server.drop.directory
    if server.messages.badmail.directory is not None:
        yield ("messages", "badmail", "directory"), server.messages.badmail.directory
    if server.protocol_log.enabled and server.protocol_log.directory is not None:
        yield ("protocol_log", "directory"), server.protocol_log.directory


def probe_certificate(files: CertificateFiles, fqdn: str | None, now: float) -> Iterator[str]:
    """What is wrong with a certificate, or will soon be; see `doubts`."""
    try:
        yield from doubts(files, fqdn, now)
    except CertificateProblem as problem:
        yield str(problem)


def _outbound(server: VirtualServerSettings) -> Iterator[tuple[Path, Login]]:
    """Each of our own logins, with its key."""
    if server.delivery.security.login is not None:
        yield ("delivery", "security"), server.delivery.security.login
    for index, domain in enumerate(server.domains):
        if domain.security is not None and domain.security.login is not None:
            yield ("domains", index, "security"), domain.security.login


def _keytabs(server: VirtualServerSettings) -> Iterator[tuple[Path, FilePath]]:
    if server.access.keytab is not None:
        yield ("access", "keytab"), server.access.keytab
    for path, login in _outbound(server):
        if login.keytab is not None:
            yield (*path, "keytab"), login.keytab


def probe_keytab(path: FilePath) -> str | None:
    """Why the keytab *path* cannot be used, or `None`."""
    try:
        check_keytab(path)
    except SecretProblem as problem:
        return str(problem)
    return None


def _secrets(
    server: VirtualServerSettings,
) -> Iterator[tuple[Path, Secret | None, FilePath | None]]:
    """Each password that *server* uses, with the key that it is about."""
    for path, login in _outbound(server):
        for name, secret, file in login.secrets():
            yield (*path, *name), secret, file
    yield ("ldap", "password"), server.ldap.password, server.ldap.password_file


def probe_secret(path: Path, secret: Secret | None, file: FilePath | None) -> Iterator[Finding]:
    """Why a password cannot be used, if so."""
    if secret is None and file is None:
        return
    try:
        reveal(secret, file)
    except SecretProblem as problem:
        name = path if secret is not None else (*path[:-1], f"{path[-1]}_file")
        yield Finding(Severity.WARNING, name, str(problem))


def probe_remote_control(remote: RemoteControlSettings, now: float) -> Iterator[tuple[str, str]]:
    """What is wrong with the certificate and the files of *remote*, and the key it is about."""
    if remote.listen is None or remote.certificate is None:
        return
    for words in probe_certificate(CertificateFiles(remote.certificate, remote.key_), None, now):
        yield "certificate", words
    for name, path, read in (
        ("users", remote.users, read_users),
        ("tokens", remote.tokens, read_tokens),
    ):
        if path is None:
            continue
        try:
            found, faults = read(read_file(path))
        except AuthenticationProblem as problem:
            yield name, str(problem)
            continue
        for words in faults:
            yield name, f"{path}: {words}"
        if not found:
            yield name, f"{path} has nobody in it"


def probe_users(server: VirtualServerSettings) -> Iterator[str]:
    """What is wrong with the users file of *server*."""
    users = server.access.users
    if users is None:
        return
    try:
        found, faults = read_users(read_file(users))
    except AuthenticationProblem as problem:
        yield str(problem)
        return
    for words in faults:
        yield f"{users}: {words}"
    if not found:
        yield f"{users} has no user; advised: mailhost passwd {users} USER"
    elif server.access.scram and all(user.keys is None for user in found.values()):
        yield f"{users} has no keys for SCRAM; advised: passwords given by mailhost passwd"
    for is_set, kind, option in (
        (server.access.integrated, NT_HASH, "--ntlm"),
        (server.access.cram_md5, PASSWORD, "--cram-md5"),
    ):
        if found and is_set and not any(kind in user.secrets for user in found.values()):
            yield f"{users} has nothing that mailhost passwd {option} keeps; advised: use it"


def probe_ldap(server: VirtualServerSettings) -> Iterator[tuple[Path, str]]:
    """
    What keeps *server* from asking its directory; each key below ``ldap``, and words.

    Whether the directory is fit for mail `mailhost ldap check` says.
    """
    if not server.ldap.enabled:
        return
    # ldap3 is large: who asks no directory does not load it.
    from mailhost.directory.binding import BindingKind, DirectoryServer, check_possible

    servers = [DirectoryServer.parse(url) for url in server.ldap.server]
    try:
        check_possible(BindingKind(server.ldap.binding), servers)
    except ValueError as wrong:
        yield ("binding",), f"{wrong}; advised: install it, or another binding"
    for place, url in enumerate(server.ldap.server):
        parsed = servers[place]
        words = _why_not_reached(parsed.scheme, parsed.host, parsed.port)
        if words is not None:
            yield (
                ("server", place),
                f"{url} cannot be reached: {words}; advised: look at its name and port",
            )


def _why_not_reached(scheme: str, host: str, port: int) -> str | None:
    try:
        if scheme == "ldapi":
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(_PATIENCE_SECONDS)
                door.connect(host)
        else:
            socket.create_connection((host, port), _PATIENCE_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def probe_address(address: ListenAddress) -> str | None:
    """Why *address* cannot be bound, or `None`."""
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as port:
            # As Twisted does, so that a port in TIME_WAIT counts as free.
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.is_ipv6:
                port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            port.bind(_socket_address(address))
    except OSError as error:
        known = _ADVICE.get(error.errno or 0)
        return known or f"not to be bound: {error.strerror or error}; advised: another address"
    return None


def _socket_address(address: ListenAddress) -> tuple[str, int] | tuple[str, int, int, int]:
    host, _, scope = address.host.partition("%")
    if not scope:
        return host, address.port
    index = int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    return host, address.port, 0, index


def probe_directory(directory: FilePath) -> str | None:
    """Why *directory* cannot be used or made, or `None`."""
    existing = directory.absolute()
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return f"cannot be used: '{existing}' is not a directory; advised: another path"
    if os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        return None
    if existing == directory.absolute():
        return "cannot be read and written by this user; advised: change its owner or mode"
    return f"cannot be made: '{existing}' is not writable; advised: make it, or another path"
