"""Deadlines for the many short waits of one stream, at the price of one timer for all of them."""

import asyncio
from types import TracebackType


class Patience:
    """Raises TimeoutError in a `with` block that is not left by its deadline.

        with closing(Patience()) as patience:
            while …:
                with patience.until(clock() + 20):
                    piece = await …

    `asyncio.timeout_at` does the same with a timer for each block, which costs more than all that a token
    needs. Here the timer is moved on only when it rings. Whoever makes one closes it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._waiting: asyncio.Task[object] | None = None
        self._cancellations = 0
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0

    def until(self, deadline: float) -> "Patience":
        """The block that follows ends by `deadline`, in seconds of the loop's clock."""
        self._deadline = deadline
        return self

    def put_off(self, deadline: float) -> None:
        """The block that is running ends by `deadline` instead. To be called from anywhere in the loop."""
        self._deadline = deadline
        if self._waiting is not None and (self._timer is None or deadline < self._rings_at):
            self._set_timer()

    def end(self) -> None:
        """The block that is running ends now, as if its deadline had passed."""
        self.close()
        if self._waiting is not None and not self._is_over:
            self._is_over = True
            self._waiting.cancel()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._waiting, self._cancellations = task, task.cancelling()
        if self._timer is None or self._deadline < self._rings_at:
            self._set_timer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._waiting = self._waiting, None
        if not self._is_over:
            return
        self._is_over = False
        # Somebody else may have cancelled the task as well; that goes on its way.
        if task is not None and task.uncancel() <= self._cancellations and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _set_timer(self) -> None:
        self.close()
        self._rings_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiting is None:
            return  # The next block sets it again.
        if self._loop.time() < self._deadline:
            self._set_timer()
            return
        self.end()
