"""
What a dialogue, or its failure, means for each recipient.

:Room: ``relay``
:RFC: 5321 §4.2.1 (classes), 3463 (X.4: network and routing status), 8689 §4.2.1; promises P3, P4.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from mailhost.errors import ContentDamaged, MailhostError, ResolveProblem
from mailhost.interfaces import IQueueStore
from mailhost.model.outcome import Fate, Outcome, outcome_of
from mailhost.model.queue import QueuedMessage
from mailhost.model.reply import Reply
from mailhost.net.outbound import Transcript
from mailhost.smtp.client_events import Phase


def transcript_outcomes(
    transcript: Transcript,
    peer: str,
    dsn: bool = False,
    transaction: tuple[str, int] | None = None,
) -> list[Outcome]:
    """
    One outcome per recipient of the transaction.

    A recipient about whom *peer* said nothing is delayed (4.4.2), in doubt when
    our final dot was on its way.

    :param dsn: *peer* offers DSN.
    :param transaction: see `mailhost.model.outcome.Outcome`.
    """
    outcomes: list[Outcome] = []
    known: Reply | None = None
    for reply in transcript.replies:
        # As a rule all have the reply to the final dot.
        if outcomes and reply is known:
            outcomes.append(outcomes[-1])
        elif reply is not None:
            outcomes.append(outcome_of(reply, peer, dsn, transaction))
        else:
            outcomes.append(_silence(transcript, peer, transaction))
        known = reply
    return outcomes


def _silence(transcript: Transcript, peer: str, transaction: tuple[str, int] | None) -> Outcome:
    doubt = transcript.in_doubt
    words = f"in doubt: {transcript.words}" if doubt else transcript.words
    return Outcome(Fate.DELAYED, "4.4.2", words, peer, in_doubt=doubt, transaction=transaction)


def unopened_outcome(transcript: Transcript, peer: str, requiretls: bool = False) -> Outcome:
    """
    A session that did not come to an envelope.

    Temporary, whatever the peer said: a 554 in place of a greeting speaks of the
    host or of us today, not of the message (RFC 5321 §3.1).

    :param requiretls: the mail must not go without TLS to a host that is known: where there
        is none, it comes back (RFC 8689 §4.2.1).
    """
    if transcript.tls_failed:
        if requiretls and _never_secure(transcript):
            return Outcome(Fate.FAILED, "5.7.10", transcript.words, peer=peer)
        # RFC 3463 X.7.4: security features not supported; X.7.5: cryptographic failure.
        status = "4.7.4" if transcript.ended_in is Phase.STARTTLS else "4.7.5"
        return Outcome(Fate.DELAYED, status, transcript.words, peer=peer)
    if transcript.ended_in is Phase.MECHANISMS:
        return Outcome(Fate.DELAYED, "4.7.4", transcript.words, peer=peer)
    if transcript.login_failed and transcript.spoken is not None:
        # RFC 4954 §6, X.7.8; an operator can mend it, and the mail is not to blame.
        return Outcome(Fate.DELAYED, "4.7.8", transcript.words, peer=peer)
    if transcript.spoken is None:
        return Outcome(Fate.DELAYED, "4.4.2", transcript.words, peer=peer)
    return Outcome(Fate.DELAYED, "4.4.1", str(transcript.spoken), peer=peer, spoken=True)


def _never_secure(transcript: Transcript) -> bool:
    """Whether there will be no TLS with the peer later either, as far as one can see."""
    if transcript.ended_in is Phase.STARTTLS:
        return transcript.spoken is None or transcript.spoken.permanent
    return transcript.untrusted


def without_requiretls(host: str) -> Outcome:
    """*host* does not promise what the mail needs (RFC 8689 §4.2.1)."""
    words = f"{host} does not offer REQUIRETLS, and the message needs it"
    return Outcome(Fate.FAILED, "5.7.30", words, peer=host)


#: Nobody has asked for the mail yet (RFC 3463 X.4.0: other network status).
HELD = Outcome(Fate.DELAYED, "4.4.0", "held until its domain asks for it by ETRN or ATRN")
#: The session that had asked for it is over.
TURNED_AWAY = Outcome(Fate.DELAYED, "4.4.2", "the session that had asked for it is over")


def misfit(status: str, host: str, words: str) -> Outcome:
    """*host* does not take such a content (RFC 3463 X.6)."""
    return Outcome(Fate.FAILED, status, f"{host}: {words}", peer=host)


def unreachable(peer: str, words: str) -> Outcome:
    """No connection to *peer* (RFC 3463 X.4.1: no answer from host)."""
    return Outcome(Fate.DELAYED, "4.4.1", f"{peer}: {words}", peer=peer)


def unresolved(problem: ResolveProblem) -> Outcome:
    """There is no host to connect to, permanently or temporarily."""
    fate = Fate.FAILED if problem.permanent else Fate.DELAYED
    return Outcome(fate, problem.status, problem.words)


async def damaged(store: IQueueStore, message: QueuedMessage, problem: ContentDamaged) -> Outcome:
    """
    *message* cannot be sent as it was accepted; what is left of it is kept.

    It fails only once that is done: until then it is looked at again.
    """
    try:
        await store.quarantine(message, str(problem))
    except MailhostError as trouble:
        return Outcome(Fate.DELAYED, "4.3.0", f"{problem}; not put aside: {trouble}")
    return Outcome(Fate.FAILED, "5.3.0", str(problem))


#: What we could not foresee is temporary (promise P4).
STUMBLED = Outcome(Fate.DELAYED, "4.3.0", "local error in processing")


def expired(last: Outcome, late: bool = False) -> Outcome:
    """
    *last* was the last attempt (RFC 3463 X.4.7: delivery time expired).

    :param late: it is the sender's time that is over (RFC 2852 §4.1).
    """
    return Outcome(
        Fate.FAILED,
        "5.4.7" if late else "4.4.7",
        f"delivery time expired; last: {last.words}",
        peer=last.peer,
        in_doubt=last.in_doubt,
        transaction=last.transaction,
    )


#: RFC 2852 §4.1: nothing is sent when its time is over.
LATE = Outcome(Fate.FAILED, "5.4.7", "delivery time expired, as the sender has asked")


def still_in_doubt(later: Outcome) -> Outcome:
    """
    *later* is what became of a recipient whose message a host may have had before (P3).

    The words are no longer the peer's alone.
    """
    words = f"{later.words}; in doubt since an earlier attempt: it may have been delivered"
    return evolve(later, words=words, spoken=False, in_doubt=True)


def worth_another_host(outcomes: Sequence[Outcome]) -> bool:
    """
    Whether a further host of the site may do better (RFC 5321 §5.1).

    Not after a doubt: the first host may have the message.
    """
    return any(o.fate is Fate.DELAYED for o in outcomes) and not any(o.in_doubt for o in outcomes)
