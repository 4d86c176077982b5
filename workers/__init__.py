"""arq's entry: `arq workers.settings` takes the attribute `settings` of this package, so it must be imported here."""

from workers import settings

__all__ = ["settings"]
