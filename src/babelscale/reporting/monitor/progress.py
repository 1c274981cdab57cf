"""Progress for people, on standard error: bars on a terminal, a line now and then elsewhere."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """A hook `(label, done, total)` for long work; labels that share their first word share a bar."""

    def __init__(self) -> None:
        self._progress = bars()
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        work = label.split()[0]
        if work not in self._tasks:
            self._progress.start()
            self._tasks[work] = self._progress.add_task(label, total=total)
        self._progress.update(self._tasks[work], completed=done, total=total, description=label)
        if all(task.finished for task in self._progress.tasks):
            self._progress.stop()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def bars(console: Console | None = None) -> Progress:
    """The one look of every bar: what, how far, time gone, time left. Lines printed on its console stand above it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console or Console(file=sys.stderr),
    )
