"""The surface of a client of redis-py where somebody else sends the commands, and its pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from redis.commands.core import AsyncCoreCommands

from service.redis_command import Command


class Commands(AsyncCoreCommands):
    """The commands of redis-py, each as a call of ``execute_command``."""

    _event_dispatcher: Any = None  # its protocol of a client has one


class Pipeline(Commands):
    """Commands that wait to be sent together."""

    def __init__(self, run: Callable[[Sequence[Command]], Awaitable[list[Any]]]) -> None:
        self._run = run
        self._commands: list[Command] = []

    def execute_command(self, *arguments: Any, **options: Any) -> Self:
        """Take a command."""
        self._commands.append(Command(arguments, options))
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send everything; give the replies in order.

        Raises:
            RedisError: The first that a command met, unless errors are wanted among the replies.
            OSError: Likewise.
        """
        commands, self._commands = self._commands, []
        replies = await self._run(commands)
        for reply in replies if raise_on_error else ():
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._commands.clear()
