"""Signatures and reading of webhooks: what is published verifies and parses, what was altered does not."""

import base64
import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.ids import uuid7
from domain.webhook import Delivery
from providers.webhooks.senders import ALL, BY_NAME, secrets_of
from providers.webhooks.signatures import REPLAY_SECONDS
from tests.providers.signing import PAYLOADS, SECRETS, ZEROS, encoded, github_push, jws, signed

VECTORS: dict[str, Any] = json.loads((PAYLOADS / "signature_vectors.json").read_text())
GITHUB = sorted((PAYLOADS / "github").glob("*.json"))
SENDERS = sorted(SECRETS)
NOW = 1_800_000_000
BODY = encoded({"id": "evt_1", "type": "deployment.ready"})


def verified(sender: str, headers: dict[str, str], body: bytes, *secrets: str, now: float = NOW) -> bool:
    return BY_NAME[sender].verify(headers, body, list(secrets) or [SECRETS[sender]], now)


def read(sender: str, document: Any, headers: dict[str, str] | None = None) -> Delivery:
    return BY_NAME[sender].read(headers or {}, encoded(document), document)


@pytest.mark.parametrize("sender", ["github", "vercel", "netlify"])
def test_the_published_vectors_hold(sender: str) -> None:
    vector = VECTORS[sender]
    headers = {vector["header"].lower(): vector["value"]}
    assert verified(sender, headers, vector["body"].encode(), vector["secret"])
    assert not verified(sender, headers, vector["body"].encode() + b" ", vector["secret"])


def test_the_published_vector_of_standard_webhooks_holds_in_its_time_alone() -> None:
    vector = VECTORS["standard-webhooks"]
    body, secret, moment = vector["body"].encode(), vector["secret"], int(vector["headers"]["webhook-timestamp"])
    for sender in ("custom", "gitlab"):
        assert verified(sender, vector["headers"], body, secret, now=moment + REPLAY_SECONDS)
        assert verified(sender, vector["headers"], body, secret, now=moment - REPLAY_SECONDS)
        assert not verified(sender, vector["headers"], body, secret, now=moment + REPLAY_SECONDS + 1)
        assert not verified(sender, vector["headers"], body, secret, now=moment - REPLAY_SECONDS - 1)


def test_gitlabs_older_token_is_compared_as_it_is() -> None:
    vector = VECTORS["gitlab"]
    assert verified("gitlab", {"x-gitlab-token": vector["value"]}, BODY, vector["secret"])
    assert not verified("gitlab", {"x-gitlab-token": vector["value"] + "x"}, BODY, vector["secret"])
    assert not verified("gitlab", {}, BODY, vector["secret"])
    assert not verified("gitlab", {"x-gitlab-token": SECRETS["gitlab"]}, BODY), "a signing secret is never sent"


@pytest.mark.parametrize("sender", SENDERS)
def test_what_was_altered_by_one_byte_anywhere_is_refused(sender: str) -> None:
    headers = signed(sender, BODY, SECRETS[sender], now=NOW)
    assert verified(sender, headers, BODY)
    chance = random.Random(4)
    told = [name for name in headers if name.startswith(("x-hub", "x-vercel", "x-webhook", "webhook-"))]
    for place in range(len(BODY)):
        assert not verified(sender, headers, BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :])
    for name in told:
        sent = headers[name]
        for place in range(len(sent)):
            other = chance.choice([c for c in "09afAFgz+/=-_., v\u00e9" if c != sent[place]])
            for altered in (sent[:place] + other + sent[place + 1 :], sent[:place] + sent[place + 1 :]):
                assert not verified(sender, {**headers, name: altered}, BODY), (name, altered)
        for altered in ("", sent + "=", sent + "0", sent.upper(), f"{sent}, {sent}", sent + "\n"):
            several = name == "webhook-signature" and " " in altered  # of which one has to hold
            refused = not verified(sender, {**headers, name: altered}, BODY)
            assert refused or several or altered == sent, (name, altered)
        assert not verified(sender, {n: v for n, v in headers.items() if n != name}, BODY)


