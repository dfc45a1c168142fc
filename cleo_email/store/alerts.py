"""What people were told already: of each kind of alert, in one hash."""

from typing import cast

from cleo_email.store.connection import PREFIX, StorePart

_KEY = f"{PREFIX}alerts"


class AlertState(StorePart):
    """Numbers by kind and name; what is 0 is not kept."""

    def read(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for name, value in cast("dict[bytes, bytes]", self._redis.hgetall(_KEY)).items():
            kind, _, what = name.decode().partition(":")
            found.setdefault(kind, {})[what] = int(value)
        return found

    def write(self, kind: str, **values: int) -> None:
        """Set these numbers, in one step."""
        with self._redis.pipeline() as pipe:
            for what, value in values.items():
                if value:
                    pipe.hset(_KEY, f"{kind}:{what}", value)
                else:
                    pipe.hdel(_KEY, f"{kind}:{what}")
            pipe.execute()
