"""What an answer to `status` means, by the description's words. A word that is not there is not final, and is shown.

A build whose word means `built` is done once it is live, where the description says how that is seen and the provider
publishes by itself.
"""

from typing import Any

from domain.errors import ErrorCode
from domain.result import Failure
from providers.base import BuildStage
from providers.custom.pointers import at, text_at, word_at
from providers.custom.settings import Settings
from providers.http import Answer, plain
from providers.verdict import Verdict

CODES: dict[BuildStage, ErrorCode] = {
    "failed": ErrorCode.BUILD_FAILED,
    "canceled": ErrorCode.CANCELED,
    "timeout": ErrorCode.TIMEOUT,
}
SAID: dict[BuildStage, str] = {
    "failed": "it failed there, and no reason was said",
    "canceled": "it was canceled there",
    "timeout": "it took longer than is allowed there",
}


def verdict(settings: Settings, answer: Answer, document: Any) -> Verdict:
    """
    Raises:
        DeploymentError: provider-error, when the answer has no status.
    """
    where = settings.requests.status.answer
    word = word_at(document, where.status)
    if word is None:
        raise answer.unusable(f"{where.status or 'the whole'}: no status")
    stage = settings.words.get(word)
    shown = answer.text(word, 60)
    step = answer.text(text_at(document, where.step) or "", 60) or shown
    if stage is None or stage == "initializing":
        return Verdict("initializing", step, f"the provider says {shown!r}")
    if stage == "built" and not is_live(settings, document) and settings.requests.publish is None:
        return Verdict("building", step, "it is built, and the provider has not published it yet")
    return Verdict(stage, step, failure=_failure(stage, answer, text_at(document, where.reason)))


def is_live(settings: Settings, document: Any) -> bool:
    """Also where nobody says how that is seen."""
    pointer = settings.requests.status.answer.live
    return pointer is None or at(document, pointer) is True


def gone(build_id: str) -> Verdict:
    message = f"the provider has no build {plain(build_id, 80)!r} any more"
    return Verdict("failed", failure=Failure(code=ErrorCode.BUILD_FAILED, message=message, hint="deploy again"))


def _failure(stage: BuildStage, answer: Answer, reason: str | None) -> Failure | None:
    if stage not in CODES:
        return None
    message = answer.text(reason) if reason else ""
    return Failure(code=CODES[stage], message=message or SAID[stage], retryable=stage == "timeout")
