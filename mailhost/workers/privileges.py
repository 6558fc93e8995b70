"""
From root to the user of the configuration, once the ports are bound.

:Room: ``workers``
:Called by: `mailhost.tap`, `mailhost.service`, `mailhost.workers.supervisor`.
"""

from __future__ import annotations

import os
import pwd

from mailhost.errors import MailhostError


class CannotChangeUser(MailhostError):
    """This process may not become that user; the words say why."""


def check_user(name: str | None) -> None:
    """
    Whether `become` will do.

    :param name: `None`: stay who we are.
    :raises CannotChangeUser: it will not.
    """
    if name is None:
        return
    try:
        wanted = pwd.getpwnam(name).pw_uid
    except KeyError:
        raise CannotChangeUser(f"user: there is no user '{name}' on this machine") from None
    now = os.geteuid()
    if now not in (0, wanted):
        raise CannotChangeUser(
            f"user: only root can become '{name}', and this is user id {now}; "
            f"start as root or as '{name}', or leave user out"
        )


def become(name: str | None) -> None:
    """
    Be *name* for good, with its groups and no others.

    Does nothing for `None`, or where this process is that user already.

    :raises CannotChangeUser: it cannot be done; nothing must be served then.
    """
    check_user(name)
    if name is None:
        return
    user = pwd.getpwnam(name)
    if os.geteuid() == user.pw_uid and os.getuid() == user.pw_uid:
        return
    try:
        # The groups first: afterwards we may not.
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError as error:
        raise CannotChangeUser(f"user: cannot become '{name}': {error.strerror}") from error
    if os.getresuid() != (user.pw_uid,) * 3 or os.getresgid() != (user.pw_gid,) * 3:
        raise CannotChangeUser(f"user: this process has not become '{name}'")
