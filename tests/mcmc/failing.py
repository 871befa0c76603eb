"""An executor in which one shard fails."""

import pyro_ebm as ebm


class Failing(ebm.SerialExecutor):
    """Raises in place of the call of this number, and is as good as any other besides."""

    def __init__(self, number: int, error: BaseException) -> None:
        self.calls, self.number, self.error = 0, number, error

    def submit(self, fn, /, *args, **kwargs):
        self.calls += 1
        if self.calls - 1 == self.number:

            def fails(*_):
                raise self.error

            return super().submit(fails)
        return super().submit(fn, *args, **kwargs)
