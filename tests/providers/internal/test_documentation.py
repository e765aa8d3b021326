"""`docs/internal-provider.md` says what the code does."""

from pathlib import Path

from providers.internal.limits import Limits
from providers.internal.presets import PRESETS, Preset

PAGE = Path(__file__).parents[3] / "docs" / "internal-provider.md"


def test_the_table_of_frameworks_is_that_of_the_code() -> None:
    shown = PAGE.read_text().split("|---|---|---|---|\n")[1].split("<!-- end of presets -->")[0]

    assert shown == presets_table()


def test_the_table_of_limits_is_that_of_the_code() -> None:
    assert limits_table() in PAGE.read_text()


def presets_table() -> str:
    return "".join(_row(preset) for preset in PRESETS)


def _row(preset: Preset) -> str:
    dependency = f"`{preset.dependency}` in package.json" if preset.dependency else ""
    files = ", ".join(f"`{file}`" for file in preset.files) if preset.packages or not dependency else ""
    by = " or ".join(part for part in (dependency, files) if part) or "everything else"
    build = f"`{preset.build}`" if preset.build else "its `build` script" if preset.language == "node" else "nothing"
    outputs = ", ".join(f"`{output}`" for output in preset.outputs if output != ".") or "as below"
    tool = f" (with {preset.tool} on the builder)" if preset.tool else ""
    return f"| `{preset.name}` | {by} | {build}{tool} | {outputs} |\n"


def limits_table() -> str:
    limits = Limits()
    rows = [
        ("checkout, packages, temporary files and output", _size(limits.workspace_bytes), "ends as `failed`"),
        ("memory of all processes, and the heap of each", _size(limits.memory_bytes), "ends as `failed`"),
        ("processes at once", f"{limits.processes:,}", "ends as `failed`"),
        ("a single file", _size(limits.file_bytes), "the write fails"),
        ("CPU seconds of a process", f"{limits.cpu_seconds:,}", "the process is killed"),
        ("output", f"{_size(limits.output_bytes)}, {limits.output_files:,} files", "ends as `failed`"),
        (
            "log",
            f"{_size(limits.log_bytes)}, {limits.log_lines:,} lines",
            "its middle is replaced by a line that counts what was left out",
        ),
        ("a line of it", _size(limits.line_bytes), "it is cut, and says by how much"),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _size(count: int) -> str:
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= size:
            return f"{count // size} {unit}"
    return f"{count} bytes"
