"""
Which command may come when.

:Room: ``smtp``
:RFC: 5321 §4.1.4 (order), §3.3 (the mail transaction), §4.5.3.2 (why 354 is a state);
    4954 §4 (AUTH), 1985 §5.2 (ETRN), 2645 §5.2 (ATRN).
:Called by: `mailhost.smtp.server_dialogue`: `refusal` before a command is handed
    out, `after` once its reply is known.

Rules of this file.  1: everything that decides about order is in `NEXT` and
`REFUSAL`.  2: a command that is answered negatively leaves the state alone.
"""

from __future__ import annotations

from enum import IntEnum, auto

from mailhost.model.reply import Reply
from mailhost.smtp import replies


class State(IntEnum):
    """Where a session stands; of integers, because they are looked up many times a message."""

    #: Nobody has said hello.
    CONNECTED = auto()
    #: 554 was the greeting.
    REFUSED = auto()
    #: Ready for MAIL.
    GREETED = auto()
    #: After 334 to AUTH, before its answer.
    LOGGING_IN = auto()
    #: A reverse-path, no forward-path yet.
    SENDER = auto()
    #: At least one forward-path.
    RECIPIENTS = auto()
    #: After 354, before the end of content.
    CONTENT = auto()
    #: After the first BDAT, before the last.
    CHUNKS = auto()
    # Those from here on are ends.
    #: The last reply has been given.
    CLOSED = auto()
    #: The peer is the server.
    TURNED = auto()


_S = State
_GREETING = {"HELO": _S.GREETED, "EHLO": _S.GREETED, "QUIT": _S.CLOSED}

#: state -> verb -> state after a positive reply.  Everything else is refused.
NEXT: dict[State, dict[str, State]] = {
    _S.CONNECTED: {**_GREETING, "RSET": _S.CONNECTED, "XCLIENT": _S.CONNECTED},
    _S.GREETED: {
        **_GREETING,
        "RSET": _S.GREETED,
        "MAIL": _S.SENDER,
        # RFC 3207 §4.2: after it the session begins anew.
        "STARTTLS": _S.CONNECTED,
        "AUTH": _S.GREETED,
        "XCLIENT": _S.CONNECTED,
        "ETRN": _S.GREETED,
        "TURN": _S.TURNED,
        "ATRN": _S.TURNED,
    },
    _S.SENDER: {**_GREETING, "RSET": _S.GREETED, "RCPT": _S.RECIPIENTS},
    _S.RECIPIENTS: {
        **_GREETING,
        "RSET": _S.GREETED,
        "RCPT": _S.RECIPIENTS,
        "DATA": _S.CONTENT,
        "BDAT": _S.CHUNKS,
    },
    # RFC 3030 §2: BDAT and DATA are not mixed.
    _S.CHUNKS: {**_GREETING, "RSET": _S.GREETED, "BDAT": _S.CHUNKS},
    # RFC 5321 §3.1: who is not let in is still waited for.
    _S.REFUSED: {"QUIT": _S.CLOSED},
    _S.LOGGING_IN: {},
    _S.CONTENT: {},
    _S.CLOSED: {},
    _S.TURNED: {},
}
#: §4.1.4: these may come at any time and change nothing.
ANY_TIME = frozenset({"NOOP", "HELP", "VRFY", "EXPN"})

#: RFC 3207 §4: what is answered before TLS where TLS is required; RSET and
#: HELO do no harm, and clients that cannot STARTTLS are told at MAIL.
BEFORE_TLS = frozenset({"HELO", "EHLO", "NOOP", "RSET", "HELP", "STARTTLS", "QUIT"})

#: What has its place between two transactions.
_BETWEEN = dict.fromkeys(
    ("STARTTLS", "AUTH", "XCLIENT", "ETRN", "TURN", "ATRN"), replies.IN_TRANSACTION
)

#: state -> verb -> what is missing; `replies.HELLO_FIRST` before a greeting.
REFUSAL: dict[State, dict[str, Reply]] = {
    _S.GREETED: {
        "RCPT": replies.NEED_MAIL,
        "DATA": replies.NEED_MAIL,
        "BDAT": replies.NEED_MAIL,
    },
    _S.SENDER: {
        "MAIL": replies.SENDER_GIVEN,
        "DATA": replies.NEED_RCPT,
        "BDAT": replies.NEED_RCPT,
        **_BETWEEN,
    },
    _S.RECIPIENTS: {"MAIL": replies.SENDER_GIVEN, **_BETWEEN},
    _S.CHUNKS: dict.fromkeys(("MAIL", "RCPT", "DATA", *_BETWEEN), replies.LAST_CHUNK_FIRST),
}


def refusal(state: State, verb: str) -> Reply | None:
    """Why *verb* may not come in *state*, or `None` when it may."""
    if verb in NEXT[state]:
        return None
    if state is State.REFUSED:
        return replies.ONLY_QUIT
    if verb in ANY_TIME:
        return None
    return REFUSAL.get(state, {}).get(verb, replies.HELLO_FIRST)


def after(state: State, verb: str, reply: Reply) -> State:
    """The state once *verb* was answered with *reply*."""
    return NEXT[state].get(verb, state) if reply.code < 400 else state
