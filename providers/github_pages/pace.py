"""How long the adapter waits for what, in seconds. Tests take shorter ones."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    poll: float = 5
    """Between two looks at a run or a build. A webhook ends the pause."""
    looks: tuple[float, ...] = (1, 2, 4, 6, 8)
    """Before each look for what may have been started: GitHub's lists lag behind."""
    find: float = 120
    """For what GitHub has accepted and not told the id of."""
    gone: float = 15
    """A 404 of what was there is doubted for so long."""
    log: float = 60
    """For the log of a job that has ended, and for the jobs of a run that has."""
    pages: float = 90
    """For a deployment of Pages, once a run has succeeded. One that GitHub shows is waited for to the deadline."""
    force: float = 30
    """A run that a cancel has not ended by then is cancelled by force."""
    cancel: float = 90
    """One attempt at seeing that nothing runs any more; the caller tries again."""
