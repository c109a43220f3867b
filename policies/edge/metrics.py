"""What the runtime counts and times, for Prometheus."""

from __future__ import annotations

from typing import Any

from robot.errors import SteadyhandError

#: Upper ends of a latency's classes, s: 2 us to 1 s.
LATENCY_S = (2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05,
             0.1, 0.2, 0.5, 1.0)  # fmt: skip
MODELS = ("policy", "detector", "scorer", "shadow")
LEVELS = ("ok", "scale", "halt")


class Metrics:
    """Counters and histograms in a registry of their own.

    ============================================ ==========================================
    steadyhand_latency_seconds{model}            time of each run
    steadyhand_deadline_missed_total{model}      runs that were late
    steadyhand_confidence                        score of each detection
    steadyhand_novelty                           1: at the border of what was recorded
    steadyhand_verdicts_total{level}             the supervisor's, one a control tick
    steadyhand_picks_total{category}             attempts
    steadyhand_picks_succeeded_total             those that succeeded
    steadyhand_model_changes_total{result}       swapped, refused, rolled_back
    steadyhand_canary_difference                 action of the shadow from that which acts
    steadyhand_bundle_info{bundle}               1 for the bundle that acts
    ============================================ ==========================================

    Raises:
        SteadyhandError: ``prometheus-client`` is not installed.
    """

    def __init__(self) -> None:
        try:
            import prometheus_client as prometheus
        except ModuleNotFoundError as error:
            raise SteadyhandError(
                "metrics: need prometheus-client: pip install 'steadyhand-edge[metrics]'"
            ) from error
        self.registry = prometheus.CollectorRegistry()
        self._prometheus: Any = prometheus

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Any:
            return prometheus.Histogram(
                f"steadyhand_{name}", text, labels, buckets=buckets, registry=self.registry
            )

        def counter(name: str, text: str, *labels: str) -> Any:
            return prometheus.Counter(f"steadyhand_{name}", text, labels, registry=self.registry)

        tenths = tuple(i / 10 for i in range(1, 11))
        latency = histogram("latency_seconds", "Time of a run.", LATENCY_S, "model")
        missed = counter("deadline_missed", "Runs that were late.", "model")
        # The children are made here: looking one up would cost more than counting.
        self._latency = {name: latency.labels(name) for name in MODELS}
        self._missed = {name: missed.labels(name) for name in MODELS}
        self._confidence = histogram("confidence", "Score of a detection.", tenths)
        self._novelty = histogram(
            "novelty", "Distance from recorded observations.", (0.25, 0.5, 0.75, 1, 1.5, 2, 4, 8)
        )
        verdicts = counter("verdicts", "Of the supervisor.", "level")
        self._verdicts = [verdicts.labels(name) for name in LEVELS]
        self._picks = counter("picks", "Attempts.", "category")
        self._held = counter("picks_succeeded", "Attempts that succeeded.")
        self._changes = counter("model_changes", "Changes of the models.", "result")
        self._difference = histogram(
            "canary_difference", "Of the shadow's action.", (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2)
        )
        self._info = prometheus.Gauge(
            "steadyhand_bundle_info", "The bundle that acts.", ["bundle"], registry=self.registry
        )
        self._bundle = ""

    def ran(self, model: str, taken_s: float, late: bool) -> None:
        """A model ran."""
        self._latency[model].observe(taken_s)
        if late:
            self._missed[model].inc()

    def seen(self, confidence: float) -> None:
        """A detection."""
        self._confidence.observe(confidence)

    def strange(self, novelty: float) -> None:
        """How far an observation lay from the recorded ones."""
        self._novelty.observe(novelty)

    def verdict(self, level: int) -> None:
        """The supervisor's, 0 to 2."""
        self._verdicts[level].inc()

    def pick(self, category: str, success: bool) -> None:
        """The end of an attempt."""
        self._picks.labels(category).inc()
        if success:
            self._held.inc()

    def changed(self, result: str, bundle: str = "") -> None:
        """``swapped``, ``refused`` or ``rolled_back``; and what acts from now on."""
        if result:
            self._changes.labels(result).inc()
        if bundle:
            if self._bundle:
                self._info.remove(self._bundle)
            self._info.labels(bundle).set(1)
            self._bundle = bundle

    def differs(self, difference: float) -> None:
        """Largest difference of the shadow's action."""
        self._difference.observe(difference)

    def text(self) -> str:
        """All of it as Prometheus reads it."""
        return str(self._prometheus.generate_latest(self.registry).decode())

    def serve(self, port: int, address: str = "127.0.0.1") -> Any:
        """Answer Prometheus at ``http://address:port/metrics`` from a thread of its own.

        Returns:
            The server, with ``server_port`` and ``shutdown()``.

        Raises:
            SteadyhandError: the port is taken.
        """
        try:
            server, _ = self._prometheus.start_http_server(port, address, self.registry)
        except OSError as error:
            raise SteadyhandError(f"metrics: {address}:{port}: {error.strerror}") from error
        return server
