"""The example plugin in the life of a third party: `python external.py FOLDER`.

FOLDER is a copy of `plugins/camkit_example` outside the repository; the environment has camkit's
wheels, `build` and `uv`. The plugin is built, installed, checked, used and removed. Then it breaks
in four ways, and each time everything else must go on working and every failed lookup name it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "camkit-example"
NET = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.Tanh(), nn.Conv2d(8, 8, 3, stride=2), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
"""


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def exits(self, code: int, *said: str) -> Done:
        """Stop unless it ended like this and said this."""
        missing = [text for text in said if text not in self.out + self.err]
        if self.code != code or missing:
            sys.exit(
                f"FAILED: {' '.join(self.words)}\nexit code {self.code}, expected {code}; did not "
                f"say {missing}\n{self.out}\n{self.err}"
            )
        return self

    @property
    def records(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def run(*words: str, cwd: Path | None = None) -> Done:
    """A command, in the folder of the plugin's author or another one."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    return Done(words, done.returncode, done.stdout, done.stderr)


def camkit(*words: str) -> Done:
    """The command line."""
    return run(sys.executable, "-m", "camkit", *words)


def uv(*words: str) -> None:
    """`uv pip ...` on this environment."""
    run(sys.executable, "-m", "uv", "pip", *words, "--python", sys.executable).exits(0)


def install(folder: Path) -> None:
    """Build the wheel of a folder and install it, and nothing else."""
    target = folder / "dist"
    build = (sys.executable, "-m", "build", "--wheel", "--installer=uv", "--outdir", str(target))
    run(*build, str(folder)).exits(0)
    (wheel,) = target.glob("*.whl")
    uv("install", "--no-deps", "--reinstall", str(wheel))
    wheel.unlink()


def plugin() -> dict[str, Any] | None:
    """How the example is listed; every other plugin is in order."""
    found = camkit("plugins", "list", "--json").exits(0).records
    others = [record for record in found if record["distribution"] != NAME]
    if len(others) < 3 or any(record["status"] != "ok" for record in others):
        sys.exit(f"FAILED: other plugins are not in order: {others}")
    return next((record for record in found if record["distribution"] == NAME), None)


def explain(method: str, out: str, *more: str) -> Done:
    """Explain the photo."""
    words = ("explain", "photo.png", "--model", "net.py:build", "-m", method, "-o", out, *more)
    return camkit(*words)


# -- the plugin's life -----------------------------------------------------------------------------


def lives(folder: Path) -> None:
    """Unknown, installed, conforming, used, removed, unknown."""
    unknown = (2, "no method is called 'example'")
    expect(plugin() is None, "not listed before it is installed")
    explain("example", "before").exits(*unknown)
    install(folder)
    listed = plugin() or {}
    expect(listed["status"] == "ok" and len(listed["entries"]) == 3, f"listed: {listed}")
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder).exits(0)
    camkit("plugins", "check", NAME).exits(0, "conforms")
    explain("example:keep=0.8", "used", "--target", "example_odds").exits(0)
    record = json.loads(Path("used", "run.json").read_text("utf-8"))
    expect(NAME in json.dumps(record), "the record of the run names the distribution")
    expect(bool(list(Path("used").rglob("*.png"))), "there is a picture")
    uv("uninstall", NAME)
    expect(plugin() is None, "not listed after it is removed")
    explain("example", "after").exits(*unknown)


def expect(holds: bool, what: str) -> None:
    """Stop unless it holds."""
    if not holds:
        sys.exit(f"FAILED: {what}")


# -- four ways to be broken ------------------------------------------------------------------------


def is_broken(status: str, *words: str) -> None:
    """Listed with its reason, quoted by failed lookups and by `check`; nothing else suffers."""
    listed = plugin() or {}
    expect(listed["status"] == status, f"listed as {status}: {listed}")
    expect(all(word in listed["problem"] for word in words), f"says {words}: {listed}")
    explain("example", "broken").exits(2, "no method is called 'example'", f"{NAME} 0.1.0", *words)
    camkit("plugins", "check", NAME).exits(1, *words)
    explain("gradcam", f"gradcam-{status}", "--overwrite").exits(0)
    camkit("plugins").exits(0, f"{NAME} 0.1.0", *words)
    camkit("--help").exits(0)


def raises() -> None:
    """An exception at import."""
    is_broken("broken", "RuntimeError: no license")


def wrong_signature() -> None:
    """A hook with an argument that camkit does not have."""
    is_broken("broken", "camkit_target_for", "picture")


def wrong_level() -> None:
    """Written for another plugin interface."""
    is_broken("incompatible", "interface 99")


def duplicate() -> None:
    """The name of a built-in method: the short name is refused, both full names work."""
    listed = plugin() or {}
    expect(listed["status"] == "ok", f"a duplicate name breaks no plugin: {listed}")
    own, theirs = "camkit-methods-gradient/gradcam", f"{NAME}/gradcam"
    explain("gradcam", "ambiguous").exits(2, "several plugins", own, theirs)
    explain(own, "own").exits(0)
    explain(theirs, "theirs").exits(0)
    explain("hirescam", "other").exits(0)


VARIANTS: dict[Callable[[], None], tuple[tuple[str, str, str], ...]] = {
    raises: (("plugin.py", r"\Z", "raise RuntimeError('no license')\n"),),
    wrong_signature: (("plugin.py", r"request: Any\)", "request: Any, picture: Any)"),),
    duplicate: (
        ("plugin.py", 'name="example"', 'name="gradcam"'),
        ("method.py", '= "example"', '= "gradcam"'),
    ),
    wrong_level: (("plugin.py", "CAMKIT_API = 1", "CAMKIT_API = 99"),),
}


def vary(folder: Path, check: Callable[[], None]) -> None:
    """Change the source, install it, check, and put everything back."""
    source = folder / "src" / "camkit_example"
    before = {name: (source / name).read_text("utf-8") for name, _, _ in VARIANTS[check]}
    for name, pattern, text in VARIANTS[check]:
        changed, count = re.subn(pattern, text, before[name], count=1)
        expect(count == 1, f"{pattern} is in {name}")
        (source / name).write_text(changed, "utf-8")
    install(folder)
    check()
    uv("uninstall", NAME)
    for name, text in before.items():
        (source / name).write_text(text, "utf-8")


def main(folder: Path) -> None:
    """Everything, one line per step."""
    from PIL import Image

    Path("net.py").write_text(NET)
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save("photo.png")
    started = time.perf_counter()
    lives(folder)
    print(f"built, installed, checked, used and removed ({time.perf_counter() - started:.0f} s)")
    for check in VARIANTS:
        vary(folder, check)
        print(f"isolated: {check.__doc__} ({time.perf_counter() - started:.0f} s)")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
