"""Real lines of real tools get the level that they speak of; everything else stays without one."""

import pytest

from domain.log import LogLevel
from domain.log_levels import level_of
from domain.log_meaning import Meaning
from domain.masking import Mask
from tests.domain.lines import line

ERRORS = r"""
error: it broke
Error: Cannot find module 'vite'
fatal: not a git repository (or any of the parent directories): .git
fatal error: too many errors emitted, stopping now [-ferror-limit=]
error: no matching function for call to 'f(int)'
error[E0308]: mismatched types
error: could not compile `app` (bin "app") due to 2 previous errors
npm ERR! code ELIFECYCLE
npm error code E404
npm ERR!
error Command failed with exit code 1.
error An unexpected error occurred: "https://registry.example.org/x: not found".
 ERR_PNPM_OUTDATED_LOCKFILE  Cannot install with "frozen-lockfile" because pnpm-lock.yaml is not up to date
ERROR: Could not find a version that satisfies the requirement nothing-here==1.0 (from versions: none)
ERROR: failed to solve: process "/bin/sh -c npm ci" did not complete successfully: exit code: 1
#12 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 2
#9 2.345 npm ERR! code 1
src/main.c:12:5: error: expected ';' before 'return'
src/main.c:3:10: fatal error: foo.h: No such file or directory
include/my file.h:3: error: unknown type name 'x'
/usr/bin/ld: main.o:main.c:(.text+0x5): undefined reference to `f'
/usr/bin/ld: /tmp/cc.o: undefined reference to symbol 'sin@@GLIBC_2.2.5'
collect2: error: ld returned 1 exit status
clang: error: linker command failed with exit code 1 (use -v to see invocation)
src/app.ts(1,2): error TS2322: Type 'string' is not assignable to type 'number'.
src/app.ts:1:2 - error TS2322: Type 'string' is not assignable to type 'number'.
Program.cs(12,5): error CS1002: ; expected [/src/app.csproj]
main.c(3): fatal error C1083: Cannot open include file: 'x.h'
Found 2 errors in 1 file (checked 12 source files)
  3:10  error  'x' is defined but never used  no-unused-vars
✖ 3 problems (2 errors, 1 warning)
ERROR in ./src/index.js
 ERROR  Failed to compile with 1 error
[ERROR] Failed to execute goal org.apache.maven.plugins:maven-compiler-plugin:3.11.0:compile
2024-05-01 12:00:00,123 ERROR worker: lost
2024-05-01T12:00:00Z [error] nothing to serve
[12:00:01] TypeError: gulp.src(...).pipe is not a function
Traceback (most recent call last):
ModuleNotFoundError: No module named 'yaml'
requests.exceptions.ConnectionError: HTTPSConnectionPool
AssertionError
java.lang.NullPointerException: Cannot invoke "String.length()"
Exception in thread "main" java.lang.IllegalStateException
Caused by: java.net.ConnectException: Connection refused
E   assert 1 == 2
E       ModuleNotFoundError: No module named 'x'
FAILED tests/test_a.py::test_b - assert 1 == 2
ERROR tests/test_a.py - ImportError
tests/test_a.py::test_b FAILED                                           [ 50%]
=================================== FAILURES ===================================
========================= 2 failed, 3 passed in 0.12s ==========================
FAIL: test_upper (test_strings.TestStrings.test_upper)
FAILED (failures=1, errors=2)
FAIL src/app.test.js
Tests:       1 failed, 2 passed, 3 total
--- FAIL: TestAdd (0.00s)
FAIL	example.org/m/add	0.003s
panic: runtime error: index out of range [3] with length 3
./main.go:5:2: undefined: fmt.Printn
thread 'main' panicked at src/main.rs:2:5:
test tests::adds ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
make: *** [Makefile:3: all] Error 2
make[2]: *** No rule to make target 'x.c', needed by 'x.o'.  Stop.
CMake Error at CMakeLists.txt:3 (find_package):
FAILED: CMakeFiles/app.dir/main.cpp.o
ninja: build stopped: subcommand failed.
FAILURE: Build failed with an exception.
> Task :app:compileKotlin FAILED
BUILD FAILED in 3s
e: file:///src/Main.kt:3:5 Unresolved reference: x
E: Unable to locate package nothing-here
Err:3 http://archive.example.org jammy InRelease
sh: 1: vite: not found
/bin/sh: ./run.sh: Permission denied
bash: line 1: hugo: command not found
"""

