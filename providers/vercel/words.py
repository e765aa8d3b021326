"""Vercel's words, and what they mean for a build. A word that is not here is not final, and is passed on as it is.

READY is not live: the build is done once its domains are assigned, or once it waits to be promoted (STAGED).
"""

from collections.abc import Callable

from domain.errors import ErrorCode
from domain.result import Failure
from providers.base import BuildStage
from providers.http import link, plain
from providers.vercel.calls import Deployment
from providers.verdict import Verdict

STAGES: dict[str, BuildStage] = {
    "QUEUED": "initializing",
    "INITIALIZING": "initializing",
    "ANALYZING": "initializing",
    "BLOCKED": "initializing",
    "BUILDING": "building",
    "DEPLOYING": "building",
    "READY": "building",
    "ERROR": "failed",
    "DELETED": "failed",
    "CANCELED": "canceled",
}


def _always(_: Deployment) -> bool:
    return True


WAITING: tuple[tuple[str, Callable[[Deployment], bool], str], ...] = (
    ("QUEUED", lambda d: d.is_in_concurrent_builds_queue, "all concurrent builds of the account are in use at vercel"),
    ("QUEUED", lambda d: d.is_in_system_builds_queue, "vercel has queued it for want of builders"),
    ("QUEUED", _always, "it is queued at vercel"),
    ("INITIALIZING", lambda d: _provisioning(d) == "PENDING", "it waits at vercel to be provisioned by hand"),
    ("BLOCKED", _always, "vercel blocks it until somebody allows it"),
    ("READY", lambda d: d.ready_substate == "ROLLING", "a rolling release is under way at vercel"),
    ("READY", lambda d: d.checks_state in {"registered", "running"}, "vercel waits for the deployment's checks"),
    ("READY", _always, "vercel assigns the domains"),
)
"""Why vercel lets a deployment wait; the first that fits."""

NOT_LIVE: tuple[tuple[Callable[[Deployment], bool], str], ...] = (
    (lambda d: d.alias_error is not None, "vercel could not assign the domains"),
    (lambda d: d.checks_conclusion == "failed", "a check of the deployment has failed at vercel"),
    (lambda d: _check(d) == "failed", "vercel's check of the domains has failed"),
)
"""Why a build that is well does not go live."""


def verdict(deployment: Deployment) -> Verdict:
    word = plain(deployment.word, 60)
    if word == "READY":
        failure = _not_live(deployment)
        if failure:
            return Verdict("failed", word, failure=failure)
        if _is_done(deployment):
            return Verdict("built", _step(deployment))
    stage = STAGES.get(word, "failed" if word.endswith("_ERROR") else "initializing")
    failure = _failed(deployment) if stage == "failed" else _canceled(deployment) if stage == "canceled" else None
    return Verdict(stage, _step(deployment), _waiting(deployment, word), failure)


def gone(build_id: str) -> Verdict:
    message = f"vercel has no deployment {build_id[:80]!r} any more"
    return Verdict("failed", failure=Failure(code=ErrorCode.BUILD_FAILED, message=message, hint="deploy again"))


def _is_done(deployment: Deployment) -> bool:
    return deployment.ready_substate == "STAGED" or (
        bool(deployment.alias_assigned) and deployment.ready_substate != "ROLLING"
    )


def _step(deployment: Deployment) -> str:
    return plain("/".join(part for part in (deployment.word, deployment.ready_substate) if part), 60)


def _waiting(deployment: Deployment, word: str) -> str | None:
    if word not in STAGES:
        return f"vercel says {word!r}"
    found = next((text for of, fits, text in WAITING if of == word and fits(deployment)), None)
    why = deployment.seat_block.block_code if deployment.seat_block else deployment.ready_state_reason
    return f"{found} ({plain(why)})" if found and why else found


def _not_live(deployment: Deployment) -> Failure | None:
    found = next((text for fits, text in NOT_LIVE if fits(deployment)), None)
    if found is None:
        return None
    why = f": {plain(str(deployment.alias_error))}" if deployment.alias_error else ""
    return _failure(deployment, ErrorCode.DEPLOY_FAILED, found + why, "the build itself is well; promote it at vercel")


def _failed(deployment: Deployment) -> Failure:
    said = " ".join(part for part in (deployment.error_code, deployment.error_message) if part)
    message = plain(said) or f"vercel says {deployment.word} without saying why"
    hint = "the build ran out of memory" if deployment.oom_report else None
    return _failure(deployment, ErrorCode.BUILD_FAILED, message, hint)


def _canceled(deployment: Deployment) -> Failure:
    message = plain(deployment.error_message or "") or "the deployment was canceled at vercel"
    return _failure(deployment, ErrorCode.CANCELED, message, None)


def _failure(deployment: Deployment, code: ErrorCode, message: str, hint: str | None) -> Failure:
    inspector = link(deployment.inspector_url)
    hints = "; ".join(part for part in (hint, inspector and f"see {inspector}") if part)
    phase = plain(deployment.error_step, 60) if deployment.error_step else None
    return Failure(code=code, message=message, phase=phase, hint=hints or None)


def _check(deployment: Deployment) -> str | None:
    check = deployment.checks.get("deployment-alias")
    return check.state if check else None


def _provisioning(deployment: Deployment) -> str | None:
    return deployment.manual_provisioning.state if deployment.manual_provisioning else None
