"""What a server counts and measures, as a page that Prometheus reads. No I/O, no clock.

Every sample carries the label ``worker``, so that the pages of several are one page when joined.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final

CALL_SECONDS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
LAG_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Counter:
    """Counts by the values of its labels.

    Args:
        name: Ends with ``_total``.
        help: A sentence for whoever reads the page.
        labels: Names of its labels; few values each.
    """

    kind = "counter"

    def __init__(self, name: str, help: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._counts: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def add(self, *values: str, by: float = 1.0) -> None:
        """Count one more, or several."""
        self._counts[values] = self._counts.get(values, 0.0) + by

    def samples(self, common: str) -> Iterator[str]:
        """Lines of the page."""
        for values, count in self._counts.items():
            yield f"{self.name}{_labels(common, self.labels, values)} {count:.17g}"


class Histogram:
    """How many were at most so large, by the values of its labels.

    Args:
        name: Ends with the unit.
        help: A sentence for whoever reads the page.
        bounds: Upper bounds, ascending.
        labels: Names of its labels; few values each.
    """

    kind = "histogram"

    def __init__(
        self, name: str, help: str, bounds: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._bounds = bounds
        self._seen: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        if not labels:
            self._seen[()] = self._empty()

    def _empty(self) -> tuple[list[int], list[float]]:
        return [0] * (len(self._bounds) + 1), [0.0]

    def observe(self, amount: float, *values: str) -> None:
        """Take a measurement."""
        seen = self._seen.get(values)
        if seen is None:
            seen = self._seen[values] = self._empty()
        seen[0][bisect_left(self._bounds, amount)] += 1
        seen[1][0] += amount

    def samples(self, common: str) -> Iterator[str]:
        """Lines of the page."""
        names = (*self.labels, "le")
        for values, (counts, total) in self._seen.items():
            so_far = 0
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                so_far += count
                written = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield f"{self.name}_bucket{_labels(common, names, (*values, written))} {so_far}"
            label = _labels(common, self.labels, values)
            yield f"{self.name}_sum{label} {total[0]:.17g}"
            yield f"{self.name}_count{label} {so_far}"


class Reading:
    """What is asked for when somebody reads the page.

    Args:
        name: A total ends with ``_total``.
        help: A sentence for whoever reads the page.
        read: Gives the value now.
    """

    labels: tuple[str, ...] = ()

    def __init__(self, name: str, help: str, read: Callable[[], float]) -> None:
        self.name, self.help, self._read = name, help, read
        self.kind = "counter" if name.endswith("_total") else "gauge"

    def samples(self, common: str) -> Iterator[str]:
        """Line of the page."""
        yield f"{self.name}{_labels(common, (), ())} {float(self._read()):.17g}"


Family = Counter | Histogram | Reading


class Sheet:
    """Families of one worker.

    Args:
        worker: Its number among those that serve together, from 0.
    """

    def __init__(self, worker: int = 0) -> None:
        self._common = f'worker="{worker}"'
        self._families: list[Family] = []

    def add(self, *families: Family) -> None:
        """Put more on the page."""
        self._families += families

    def page(self) -> str:
        """The page, in Prometheus' text format 0.0.4."""
        lines: list[str] = []
        for one in self._families:
            lines += (f"# HELP {one.name} {one.help}", f"# TYPE {one.name} {one.kind}")
            lines += one.samples(self._common)
        return "\n".join(lines) + "\n"


class Metrics(Sheet):
    """What every worker counts and measures."""

    def __init__(self, worker: int = 0) -> None:
        super().__init__(worker)
        self._calls = Counter(
            "rapport_calls_total", "Calls answered, by method and status.", ("method", "status")
        )
        self._seconds = Histogram(
            "rapport_call_seconds", "How long calls took inside the server.", CALL_SECONDS,
            ("method",),
        )  # fmt: skip
        self._rungs = Counter(
            "rapport_decisions_total", "Decisions, by rung of the ladder.", ("rung",)
        )
        self.lag = Histogram(
            "rapport_loop_lag_seconds", "How late the event loop woke a task up.", LAG_SECONDS
        )
        self.add(self._calls, self._seconds, self._rungs, self.lag)

    def call(self, method: str, status: str, seconds: float) -> None:
        """Count a call that ended."""
        self._calls.add(method, status)
        self._seconds.observe(seconds, method)

    def decision(self, rung: str) -> None:
        """Count a decision."""
        self._rungs.add(rung)


def joined(pages: Iterable[str]) -> str:
    """Several workers' pages as one: each family once, with the samples of all."""
    families: dict[str, tuple[list[str], list[str]]] = {}
    for page in pages:
        name = ""
        for line in page.splitlines():
            if line.startswith("# "):
                name = line.split(" ", 3)[2]
                heads, _ = families.setdefault(name, ([], []))
                if line not in heads:
                    heads.append(line)
            elif line:
                families[name][1].append(line)
    return "".join(f"{line}\n" for heads, samples in families.values() for line in heads + samples)


def _labels(common: str, names: tuple[str, ...], values: tuple[str, ...]) -> str:
    written = [common] if common else []
    for name, value in zip(names, values, strict=True):
        written.append(f'{name}="{value.translate(_ESCAPES)}"')
    return f"{{{','.join(written)}}}" if written else ""
