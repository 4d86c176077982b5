"""The simulator's own HTTP requests: callbacks, and files to be fetched from elsewhere."""

import httpx


class Outbound:
    """One HTTP client, made at its first use, because its TLS set-up costs more than most tests.

    It has no time-outs of its own: those follow the simulator's clock.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None) -> None:
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    @property
    def client(self) -> httpx.AsyncClient:
        """The client; made anew after `aclose`."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=self._transport,
                timeout=httpx.Timeout(None),
                trust_env=False,
                limits=httpx.Limits(max_connections=None),
            )
        return self._client

    async def aclose(self) -> None:
        """Close what was opened."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
