"""Documents that became no prompt, counted, so that none is lost in silence."""

from dataclasses import dataclass


@dataclass
class LeftOut:
    """Counts of documents that were read: `empty` ones, and those whose length no other has."""

    empty: int = 0
    without_partner: int = 0

    def sentences(self) -> tuple[str, ...]:
        """What to tell the user."""
        told = []
        if self.empty:
            told.append(f"{_documents(self.empty)} without any text left out.")
        if self.without_partner:
            told.append(
                f"{_documents(self.without_partner)} left out for want of another of the same length, which resample "
                "ablation needs."
            )
        return tuple(told)


def _documents(count: int) -> str:
    return f"{count:,} document{'s' * (count > 1)}"
