"""Progress bars on standard error: live on a terminal, a line at the end elsewhere."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """A progress callback `(label, done, total)`; labels that share their first word share a bar."""

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
    """Bars with a description, the share done, the time used and the time left; printed lines appear above them."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console or Console(file=sys.stderr),
    )
