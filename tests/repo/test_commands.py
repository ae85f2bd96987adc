"""What the documents tell people to type is what exists."""

from __future__ import annotations

import ast
import re

MAIN_JOB = 'pip install "nox[uv]" && nox -s demo'
TESTS = 'pip install "nox[uv]" && nox -s tests'


def test_the_readme_has_the_two_commands_on_lines_of_their_own(root):
    lines = [line.strip() for line in (root / "README.md").read_text("utf-8").splitlines()]
    assert [line for line in lines if line.startswith("pip install") and "nox" in line] == [
        MAIN_JOB,
        TESTS,
    ]


def test_ci_runs_the_command_of_the_readme(root):
    steps = re.findall(r"^run '(.+)'$", (root / ".ci" / "run").read_text("utf-8"), re.M)
    assert steps[0] == TESTS
    named = {name for step in steps for name in _sessions_named(step)}
    style, separate = {"lint", "types"}, {"together", "guard", "alone", "built", "external"}
    assert named == {"tests", "parity"} | style | separate


def test_documents_and_ci_name_sessions_that_exist(root):
    defined = _sessions_defined((root / "noxfile.py").read_text("utf-8"))
    files = ["README.md", "CONTRIBUTING.md", ".ci/run"]
    for file in files:
        named = _sessions_named((root / file).read_text("utf-8"))
        assert named, file
        assert named <= defined, file


def test_ci_is_executable(root):
    assert (root / ".ci" / "run").stat().st_mode & 0o111


def _sessions_named(text: str) -> set[str]:
    found = re.findall(r"nox -s ([a-z]+(?: [a-z]+)*)", text)
    return {name for group in found for name in group.split()}


def _sessions_defined(source: str) -> set[str]:
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if any(map(_is_session, node.decorator_list))}


def _is_session(decorator: ast.expr) -> bool:
    return "nox.session" in ast.unparse(decorator)
