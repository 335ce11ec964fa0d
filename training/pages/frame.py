"""What the pages of training have in common: ids that an address names."""

from uuid import UUID


def uuid_of(raw: str | None) -> UUID | None:
    try:
        return UUID(raw) if raw else None
    except ValueError:
        return None