@pytest.mark.parametrize("sender", SENDERS)
def test_any_other_secret_is_refused_and_one_of_two_is_enough(sender: str) -> None:
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    headers = signed(sender, BODY, SECRETS[sender], now=NOW)
    assert verified(sender, headers, BODY, other, SECRETS[sender])
    assert not verified(sender, headers, BODY, other)
    assert not BY_NAME[sender].verify(headers, BODY, [], NOW)


@pytest.mark.parametrize("sender", ["custom", "github", "gitlab", "vercel"])
def test_an_empty_secret_signs_nothing(sender: str) -> None:
    for empty in ("", "whsec_") if sender in {"custom", "gitlab"} else ("",):
        headers = {**signed(sender, BODY, empty, now=NOW), "x-gitlab-token": ""}
        assert not verified(sender, headers, BODY, empty)


def test_secrets_are_parted_by_commas_and_empty_ones_are_none() -> None:
    assert secrets_of("new, old") == ["new", "old"]
    assert secrets_of(",") == secrets_of("") == secrets_of(None) == []


@pytest.mark.parametrize("algorithm", ["none", "None", "HS384", "HS512", "RS256", ""])
def test_the_algorithm_of_a_jws_is_not_the_senders_choice(algorithm: str) -> None:
    claims = {"iss": "netlify", "sha256": hashlib.sha256(BODY).hexdigest()}
    for token in (jws(claims, SECRETS["netlify"], algorithm), jws(claims, SECRETS["netlify"], algorithm) + "x"):
        assert not verified("netlify", {"x-webhook-signature": token}, BODY)
    assert verified("netlify", {"x-webhook-signature": jws(claims, SECRETS["netlify"])}, BODY)


@pytest.mark.parametrize("change", [{"iss": "other"}, {"iss": None}, {"sha256": None}, {"sha256": 1}, {"exp": 1}])
def test_a_jws_of_another_issuer_or_body_is_refused(change: dict[str, Any]) -> None:
    body_digest = hashlib.sha256(BODY).hexdigest()
    claims = {"iss": "netlify", "sha256": body_digest, **change}
    said = {name: value for name, value in claims.items() if value is not None}
    assert not verified("netlify", {"x-webhook-signature": jws(said, SECRETS["netlify"])}, BODY)


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.stem)
def test_every_published_body_of_github_is_read(path: Any) -> None:
    body = path.read_bytes()
    headers = signed("github", body, SECRETS["github"]) | {"x-github-event": path.stem.partition(".")[0]}
    assert verified("github", headers, body)
    delivery = BY_NAME["github"].read(headers, body, json.loads(body))
    assert delivery.kind.startswith(path.stem.partition(".")[0])
    named = {"workflow_run", "workflow_job", "deployment", "deployment_status"}
    assert bool(delivery.build_ids) == (path.stem.partition(".")[0] in named)
    assert (delivery.push is not None) == path.stem.startswith("push")


def test_runs_of_github_name_the_run_and_what_may_be_our_id() -> None:
    ours = str(uuid7())
    document = json.loads((PAYLOADS / "github/workflow_run.completed.json").read_text())
    document["workflow_run"]["display_title"] = f"Deploy {ours} to production"
    delivery = read("github", document, {"x-github-event": "workflow_run"})
    assert delivery.kind == "workflow_run.completed"
    assert delivery.build_ids == [str(document["workflow_run"]["id"])]
    assert delivery.deployment_ids == [ours]
    job = json.loads((PAYLOADS / "github/workflow_job.queued.json").read_text())
    assert read("github", job).build_ids == [str(job["workflow_job"]["run_id"])]


def test_what_github_does_not_sign_does_not_tell_deliveries_apart() -> None:
    document = github_push("a" * 40, "b" * 40)
    one = read("github", document, {"x-github-delivery": "1", "x-github-event": "push"})
    other = read("github", document, {"x-github-delivery": "2", "x-github-event": "ping"})
    assert one.identity == other.identity
    assert one.push == other.push is not None
    assert other.kind == "push"


