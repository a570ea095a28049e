"""Show on a terminal how far a long job is."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class Bars:
    """One bar for each stage of a job, shown while the ``with`` block lasts."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._ended = ""
        self._progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._bars: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, of: int) -> None:
        """Show that a stage has done so much, of so much; off a terminal, when it has done all."""
        if not self._console.is_terminal:
            if done == of and self._ended != name:
                self._console.print(f"{name}: {of:,} done")
                self._ended = name
            return
        if name not in self._bars:
            for bar in self._bars.values():  # stages follow one another: the others are done
                self._progress.stop_task(bar)
            self._bars[name] = self._progress.add_task(name, total=of)
        self._progress.update(self._bars[name], completed=done, total=of)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
