"""The loop's figures for Prometheus: served on ``/metrics`` while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from robot.errors import SteadyhandError

_COUNTERS = {
    "ticks": "Ticks of the loop.",
    "missed": "Ticks whose work ended after the next one was due.",
    "overruns": "Ticks whose work alone took longer than the period.",
    "lost": "Messages that had to go because their reader was slow.",
    "images_used": "Images that changed where the arm went.",
}
_TIMES = {
    "period": "From one tick to the next.",
    "jitter": "How late a tick began.",
    "work": "How long a tick's work took.",
    "image_to_command": "From an image to the first command that follows it.",
    "policy_round_trip": "From an observation to its action.",
}


class Metrics(Collector):
    """Serves what a callback gives.

    Args:
        figures: gives each process's newest figures, as ``Meter.told`` names them.
        counts: gives further counters: name to number.
        port: to serve on, at the loopback address only; 0 picks a free one.

    Raises:
        SteadyhandError: the port is taken.
    """

    def __init__(
        self,
        figures: Callable[[], Mapping[str, Mapping[str, Any]]],
        counts: Callable[[], Mapping[str, float]],
        port: int,
    ) -> None:
        self._figures, self._counts = figures, counts
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, "127.0.0.1", registry)
        except OSError as error:
            raise SteadyhandError(
                f"metrics: port {port} cannot be served on: {error.strerror}; give another or 0"
            ) from error
        self.port = int(self._server.server_port)

    def collect(self) -> Iterable[Any]:
        """Every metric, now."""
        figures = {name: dict(told) for name, told in self._figures().items()}
        for key, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"steadyhand_{key}", text, labels=["loop"])
            for name, told in figures.items():
                if key in told:
                    counter.add_metric([name], float(told[key]))
            yield counter
        for key, text in _TIMES.items():
            gauge = GaugeMetricFamily(
                f"steadyhand_{key}_seconds", text, labels=["loop", "quantile"]
            )
            for name, told in figures.items():
                for label, value in told.get(key, {}).items():
                    quantile = label.removesuffix("_ms")
                    gauge.add_metric([name, quantile], 1e-3 * float(value))
            yield gauge
        for key, value in self._counts().items():
            yield CounterMetricFamily(f"steadyhand_{key}", f"Number of {key}.", value=float(value))

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2.0)
