"""Nothing of one machine gets into the repository."""

from __future__ import annotations

import re

MACHINE = {
    "absolute path of a machine": r"(?<![\w.\]/:-])/(home|root|work|opt|Users|mnt|tmp/\w+)/\w",
    "archive on a server": r"https?://[^\s\"')]+\.(whl|zip|t?gz|tar|deb|pth?|safetensors|onnx)\b",
    "package index of one place": r"(index-url|find-links|trusted-host)[ =]",
    "unfinished": r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b",
}
TEXT = {".cff", ".cfg", ".ini", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}


def test_no_file_names_a_machine_or_a_server(root, tracked):
    texts = [path for path in tracked if path.suffix in TEXT and path.name != "LICENSE"]
    assert texts
    found = [
        f"{path.relative_to(root)}:{number}: {what}: {line.strip()[:80]}"
        for path in texts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for what, pattern in MACHINE.items()
        if re.search(pattern, line)
    ]
    assert found == []


def test_locks_and_products_are_not_tracked(root, tracked):
    ignored = (root / ".gitignore").read_text("utf-8").splitlines()
    assert "uv.lock" in ignored
    names = {path.name for path in tracked}
    parts = {part for path in tracked for part in path.relative_to(root).parts}
    assert not names & {"uv.lock", ".DS_Store", ".coverage"}
    assert not parts & {"__pycache__", ".nox", "dist", "demo_output", "bench_output"}
