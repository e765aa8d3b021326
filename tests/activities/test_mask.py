"""Secret values never reach the log."""

from datetime import UTC, datetime

import pytest

from activities.mask import Mask
from domain.log import LogLine


@pytest.mark.parametrize(
    ("secrets", "text", "shown"),
    [
        (["s3cret-value"], "token=s3cret-value;", "token=***;"),
        (["s3cret-value", "s3cret-value-2"], "s3cret-value-2", "***"),
        (["-----BEGIN-----\nMIIEpAIBAAK\n-----END-----"], "key: MIIEpAIBAAK", "key: ***"),
        (["a.c*e+[x"], "a.c*e+[x and abcce", "*** and abcce"),
        (["short"], "short words stay readable", "short words stay readable"),
        ([], "nothing to hide", "nothing to hide"),
    ],
)
def test_a_value_is_masked_wherever_it_stands(secrets: list[str], text: str, shown: str) -> None:
    line = LogLine(timestamp=datetime.now(UTC), message=text)
    assert Mask(secrets).lines([line])[0].message == Mask(secrets).text(text) == shown
