"""How a job is submitted: what `mtl label`, `relabel` and `train` are told beside it."""

from dataclasses import dataclass

from jobs.cli.shared.common import require_redis_for_detach
from jobs.notify import check_url
from jobs.settings import settings


@dataclass(frozen=True)
class Submission:
    """What was asked, each by the option of its name."""

    priority: str
    notify: str | None
    """An address to tell when the job comes to rest; None: nobody is told."""
    detach: bool
    quiet: bool
    as_json: bool

    def check(self) -> None:
        """Refuse what cannot be, before any input is read.

        Raises:
            SettingsError: nothing would outlive this command, or notices may not go to the address.
        """
        if self.detach:
            require_redis_for_detach()
        if self.notify is not None:
            check_url(self.notify, settings())