WARNINGS = r"""
warning: unused variable: `x`
Warning: React does not recognize the `foo` prop
WARNING: Running pip as the 'root' user can result in broken permissions
npm warn deprecated inflight@1.0.6: This module is not supported
npm WARN EBADENGINE Unsupported engine {
warning package.json: No license field
warning "eslint > foo@1" has unmet peer dependency "bar"
warning eslint > file-entry-cache > flat-cache@1.3.4: no longer maintained
 WARN  deprecated har-validator@5.1.5: this library is no longer supported
WARNING in ./src/index.js
[WARNING] The requested profile "x" could not be activated because it does not exist.
[WARN] old
src/main.c:12:5: warning: unused variable 'x' [-Wunused-variable]
src/app.cs(12,5): warning CS0168: The variable 'e' is declared but never used
  3:10  warning  Unexpected console statement  no-console
ld: warning: directory not found for option '-L/x'
/app/a.py:12: DeprecationWarning: the imp module is deprecated
(node:123) [DEP0040] DeprecationWarning: The `punycode` module is deprecated.
(node:123) ExperimentalWarning: The Fetch API is an experimental feature.
CMake Warning at CMakeLists.txt:3 (message):
w: file:///src/Main.kt:3:5 Variable 'x' is never used
W: Some index files failed to download.
#7 1.234 warning: old
2024-05-01T12:00:00.123Z WARN slow
"""

DEBUG = """
debug: cache miss
DEBUG worker started
[DEBUG] Reading toolchains
[2024-05-01 12:00:00] DEBUG x
"""

NOTHING = """
0 errors
no warnings
errors: 0
error: 0
Error: 0 found
warning: 0
error-handler.js built
dist/assets/error-4f3a.js   1.2 kB
error pages written
Errors will be reported to the console
0 errors and 0 warnings potentially fixable with the `--fix` option.
cc -Wall -Werror -c main.c
gcc -o error.o -c error.c
checking for error_at_line... yes
Compiling thiserror v1.0.50
Installing collected packages: exceptiongroup, pytest-error-for-skips
Successfully installed exceptiongroup-1.2.0
copying build/lib/errors.py -> dist
[INFO] BUILD SUCCESS
[INFO] Tests run: 12, Failures: 0, Errors: 0, Skipped: 0
ERROR_LOG=/dev/null
ERRORS
Tests: 12 passed, 12 total
========================= 3 passed, 1 warning in 0.12s =========================
=========================== short test summary info ============================
tests/test_errors.py::test_that_error_is_raised PASSED                   [ 50%]
ok  	example.org/m/error	0.003s
--- PASS: TestError (0.00s)
=== RUN   TestFailure
test errors::fails ... ok
test result: ok. 12 passed; 0 failed; 0 ignored
make[1]: Entering directory '/src'
make: Nothing to be done for 'all'.
added 120 packages, and audited 121 packages in 3s
found 0 vulnerabilities
Found 0 errors. Watching for file changes.
✔ no problems
    at Object.error (/app/index.js:3:5)
    main_test.go:12: fine
Everything failed over to the second region, as it should
The warning was removed
Retrying after error (1 of 3)
fatalistic
panicky
debugging is off
trace-mapping@0.3.9
make-dir@3.1.0
W
E
error
#5 0.123 added 5 packages
Get:1 http://archive.example.org jammy InRelease [270 kB]
"""


def samples(block: str) -> list[str]:
    return block.strip("\n").split("\n")


@pytest.mark.parametrize("text", samples(ERRORS))
def test_an_error_is_recognised(text: str) -> None:
    assert level_of(text) == LogLevel.ERROR
    assert level_of(f"\x1b[31m{text}\x1b[0m") == LogLevel.ERROR


@pytest.mark.parametrize("text", samples(WARNINGS))
def test_a_warning_is_recognised(text: str) -> None:
    assert level_of(text) == LogLevel.WARN


@pytest.mark.parametrize("text", samples(DEBUG))
def test_debugging_is_recognised(text: str) -> None:
    assert level_of(text) == LogLevel.DEBUG


@pytest.mark.parametrize("text", samples(NOTHING))
def test_a_line_that_only_speaks_of_errors_has_no_level(text: str) -> None:
    assert level_of(text) is None


def test_the_look_over_all_lines_together_finds_each_of_them() -> None:
    texts = [text for block in (ERRORS, NOTHING, WARNINGS, DEBUG) for text in samples(block)]
    texts += [f"\x1b[1;31m{text}" for text in texts] + [f"#3 1.25 {text}" for text in samples(ERRORS)]
    read = Meaning(Mask([])).read([line(text) for text in texts])
    assert [found.level for found in read] == [level_of(text) for text in texts]


@pytest.mark.parametrize(
    "evil", [" ", "=", "1", "a:", "::", "A.", "(", "(1,", "sh: ", "a/", "\x1b[1m", "#1 1.1 ", "= 1 "]
)
def test_a_hostile_line_is_looked_at_no_longer_than_others(evil: str) -> None:
    """Would take minutes if a pattern tried again and again."""
    for end in ("", " error", " failed", "::x FAILE", " =", "Erro"):
        for _ in range(200):
            level_of(evil * 30_000 + end)
            level_of((evil * 400)[: 390 - len(end)] + end)
