"""How the words between gate and broker travel as JSON, for a gate in another process or on another machine.

Both ends use these, so that a field added to a word travels without further ado. An answer that does not fit
is no answer: decoding raises msgspec.MsgspecError and the gate fails closed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from workflows.gate import (
    Admission,
    Closing,
    GrantEnded,
    GrantMinted,
    HeldStatement,
    Knock,
    LoginLink,
    Notice,
    Progress,
    Renewal,
    ReviewDecided,
    ReviewTicket,
    RunPass,
    SessionKilled,
)
from workflows.model import Refusal

HEARTBEAT = 1.0
"""Seconds after which a silent stream of notices says that it is still there."""


DOOR_NAME = "broker.portcullis.internal"
"""The name in the certificate of the broker's door for gates, wherever that door is."""


class JoinQuestion(msgspec.Struct, frozen=True):
    """`token` is a join token; `request` a certification request (PEM)."""

    token: str
    request: str


class RenewalQuestion(msgspec.Struct, frozen=True):
    """For the next certificate: a certification request (PEM)."""

    request: str


class IdentityAnswer(msgspec.Struct, frozen=True):
    """Who a gate is from now on: its certificate (PEM), good for so many `seconds`, the authorities (PEM)
    that it knows the broker by, and the address of the broker's door for gates.
    """

    gate: str
    certificate: str
    trusted: str
    seconds: float
    door: str


class ClientCaAnswer(msgspec.Struct, frozen=True):
    ca: str


class AdmitAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the two is there."""

    admission: Admission | None = None
    refusal: Refusal | None = None


class LoginAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the two is there."""

    link: LoginLink | None = None
    refusal: Refusal | None = None


class RenewQuestion(msgspec.Struct, frozen=True):
    gate: str
    progress: tuple[Progress, ...]


class RenewAnswer(msgspec.Struct, frozen=True):
    remaining: dict[str, float]
    ended: tuple[GrantEnded, ...] = ()
    killed: tuple[SessionKilled, ...] = ()

    @property
    def renewal(self) -> Renewal:
        return Renewal(self.remaining, (*self.ended, *self.killed))


class HoldQuestion(msgspec.Struct, frozen=True):
    gate: str
    grant: str


class CloseQuestion(msgspec.Struct, frozen=True):
    gate: str
    closing: Closing


class AskQuestion(msgspec.Struct, frozen=True):
    gate: str
    held: HeldStatement


class AskAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the two is there."""

    ticket: ReviewTicket | None = None
    refusal: Refusal | None = None


class RunQuestion(msgspec.Struct, frozen=True):
    gate: str
    review: str
    session: str
    digest: str


class RunAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the two is there."""

    run: RunPass | None = None
    refusal: Refusal | None = None


class FinishQuestion(msgspec.Struct, frozen=True):
    gate: str
    review: str
    outcome: str


class WithdrawQuestion(msgspec.Struct, frozen=True):
    gate: str
    review: str
    why: str


class HeldAnswer(msgspec.Struct, frozen=True):
    """How many bytes of a recording the broker holds."""

    held: int


class NoticeLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the stream of notices; an empty one is a heartbeat."""

    minted: GrantMinted | None = None
    ended: GrantEnded | None = None
    decided: ReviewDecided | None = None
    killed: SessionKilled | None = None

    @property
    def notice(self) -> Notice | None:
        return self.minted or self.ended or self.decided or self.killed


def admit_answer(outcome: Admission | Refusal) -> AdmitAnswer:
    if isinstance(outcome, Refusal):
        return AdmitAnswer(refusal=outcome)
    return AdmitAnswer(admission=outcome)


def login_answer(outcome: LoginLink | Refusal) -> LoginAnswer:
    if isinstance(outcome, Refusal):
        return LoginAnswer(refusal=outcome)
    return LoginAnswer(link=outcome)


def ask_answer(outcome: ReviewTicket | Refusal) -> AskAnswer:
    if isinstance(outcome, Refusal):
        return AskAnswer(refusal=outcome)
    return AskAnswer(ticket=outcome)


def run_answer(outcome: RunPass | Refusal) -> RunAnswer:
    if isinstance(outcome, Refusal):
        return RunAnswer(refusal=outcome)
    return RunAnswer(run=outcome)


def notice_line(notice: Notice | None) -> bytes:
    """The line, with its end, of a notice or (None) of a heartbeat."""
    minted = notice if isinstance(notice, GrantMinted) else None
    ended = notice if isinstance(notice, GrantEnded) else None
    decided = notice if isinstance(notice, ReviewDecided) else None
    killed = notice if isinstance(notice, SessionKilled) else None
    return msgspec.json.encode(NoticeLine(minted, ended, decided, killed)) + b"\n"


def renew_question(gate: str, progress: Sequence[Progress]) -> RenewQuestion:
    return RenewQuestion(gate, tuple(progress))


def renew_answer(renewal: Renewal) -> RenewAnswer:
    ended = tuple(end for end in renewal.ends if isinstance(end, GrantEnded))
    killed = tuple(end for end in renewal.ends if isinstance(end, SessionKilled))
    return RenewAnswer(dict(renewal.remaining), ended, killed)


decode_join_question = msgspec.json.Decoder(JoinQuestion).decode
decode_renewal_question = msgspec.json.Decoder(RenewalQuestion).decode
decode_identity_answer = msgspec.json.Decoder(IdentityAnswer).decode
decode_client_ca_answer = msgspec.json.Decoder(ClientCaAnswer).decode
decode_knock = msgspec.json.Decoder(Knock).decode
decode_admit_answer = msgspec.json.Decoder(AdmitAnswer).decode
decode_login_answer = msgspec.json.Decoder(LoginAnswer).decode
decode_renew_question = msgspec.json.Decoder(RenewQuestion).decode
decode_renew_answer = msgspec.json.Decoder(RenewAnswer).decode
decode_hold_question = msgspec.json.Decoder(HoldQuestion).decode
decode_close_question = msgspec.json.Decoder(CloseQuestion).decode
decode_ask_question = msgspec.json.Decoder(AskQuestion).decode
decode_ask_answer = msgspec.json.Decoder(AskAnswer).decode
decode_run_question = msgspec.json.Decoder(RunQuestion).decode
decode_run_answer = msgspec.json.Decoder(RunAnswer).decode
decode_finish_question = msgspec.json.Decoder(FinishQuestion).decode
decode_withdraw_question = msgspec.json.Decoder(WithdrawQuestion).decode
decode_held = msgspec.json.Decoder(HeldAnswer).decode
decode_notice_line = msgspec.json.Decoder(NoticeLine).decode
encode = msgspec.json.encode
