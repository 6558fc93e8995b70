"""
What of a virtual server's settings cannot change while it runs.

:Room: ``server``
:Called by: `mailhost.server.virtual_server`, `mailhost.workers.supervisor`.
"""

from __future__ import annotations

from attrs import evolve

from mailhost.config.settings import VirtualServerSettings


def with_fixed(old: VirtualServerSettings, new: VirtualServerSettings) -> VirtualServerSettings:
    """*new* with the directories of *old*, where they cannot be exchanged."""
    badmail = evolve(new.messages.badmail, directory=old.messages.badmail.directory)
    messages = evolve(new.messages, badmail=badmail)
    return evolve(new, home=old.home, drop=old.drop, messages=messages)


def fixed_differences(old: VirtualServerSettings, new: VirtualServerSettings) -> tuple[str, ...]:
    """Directories in use cannot be exchanged under a running server."""
    pairs = {
        "home": (old.home, new.home),
        "drop.directory": (old.drop_directory, new.drop_directory),
        "drop.quota": (old.drop.quota, new.drop.quota),
        "messages.badmail.directory": (old.badmail_directory, new.badmail_directory),
    }
    return tuple(
        f"{key} stays {before} until {new.name!r} is restarted"
        for key, (before, after) in pairs.items()
        if before != after
    )
