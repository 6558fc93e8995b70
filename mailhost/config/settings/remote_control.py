"""
Control over TCP: where, and who may do what.

:Room: ``config.settings``
:IIS: SEC-01..03.
:Read by: `mailhost.control.remote`.
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from mailhost.config.faults import shown
from mailhost.config.keys import key, keys
from mailhost.config.units import ADDRESS_AND_PORT, PATH, Kind


def _parse_account(text: str) -> str:
    name = text.strip()
    if not name or ":" in name or not name.isprintable() or len(name) > 64:
        raise ValueError(f"{shown(text)} is not the name of a user")
    return name


#: Somebody in a users file or a tokens file.
ACCOUNT = Kind(
    _parse_account, "a name of up to 64 printable characters, without a colon", check=_parse_account
)


@frozen
class RemoteControlSettings:
    """
    The control interface over TCP, with TLS.

    The local socket needs none of this: root and the server's own user may do everything there.
    """

    listen: tuple[str, int] | None = key(
        ADDRESS_AND_PORT,
        "null",
        help="Where programs on other machines are answered, over HTTPS. null: nowhere.",
    )
    certificate: Path | None = key(
        PATH, "null", help="The certificate that is shown, in PEM; with listen it must be given."
    )
    key_: Path | None = key(
        PATH, "null", name="key", help="Its private key in PEM; null: in the same file."
    )
    users: Path | None = key(
        PATH,
        "null",
        help="Who may log in with a password: a file of mailhost passwd. null: nobody.",
    )
    tokens: Path | None = key(
        PATH,
        "null",
        help="Programs that may come with a token: a file of mailhost token. null: none.",
    )
    administrators: tuple[str, ...] = keys(
        ACCOUNT, "", help="Users and names of tokens that may do everything.", iis="SEC-01 AdminACL"
    )
    readers: tuple[str, ...] = keys(
        ACCOUNT,
        "",
        help="Those that may see everything but the contents of messages, and change nothing.",
    )

    def __attrs_post_init__(self) -> None:
        if self.listen is None:
            return
        if self.certificate is None:
            raise ValueError("certificate: there is none; allowed: a path, without it no listen")
        if self.users is None and self.tokens is None:
            raise ValueError("users: there are none, nor tokens; allowed: one of them, with listen")
