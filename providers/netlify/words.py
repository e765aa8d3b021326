"""Netlify's words, and what they mean for a build. A word that is not here is not final, and is passed on as it is.

`ready` says that a deploy can be reached under its own address; whether the site serves it is told by the site.
A build that was canceled or that had nothing to do ends as `error`, too: its message tells them apart.
"""

import re

from domain.errors import ErrorCode
from domain.result import Failure
from providers.base import BuildStage
from providers.http import link, plain
from providers.netlify.calls import Deploy
from providers.verdict import Verdict

READY = "ready"

STAGES: dict[str, BuildStage] = {
    "new": "initializing",
    "pending_review": "initializing",
    "accepted": "initializing",
    "enqueued": "initializing",
    "retrying": "initializing",
    "building": "building",
    "uploading": "building",
    "uploaded": "building",
    "preparing": "building",
    "prepared": "building",
    "processing": "building",
    "processed": "building",
    READY: "built",
    "error": "failed",
    "rejected": "canceled",
}

WAITING = {
    "new": "it is queued at netlify",
    "pending_review": "somebody has to accept it at netlify",
    "accepted": "it is queued at netlify",
    "enqueued": "it is queued at netlify",
    "retrying": "netlify tries it again",
}
"""Why netlify lets a deploy wait."""

MILESTONES: tuple[tuple[str, str], ...] = (
    ("build", "netlify builds it"),
    ("deploy", "netlify takes over what was built"),
)
"""What is told of the way, each once. Who comes to the second has passed the first, seen or not."""

_PASSED = {"building": 1, **dict.fromkeys(("uploading", "uploaded", "preparing", "prepared"), 2)}
_PASSED |= dict.fromkeys(("processing", "processed", READY), 2)

_STAGE = re.compile(r"failed during stage '([^']{1,80})':\s*", re.IGNORECASE)
_CANCELED = re.compile(r"(?:the |this )?(?:build |deploy )?(?:was |has been )?cancell?ed\b|skipped\.?$", re.IGNORECASE)
"""How such a message begins."""


def verdict(deploy: Deploy) -> Verdict:
    word = plain(deploy.state or "", 60)
    if deploy.skipped or (word == "error" and _says_canceled(deploy)) or STAGES.get(word) == "canceled":
        return Verdict("canceled", word, failure=_canceled(deploy, word))
    if word not in STAGES:
        return Verdict("initializing", word, f"netlify says {word!r}")
    failure = _failed(deploy) if word == "error" else None
    return Verdict(STAGES[word], word, WAITING.get(word), failure)


def gone(build_id: str) -> Verdict:
    message = f"netlify has no deploy {build_id[:80]!r} any more"
    return Verdict("failed", failure=Failure(code=ErrorCode.BUILD_FAILED, message=message, hint="deploy again"))


def passed(deploy: Deploy) -> tuple[tuple[str, str], ...]:
    return MILESTONES[: _PASSED.get(deploy.state or "", 0)]


def page_of(deploy: Deploy) -> str | None:
    """Where people see it at Netlify, with its log."""
    return link(f"{deploy.admin_url}/deploys/{deploy.id}")


def _says_canceled(deploy: Deploy) -> bool:
    said = deploy.error_message or ""
    stage = _STAGE.match(said)
    return bool(_CANCELED.match(said, stage.end() if stage else 0))


def _canceled(deploy: Deploy, word: str) -> Failure:
    if word == "rejected":
        message = "somebody refused the deploy at netlify"
    elif deploy.skipped:
        message = "netlify skipped the build"
    else:
        message = "the deploy was canceled at netlify"
    said = plain(deploy.error_message or "")
    return _failure(deploy, ErrorCode.CANCELED, f"{message}: {said}" if said else message)


def _failed(deploy: Deploy) -> Failure:
    message = plain(deploy.error_message or "") or "netlify says error without saying why"
    return _failure(deploy, ErrorCode.BUILD_FAILED, message)


def _failure(deploy: Deploy, code: ErrorCode, message: str) -> Failure:
    stage, page = _STAGE.match(deploy.error_message or ""), page_of(deploy)
    return Failure(
        code=code,
        message=message,
        phase=plain(stage[1], 60) if stage else None,
        hint=f"see {page}" if page else None,
    )
