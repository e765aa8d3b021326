"""How long the adapter waits for what, in seconds. Tests take shorter ones."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    look: float | None = None
    """Between two looks at a deploy. None: the longer the longer, by `LOOKS`. A webhook ends the pause."""
    find: tuple[float, ...] = (1, 2, 4, 8)
    """Before each look for what may have been started: lists may lag behind."""
    publish: float = 10
    """What Netlify is given to publish by itself what is ready."""
    read_back: float = 1
    """Between two looks at whether something was done."""
    patience: float = 90
    """For a cancel or a publication to be seen; the caller tries again."""
    log: tuple[float, ...] = (2, 5)
    """Before each further try to read a log."""
    uploads: tuple[float, ...] = (5, 10, 15, 25)
    """Before each further try to upload a file, as Netlify's own clients do it."""

    def pause(self, age: float) -> float:
        """Until the next look, `age` seconds after the first."""
        return self.look or next(every for until, every in LOOKS if age < until)


LOOKS = ((30, 2.0), (120, 3.0), (600, 5.0), (float("inf"), 10.0))
"""Netlify's own client looks each second; a token has 500 calls a minute for all of its deployments."""
