"""The command: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import CURVES, TABLE, Row, choose

if TYPE_CHECKING:
    from benchmarks.measure import Settings
    from benchmarks.results import Result

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks.

    Returns:
        0, or 1 if a limit was missed or a row could not be measured.
    """
    words = _parser().parse_args(arguments)
    if words.list:
        print(_listing())
        return 0
    if words.show:
        return _show(Path(words.show), words.clock)
    try:
        rows = choose(words.rows, quick=words.quick)
    except ValueError as error:
        _parser().error(str(error))
    return _run(words, rows, arguments)


def _run(words: argparse.Namespace, rows: list[Row], arguments: Sequence[str] | None) -> int:
    if words.threads:
        # Read by the libraries when they are loaded, so before anything imports torch or numpy.
        os.environ.update({name: str(words.threads) for name in _THREADS})
    settings = _settings(words)

    from benchmarks.environment import environment
    from benchmarks.measure import measure
    from benchmarks.report import legend, startup_line, table
    from benchmarks.results import document, read, updated, write
    from benchmarks.startup import startup

    here = environment(settings.device)
    print(f"device: {here['device']}, threads: {here['threads']}, load: {here['load']}", flush=True)
    results: list[Result] = []
    for row in rows:
        results.append(measure(row, settings))
        print(table(results[-1:], settings.clock).splitlines()[-1], flush=True)
    imports = startup(max(settings.rounds, 3)) if words.startup or not words.rows else None
    print("\n" + table(results, settings.clock) + "\n\n" + legend(settings.clock))
    if imports:
        print("\n" + startup_line(imports))
    if words.out:
        out = Path(words.out)
        run = asdict(settings) | {"commands": [_command(words, arguments)]}
        content = document(results, here, run, imports)
        if words.update and out.exists():
            content = updated(out, content)
        write(out, content)
        _draw(read(out), out.with_suffix(".png"), settings.clock)
    return 0 if all(result.ok for result in results) else 1


def _show(path: Path, clock: str) -> int:
    from benchmarks.report import legend, table
    from benchmarks.results import read

    results = read(path)
    print(table(results, clock) + "\n\n" + legend(clock))
    _draw(results, path.with_suffix(".png"), clock)
    return 0


def _settings(words: argparse.Namespace) -> Settings:
    import torch

    from benchmarks.measure import Settings

    if words.threads:
        torch.set_num_threads(words.threads)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    rounds = words.rounds or (3 if words.quick else 9)
    return Settings(
        device=found if words.device == "auto" else words.device,
        threads=torch.get_num_threads(),
        seed=words.seed,
        rounds=rounds,
        max_rounds=max(rounds, words.max_rounds or 0),
        precision=words.precision,
        clock=words.clock,
        memory=not (words.no_memory or words.quick),
    )


def _draw(results: list[Result], path: Path, clock: str) -> None:
    from benchmarks.plot import plot

    try:
        plot(results, path, clock)
    except ImportError as error:
        print(f"no plot: {error}")


def _command(words: argparse.Namespace, arguments: Sequence[str] | None) -> str:
    import sys

    given = list(sys.argv[1:] if arguments is None else arguments)
    hidden = ["FILE.json" if word == words.out else word for word in given]
    return "python -m benchmarks " + shlex.join(hidden)


def _listing() -> str:
    lines = [f"{row.name:24} {row.title} ({row.layer})" for row in (*TABLE, *CURVES)]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--list", action="store_true", help="names of the rows")
    add("--rows", help="comma separated names; NAME* takes all that begin so (default: all)")
    add("--rounds", type=int, help="interleaved rounds (default 9)")
    add("--max-rounds", type=int, help="camkit goes on until here while its median is uncertain")
    add("--precision", type=float, default=0.01, help="relative uncertainty that is good enough")
    add("--threads", type=int, help="of torch, numpy and the peers (default: theirs)")
    add("--clock", choices=("wall", "cpu"), default="wall", help="what the verdict is about")
    add("--device", default="auto", help="cpu, cuda, cuda:1 (default: CUDA if there is any)")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="three rounds, no memory, no curves: does it run?")
    add("--no-memory", action="store_true", help="skip the peak memory processes")
    add("--startup", action="store_true", help="measure the import cost even with --rows")
    add("--out", help="JSON file to write; the plot goes beside it")
    add("--update", action="store_true", help="keep the other rows that --out holds already")
    add("--show", metavar="FILE.json", help="print and draw what was measured before")
    return parser
