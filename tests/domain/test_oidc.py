"""What the claims of a verified token allow, by the operator's rules."""

from typing import Any

import pytest
from pydantic import ValidationError

from domain.errors import DeploymentError, ErrorCode
from domain.oidc import TrustedIssuer
from domain.token import EVERY_PROJECT, GrantedToken, Scope

ISSUER = "https://issuer.example.org"
RULE: dict[str, Any] = {"claims": {"repository": "acme/web"}, "scopes": ["deploy"], "projects": ["web"]}
CLAIMS: dict[str, Any] = {"iss": ISSUER, "sub": "repo:acme/web", "repository": "acme/web"}


def trusted(*rules: dict[str, Any], issuer: str = ISSUER) -> TrustedIssuer:
    return TrustedIssuer(issuer=issuer, audience="headway", rules=[{**RULE, **rule} for rule in rules])


def admitted(*rules: dict[str, Any], **claims: Any) -> GrantedToken | None:
    """None where no rule fits."""
    try:
        return trusted(*rules).admit({**CLAIMS, **claims})
    except DeploymentError as error:
        if "no rule of this service fits" in error.message:
            return None
        raise


@pytest.mark.parametrize(
    ("pattern", "claim", "fits"),
    [
        ("acme/web", "acme/web", True),
        ("acme/web", "acme/web2", False),
        ("acme/web", "ACME/web", False),
        ("acme/*", "acme/web", True),
        ("acme/*", "acme-evil/web", False),
        ("refs/heads/*", "refs/heads/feature/x", True),
        ("refs/heads/release-?", "refs/heads/release-2", True),
        ("dependabot[bot]", "dependabot[bot]", True),
        ("true", True, True),
        ("true", False, False),
        ("1", True, False),
        ("42", 42, True),
        ("42", 42.0, False),
        ("deployers", ["readers", "deployers"], True),
        ("deploy*", ["readers", "deployers"], True),
        ("deployers", ["readers"], False),
        ("deployers", [], False),
        ("deployers", [["deployers"]], False),
        ("*", None, False),
        ("*", {"deployers": 1}, False),
        ("*", "", True),
        ("a", "a\n", False),
    ],
)
def test_a_claim_matches_by_its_value_or_as_a_glob(pattern: str, claim: Any, fits: bool) -> None:
    assert (admitted({"claims": {"x": pattern}}, x=claim) is not None) is fits


def test_all_claims_of_a_rule_have_to_match() -> None:
    rule = {"claims": {"repository": "acme/*", "ref": "refs/heads/main"}}
    assert admitted(rule, ref="refs/heads/main")
    assert not admitted(rule, ref="refs/heads/other")
    assert not admitted(rule)


def test_rules_add_up_and_each_scope_holds_in_the_projects_of_its_own_rules() -> None:
    caller = admitted(
        {"scopes": ["deploy", "approve"], "projects": ["web"]},
        {"scopes": ["read"], "projects": ["*"]},
        {"scopes": ["deploy"], "projects": ["docs"]},
        {"claims": {"repository": "acme/other"}, "scopes": ["admin"], "projects": ["*"]},
    )
    assert caller
    assert caller.scopes == ["approve", "deploy", "read"]
    assert not caller.may(Scope.ADMIN)
    assert caller.within(Scope.DEPLOY).projects == ["docs", "web"]
    assert caller.within(Scope.APPROVE).projects == ["web"]
    assert caller.within(Scope.READ).projects == [EVERY_PROJECT]
    assert not caller.within(Scope.DEPLOY).reaches("other")
    assert caller.within(Scope.READ).within(Scope.DEPLOY).projects == ["docs", "web"]


def test_who_it_is_is_said_by_the_first_rule_that_fits_and_says_so() -> None:
    named = {"subject": "github:{repository}"}
    assert [caller and caller.subject for caller in (admitted({}), admitted({}, named))] == [
        "oidc:repo:acme/web",
        "github:acme/web",
    ]


@pytest.mark.parametrize("actor", [None, "", ["ada"], {"name": "ada"}])
def test_a_rule_does_not_fit_where_its_subject_cannot_be_made(actor: Any) -> None:
    assert admitted({"subject": "{actor}"}, actor=actor) is None


@pytest.mark.parametrize("actor", ["x" * 201, "a\nb", "a\u202eb"])
def test_a_subject_that_cannot_be_shown_is_refused(actor: str) -> None:
    with pytest.raises(DeploymentError, match=r"the subject \{actor\} of this token cannot be used"):
        trusted({"subject": "{actor}"}).admit({**CLAIMS, "actor": actor})


def test_braces_inside_a_claim_are_text() -> None:
    caller = admitted({"subject": "{actor}"}, actor="{sub}{0.__class__}")
    assert caller
    assert caller.subject == "{sub}{0.__class__}"


def test_a_token_that_no_rule_fits_is_told_the_names_of_its_claims_and_no_values() -> None:
    with pytest.raises(DeploymentError) as refused:
        trusted({}).admit({**CLAIMS, "repository": "acme/secret", "a\nb": 1, **{f"z{n}": n for n in range(100)}})
    assert refused.value.code is ErrorCode.INSUFFICIENT_PERMISSIONS
    assert "it has: iss, repository, sub, z0" in refused.value.message
    assert not any(word in refused.value.message for word in ("secret", "\n", "z99"))


def test_a_token_has_the_same_name_each_time_and_another_one_for_another_token() -> None:
    def name(**claims: Any) -> str:
        caller = admitted({}, **claims)
        assert caller
        return caller.id

    assert name() == name(iat=1)
    told = [name(), name(sub="other"), name(jti="1"), name(jti="2"), name(jti="repo:acme/web"), name(iss=ISSUER + "/")]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"claims": {}}, "name at least one claim"),
        ({"claims": {"": "x"}}, "at least 1 character"),
        ({"claims": {"ref": ""}}, "at least 1 character"),
        ({"claims": {"ref": ["main"]}}, "valid string"),
        ({"scopes": []}, "at least 1 item"),
        ({"scopes": ["write"]}, "'read', 'deploy', 'approve' or 'admin'"),
        ({"projects": []}, "at least 1 item"),
        ({"projects": ["Web"]}, "match pattern"),
        ({"subject": ""}, "at least 1 character"),
        ({"subject": "{}"}, "names of claims in braces"),
        ({"subject": "{actor"}, "names of claims in braces"),
        ({"subject": "a\nb"}, "names of claims in braces"),
        ({"scope": ["read"]}, "Extra inputs are not permitted"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        trusted(change)


@pytest.mark.parametrize(
    "issuer",
    [
        "https://token.actions.githubusercontent.com",
        "https://sso.example.org:8443/realms/x/",
        "http://127.0.0.1:9",
        "http://[::1]:9",
        "http://localhost",
    ],
)
def test_an_issuer_is_at_https_or_on_loopback(issuer: str) -> None:
    assert trusted({}, issuer=issuer).issuer == issuer


@pytest.mark.parametrize(
    "issuer",
    [
        *("", "issuer.example.org", "http://issuer.example.org", "http://localhost.example.org", "ftp://x", "https://"),
        *("https://u:p@x", "https://x?a=b", "https://x#y", "https://x:port", "https://x y", "https://x\n", "https://ü"),
        *("https://[::1", "https://x/{a}"),
    ],
)
def test_another_address_of_an_issuer_is_refused(issuer: str) -> None:
    with pytest.raises(ValidationError, match="accepted is https://HOST/PATH"):
        trusted({}, issuer=issuer)
