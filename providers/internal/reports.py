"""Figures of tests and coverage from the files that test tools leave: JUnit XML, Cobertura, lcov.

Rule: these files were written by a build, which nobody trusts: no DTD, no entities, caps on size and number. One that
is refused becomes a warning; it never fails a build.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from junitparser import TestCase
from junitparser.junitparser import JUnitXmlError

from domain.result import DeploymentWarning
from providers.internal.limits import MIB

_LARGEST = 10 * MIB
_MOST = 50
_NEVER = frozenset({".git", "node_modules", "venv", ".venv"})
_TESTS = re.compile(r"(.*[-_.])?(junit|tests?|results?|reports?)([-_.].*)?\.xml|TEST-.*\.xml", re.IGNORECASE)
_COVERAGE = re.compile(r"(.*[-_.])?(coverage|cobertura)([-_.].*)?\.xml", re.IGNORECASE)
_LCOV = re.compile(r"lcov\.info|.*\.lcov", re.IGNORECASE)
_TEST_ROOTS = frozenset({"testsuite", "testsuites"})


@dataclass
class Figures:
    tests_passed: int = 0
    tests_failed: int = 0
    lines_covered: float = 0
    lines_valid: float = 0
    rates: list[float] = field(default_factory=list)
    warnings: list[DeploymentWarning] = field(default_factory=list)

    @property
    def coverage(self) -> float | None:
        """Percent of lines; the mean of rates where reports do not say how many lines there are."""
        if self.lines_valid:
            return round(100 * self.lines_covered / self.lines_valid, 2)
        return round(100 * sum(self.rates) / len(self.rates), 2) if self.rates else None


def read_reports(workspace: Path) -> Figures:
    figures = Figures()
    for number, path in enumerate(_reports(workspace)):
        if number == _MOST:
            figures.warnings.append(
                DeploymentWarning(message=f"more than {_MOST} reports of tests: the others are not read")
            )
            break
        try:
            _read(path, figures)
        except (DefusedXmlException, ParseError, JUnitXmlError, ValueError, TypeError, OSError) as problem:
            name = str(path.relative_to(workspace))[:200]
            reason = str(problem)[:200] or type(problem).__name__
            figures.warnings.append(DeploymentWarning(message=f"the report {name!r} is not read: {reason}"))
    return figures


def _reports(workspace: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(workspace):
        names[:] = sorted(set(names) - _NEVER)
        for file in sorted(files):
            path = Path(directory, file)
            if (_TESTS.fullmatch(file) or _COVERAGE.fullmatch(file) or _LCOV.fullmatch(file)) and _plain(path):
                yield path


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _read(path: Path, figures: Figures) -> None:
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST:,} bytes")
    if _LCOV.fullmatch(path.name):
        _read_lcov(path.read_text(encoding="utf-8", errors="replace"), figures)
        return
    root = fromstring(path.read_bytes(), forbid_dtd=True)
    if root.tag in _TEST_ROOTS:
        _read_tests(root, figures)
    elif root.tag == "coverage" and "line-rate" in root.attrib:
        _read_coverage(root, figures)


def _read_tests(root: Element, figures: Figures) -> None:
    """Counts the cases; what a suite's attributes claim is not asked."""
    for case in map(TestCase.fromelem, root.iter("testcase")):
        figures.tests_passed += case.is_passed
        figures.tests_failed += case.is_failure or case.is_error


def _read_coverage(root: Element, figures: Figures) -> None:
    valid = _count(root.get("lines-valid"))
    if valid:
        figures.lines_valid += valid
        figures.lines_covered += min(valid, _count(root.get("lines-covered")))
    else:
        figures.rates.append(min(1.0, max(0.0, float(root.get("line-rate", "")))))


def _read_lcov(text: str, figures: Figures) -> None:
    """`LF` is how many lines a file has that could be covered, `LH` how many were."""
    figures.lines_valid += sum(map(_count, re.findall(r"^LF:(\d{1,9})$", text, re.MULTILINE)))
    figures.lines_covered += sum(map(_count, re.findall(r"^LH:(\d{1,9})$", text, re.MULTILINE)))


def _count(text: str | None) -> int:
    return int(text) if text and re.fullmatch(r"\d{1,9}", text) else 0
