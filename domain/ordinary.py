"""Which values are in too many honest words to be masked: a log in which `production` reads `***` helps nobody.

Rule: the list is plain words of build output. What is not in here is masked, however weak a secret it is.
"""

import re
from collections.abc import Mapping

MIN_LENGTH = 6

_WORDS = """
    administrator anonymous application artifact artifacts assets backend branch browser builder building bundle cached
    caching checkout client cluster commit compile compiled complete completed config configuration console container
    content create created current custom database default defaults delete deleted deploy deployed deployment
    deployments deprecated develop developer development directory disable disabled docker dockerfile domain download
    element enable enabled engine english environment errors example example.com express export external failed failure
    feature fetching filename finished folder framework frontend function functions gateway github github.com gitlab
    global google gradle handler hostname images import inactive index.html index.js inherit inline install installed
    installing integer integration internal invalid javascript jenkins kubernetes latest library license linux
    localhost localhost.localdomain logger logging machine main.js manual master message method middleware minify
    missing mobile module modules mongodb native netlify network nextjs nobody node_modules nodejs normal notice nothing
    number object offline online optional options output outputs package package.json packages params passed password
    passwords pending pipeline platform plugin plugins policy postgres postgresql prefix preprod preview primary private
    process prod production profile program project projects promise protected provider public python python3 readme.md
    readonly redirect region registry relative release releases remote repository request require required resource
    response result results router runner running runtime sample sandbox schema script scripts secret secrets section
    server server.js service services session settings shared single skipped source sources sqlite stable staging
    standalone standard started starting static status storage stream string strict success successful successfully
    support symbol system target template tenant testing timeout tokens tracing trigger typescript ubuntu undefined
    unknown unstable update updated upgrade upload username utf-8 utils.js values variable vercel verbose verify version
    versions vulnerabilities warning warnings webpack website window windows worker workers workflow working workspace
    ap-south-1 ap-southeast-1 eu-central-1 eu-north-1 eu-west-1 eu-west-2 us-east-1 us-east-2 us-west-1 us-west-2
    123456789 1234567890 application/json text/html text/plain en_us.utf-8 europe/berlin europe/london
"""
_ORDINARY = frozenset(_WORDS.split())

_SHAPES = re.compile(
    "|".join(
        (
            r"[+-]?\d{1,8}",  # plain numbers: sizes, durations, dates
            r"\d{1,3}(?:,\d{3})+",
            r"v?\d{1,5}(?:\.\d{1,5}){1,4}",  # versions, addresses
            r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d",
            r"(?:https?://)?(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\])(?::\d{1,5})?/?",
            r"https?://[a-z-]{1,20}(?:\.[a-z-]{1,20}){1,3}/?",
            r"(?:\.{0,2}|~|[a-z]:)(?:[/\\][a-z._-]{1,16}){1,6}[/\\]?",  # paths of plain words
            r"/[a-z/_-]{1,40}(?::/[a-z/_-]{1,40})+",  # PATH
        )
    ),
    re.IGNORECASE,
)


def unmasked_reason(value: str) -> str | None:
    """Why a value will not be masked; None when it will."""
    value = value.strip()
    if len(value) < MIN_LENGTH:
        return f"shorter than {MIN_LENGTH} characters"
    one_character = len(set(value) - {" "}) == 1
    ordinary = one_character or value.casefold() in _ORDINARY or _SHAPES.fullmatch(value)
    return "too ordinary" if ordinary else None


def unmasked_warnings(secrets: Mapping[str, str | None]) -> list[str] | None:
    """A sentence for each secret that will not be masked, with its name alone; None when there is none."""
    reasons = {name: unmasked_reason(value) for name, value in sorted(secrets.items()) if value is not None}
    warnings = [f"secret {name} will not be masked in logs: it is {why}" for name, why in reasons.items() if why]
    return warnings or None
