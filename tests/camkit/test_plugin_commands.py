"""Sub-commands of other distributions: loaded on use, never in the way of the others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from camkit_core import Entry, Registry, UnsafeFileError, hookimpl


def plugin(*entries: Entry) -> ModuleType:
    module = ModuleType("a_plugin")

    @hookimpl
    def camkit_entries() -> list[Entry]:
        return list(entries)

    module.camkit_entries = camkit_entries  # type: ignore[attr-defined]
    return module


def command(name: str, ref: str) -> Entry:
    return Entry(kind="command", name=name, ref=ref, summary=f"What {name} does.")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the command line these plugins."""

    def call(**plugins: ModuleType) -> None:
        registry = Registry(plugins=[*plugins.items()], discover=False)
        monkeypatch.setattr("camkit.cli.app.default_registry", lambda: registry)

    return call


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An importable module with commands."""
    module = ModuleType("some_commands")

    def hello_world(name: str, *, times: int = 1) -> int:
        """Greet somebody.

        Args:
            name: Who is greeted.
            times: How often.
        """
        print(f"hello {name} " * times, file=sys.stderr)
        return 3 if name == "nobody" else 0

    def refuse() -> None:
        """Refuse."""
        raise UnsafeFileError("this file is not safe")

    module.hello_world, module.refuse = hello_world, refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_commands", module)
    return module


def test_a_function_becomes_a_command(run, install, commands) -> None:
    install(greeter=plugin(command("hello_world", "some_commands:hello_world")))
    assert "hello-world  What hello_world does." in run("--help").out
    done = run("hello-world", "you", "--times", "2")
    assert (done.code, done.err.strip()) == (0, "hello you hello you")
    assert run("hello-world", "nobody").code == 3
    help_page = run("hello-world", "--help").out
    assert "Who is greeted." in help_page
    assert run("hello-world").code == 2


def test_its_errors_are_reported_like_camkits_own(run, install, commands) -> None:
    install(greeter=plugin(command("refuse", "some_commands:refuse")))
    done = run("refuse")
    assert (done.code, done.lines) == (2, ["error: this file is not safe"])


def test_a_broken_command_breaks_only_itself(run, install, commands) -> None:
    install(
        bad=plugin(command("broken", "no_such_module:broken")),
        good=plugin(command("hello_world", "some_commands:hello_world")),
    )
    done = run("broken")
    assert done.code == 4
    (line,) = done.lines
    assert "command 'broken' of bad could not be imported" in line
    assert run("hello-world", "you").code == 0
    assert run("--help").code == 0
    typo = run("brokn")
    assert (typo.code, typo.lines) == (
        2,
        ["error: no command is called 'brokn'; did you mean 'broken'?"],
    )


def test_two_commands_of_one_name_are_ambiguous(run, install, commands) -> None:
    one = plugin(command("hello_world", "some_commands:hello_world"))
    two = plugin(command("hello_world", "some_commands:refuse"))
    install(one=one, two=two)
    done = run("hello-world", "you")
    assert done.code == 2
    assert "one/hello_world, two/hello_world" in done.err
    assert "hello-world" not in run("--help").out


def test_own_commands_are_never_replaced(run, install, commands) -> None:
    install(rogue=plugin(command("plugins", "some_commands:refuse")))
    assert run("plugins").code == 0