def test_pushes_of_github_and_gitlab_say_what_moved() -> None:
    document = json.loads((PAYLOADS / "github/push.with-new-branch.json").read_text())
    push = read("github", document).push
    assert push is not None
    assert (push.repositories, push.branch) == (["github.com/codertocat/hello-world"], "master")
    assert (push.before, push.after, push.sender) == (ZEROS, document["after"], "Codertocat")
    tag = read("github", json.loads((PAYLOADS / "github/push.json").read_text())).push
    assert tag is not None
    assert (tag.branch, tag.deleted) == (None, True)
    gitlab = read("gitlab", json.loads((PAYLOADS / "gitlab/push.json").read_text()), {"idempotency-key": "k"})
    assert (gitlab.identity, gitlab.delivery_id, gitlab.kind) == ("k", "k", "push")
    assert gitlab.push is not None
    assert (gitlab.push.branch, gitlab.push.sender, gitlab.push.message) == ("master", "jsmith", "fixed readme")
    assert gitlab.push.repositories == ["example.com/mike/diaspora"]


def test_hosts_name_the_build_and_what_may_be_our_id() -> None:
    ours = str(uuid7())
    for kind, document in json.loads((PAYLOADS / "vercel/constructed.json").read_text())["events"].items():
        if kind != "deployment.rollback":
            document["payload"]["deployment"]["meta"] = {"anything": ours}
        delivery = read("vercel", document)
        assert (delivery.kind, delivery.identity) == (kind, document["id"])
        assert delivery.build_ids == (["dpl_1", "dpl_2"] if kind == "deployment.rollback" else ["dpl_1"])
        assert delivery.deployment_ids == ([] if kind == "deployment.rollback" else [ours])
    deploy = json.loads((PAYLOADS / "netlify/deploy_succeeded.captured-2020.json").read_text())["body"]
    delivery = read("netlify", {**deploy, "title": f"Headway {ours}"})
    assert delivery.kind == "deploy.ready"
    assert delivery.build_ids == [deploy["id"], deploy["build_id"]]
    assert delivery.deployment_ids == [ours]
    assert read("netlify", deploy).identity != read("netlify", {**deploy, "state": "error"}).identity


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def _hostile(draw: st.DrawFn) -> Any:
    """A published body with any JSON in some places of it."""
    path = draw(st.sampled_from([*GITHUB, PAYLOADS / "gitlab/push.json", PAYLOADS / "vercel/constructed.json"]))
    document = json.loads(path.read_text())
    document = document.get("events", {}).get("deployment.created", document)
    for _ in range(draw(st.integers(1, 4))):
        place = document
        while isinstance(place, dict) and place:
            name = draw(st.sampled_from(sorted(place)))
            if not isinstance(place[name], dict) or draw(st.booleans()):
                place[name] = draw(_JSON)
                break
            place = place[name]
    return document


@settings(max_examples=150, deadline=None)
@given(document=_hostile(), name=st.text(max_size=300))
def test_any_json_is_read_as_something_that_can_be_stored(document: Any, name: str) -> None:
    headers = {"x-github-event": name, "x-github-delivery": name, "webhook-id": name, "idempotency-key": name}
    for sender in ALL:
        delivery = sender.read(headers, b"", document)
        stored = json.dumps(delivery.model_dump(mode="json"), ensure_ascii=False).encode()
        assert b"\\u0000" not in stored
        assert len(stored) < 20_000


@settings(max_examples=150, deadline=None)
@given(value=st.text(max_size=120), body=st.binary(max_size=50))
def test_any_header_is_judged(value: str, body: bytes) -> None:
    names = ("x-hub-signature-256", "x-vercel-signature", "x-webhook-signature", "x-gitlab-token", "webhook-signature")
    headers = dict.fromkeys(names, value) | {"webhook-id": value, "webhook-timestamp": value}
    for sender in SENDERS:
        assert not verified(sender, headers, body)
