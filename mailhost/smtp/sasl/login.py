"""
LOGIN: two prompts, name and password.

:Room: ``smtp``
:IIS: ACC-02; the prompts are those that IIS writes.

No RFC describes it; clients compare the prompts, so nothing is changed about them.
"""

from __future__ import annotations

from attrs import define, field

from mailhost.smtp.sasl.base import Challenge, Failed, PasswordGiven, Step, decoded

NAME_PROMPT = b"Username:"
PASSWORD_PROMPT = b"Password:"


@define
class LoginServer:
    """The server's side."""

    _name: str | None = field(default=None, init=False)

    def step(self, response: bytes | None) -> Step:
        """See `base.ServerMechanism`; an initial response is the name, as some clients send it."""
        if response is None:
            return Challenge(NAME_PROMPT)
        text = decoded(response)
        if text is None:
            return Failed(malformed=True)
        if self._name is None:
            self._name = text
            return Challenge(PASSWORD_PROMPT) if text else Failed(malformed=True)
        return PasswordGiven(self._name, text) if text else Failed()
