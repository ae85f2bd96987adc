"""`camkit demo`: the words around the demonstration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def demo(
    *,
    out: Annotated[Path, Parameter(alias="-o", help="Folder for everything written.")] = Path(
        "camkit_demo"
    ),
    model: Annotated[
        str, Parameter(help="Network that is explained and judged: demo:cnn or demo:vit.")
    ] = "demo:cnn",
    scenes: Annotated[
        int, Parameter(help="Pictures on the leaderboard.", validator=Number(gte=1))
    ] = 100,
    seed: Annotated[
        int,
        Parameter(help="Another seed, other pictures on the leaderboard.", validator=Number(gte=0)),
    ] = 0,
) -> int:
    """Explain pictures whose right explanation is known, and judge the methods by it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from camkit_core import default_registry
    from camkit_playground.demonstration import Options, demonstrate

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn("      {task.description}"), BarColumn(), MofNCompleteColumn())
    bars = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    with _one_thread(), bars:
        task = bars.add_task("starting", total=None)
        demonstrate(
            default_registry(),
            out,
            lambda shown: _print(console, shown),
            lambda what, done, total: bars.update(
                task, description=what, completed=done, total=total
            ),
            Options(model=model, scenes=scenes, seed=seed),
        )
    return 0


@contextmanager
def _one_thread() -> Iterator[None]:
    """For networks this small threads cost more than they give, and change the last digits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _print(console: Console, shown: RenderableType) -> None:
    """Headings are bold; lines are as long as they are, so that paths can be copied."""
    if isinstance(shown, str):
        heading = shown.lstrip().startswith("[")
        console.print(shown, soft_wrap=True, style="bold" if heading else None)
    else:
        console.print(shown)
