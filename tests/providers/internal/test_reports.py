"""Figures from test and coverage reports, hostile ones among them."""

import time
from pathlib import Path

import pytest

from providers.internal.reports import read_reports

LAUGHS = '<!DOCTYPE x [<!ENTITY a "haha">' + "".join(f'<!ENTITY a{n} "{"&a;" * 10}">' for n in range(9)) + "]>"
HOSTILE = {
    "xxe": '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><testsuite><testcase name="&f;"/></testsuite>',
    "laughs": LAUGHS + "<testsuite><testcase name='&a8;'/></testsuite>",
    "dtd": '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><testsuite/>',
    "broken": "<testsuite><testcase>",
    "empty": "",
    "binary": "\0\1\2",
    "large": "<testsuite name='" + "x" * (11 * 1024 * 1024) + "'/>",
}


def write(workspace: Path, **files: str) -> None:
    for name, text in files.items():
        path = workspace / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_cases_are_counted_over_all_suites_and_files(tmp_path: Path) -> None:
    nested = """<testsuites tests="99"><testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>
    <testsuite><testcase name="c"><error/></testcase><testcase name="d"><skipped/></testcase></testsuite>
    </testsuite></testsuites>"""
    write(tmp_path, junit_dot_xml=nested, reports__TEST_dot_xml="<testsuite><testcase name='e'/></testsuite>")

    figures = read_reports(tmp_path)

    assert (figures.tests_passed, figures.tests_failed, figures.warnings) == (2, 2, [])


def test_coverage_is_over_all_lines(tmp_path: Path) -> None:
    cobertura = '<coverage line-rate="0.5" lines-valid="10" lines-covered="5"/>'
    write(tmp_path, coverage_dot_xml=cobertura, coverage__lcov_dot_info="LF:30\nLH:30\n")

    assert read_reports(tmp_path).coverage == 87.5


def test_a_rate_alone_will_do(tmp_path: Path) -> None:
    write(tmp_path, cobertura_dot_xml='<coverage line-rate="0.25"/>')

    assert read_reports(tmp_path).coverage == 25.0


def test_without_reports_there_is_no_coverage(tmp_path: Path) -> None:
    write(tmp_path, sitemap_dot_xml="<urlset/>", node_modules__x__junit_dot_xml="<testsuite><testcase/></testsuite>")

    figures = read_reports(tmp_path)

    assert (figures.tests_passed, figures.tests_failed, figures.coverage, figures.warnings) == (0, 0, None, [])


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_xml_is_refused_at_once_with_a_warning(tmp_path: Path, kind: str) -> None:
    write(tmp_path, junit_dot_xml=HOSTILE[kind])

    began = time.monotonic()
    figures = read_reports(tmp_path)

    assert time.monotonic() - began < 1
    assert (figures.tests_passed, figures.tests_failed) == (0, 0)
    assert [warning.message.startswith("the report 'junit.xml' is not read") for warning in figures.warnings] == [True]
    assert "root:" not in figures.warnings[0].message


def test_deep_nesting_is_survived(tmp_path: Path) -> None:
    write(tmp_path, junit_dot_xml="<testsuite>" * 100_000 + "<testcase/>" + "</testsuite>" * 100_000)

    assert read_reports(tmp_path).tests_passed in {0, 1}


def test_links_are_not_followed_and_the_number_is_capped(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").symlink_to("/etc/passwd")
    for n in range(60):
        write(tmp_path, **{f"test-{n}_dot_xml": "<testsuite><testcase/></testsuite>"})

    figures = read_reports(tmp_path)

    assert figures.tests_passed == 50
    assert len(figures.warnings) == 1
