"""The runtime beside the robot: no allocation, deadlines, changes of models, canary, drift."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest

import perception.session
from perception.session import SessionConfig, available, open_session
from policies.bundle.format import Bundle, shipped, write_bundle
from policies.bundle.tampering import put
from policies.edge.canary import Canary
from policies.edge.deadline import Deadline, DeadlineConfig, EdgeConfig
from policies.edge.drift import DriftConfig, distance, drift
from policies.edge.events import LOG, log_to
from policies.edge.live import LiveModels
from policies.edge.metrics import Metrics
from policies.edge.novelty import Novelty
from policies.edge.runtime import EdgePolicy
from robot.errors import ConfigError, SafetyError, SteadyhandError
from robot.interface import Policy

#: On a busy machine an action may be late; where that is not the question it must not matter.
CALM = EdgeConfig(policy=DeadlineConfig(5.0, "use", None))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle's policies alone."""
    return _bundle(tmp_path_factory.mktemp("small") / "bundle", lambda role, model: model)


def _bundle(out: Path, change: object, keep_reference: bool = False) -> Path:
    source = Bundle.load(shipped())
    models = {r: change(r, source.model(r)) for r in ("policy", "policy_fp32")}
    reference = {k: v for k, v in source.reference().items() if k.startswith("policy")}
    if not keep_reference:
        for role, model in models.items():
            x = reference[f"{role}/in/observation"]
            session = open_session(model, role)
            reference[f"{role}/out/action"] = session.run(None, {"observation": x})[0]
    write_bundle(
        out,
        models=models,
        limits_yaml=source.files["limits.yaml"],
        card=source.card,
        card_text="x",
        reference=reference,
        created_from=dict(source.manifest.created_from),
        extra={n: source.files[n] for n in ("panda.urdf", "panda_collision.yaml")},
    )
    return out


def _shifted(role: str, model: bytes) -> bytes:
    """The same policy with a slightly different last bias."""
    graph = onnx.load_from_string(model)
    for tensor in graph.graph.initializer:
        if tensor.name == "head.bias":
            values = onnx.numpy_helper.to_array(tensor) + np.float32(0.02)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return graph.SerializeToString()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(tmp_path_factory.mktemp("other") / "other", _shifted)


def observations(bundle: Path) -> np.ndarray:
    return Bundle.load(bundle).reference()["policy/in/observation"]


def test_a_tick_makes_no_array(small: Path) -> None:
    policy, x = EdgePolicy(small), observations(small)
    live = LiveModels(small, CALM)
    rows = [np.ascontiguousarray(row) for row in x]
    out = np.zeros(policy.action_size, np.float32)
    for act in (policy.act, live.policy.act):
        for row in rows:
            act(row, out)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for row in rows:
                act(row, out)
            after, peak = tracemalloc.get_traced_memory()
            kept = tracemalloc.take_snapshot().filter_traces(
                [tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)]
            )
        finally:
            tracemalloc.stop()
        # No array's memory at all, and nothing kept but what the counters' boxes swing by.
        assert sum(s.size for s in kept.statistics("lineno")) == 0
        assert after - before < 1024 and peak - before < 4096
    # The count can fail: an action of its own is an array.
    tracemalloc.start()
    kept_actions = [policy.act(row) for row in rows[:10]]
    snapshot = tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)]
    )
    tracemalloc.stop()
    assert len(kept_actions) == 10 and sum(s.size for s in snapshot.statistics("lineno")) > 0


def test_given_memory_takes_the_same_action(small: Path) -> None:
    policy = EdgePolicy(small)
    out = np.full(policy.action_size, 9.0, np.float32)
    for row in observations(small)[:20]:
        assert policy.act(row, out) is out
        assert np.array_equal(out, policy.act(row))


def test_what_is_missing_is_told_and_the_processor_serves(
    small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "cpu" in available()
    missing = [p for p in ("cuda", "tensorrt", "openvino", "xnnpack") if p not in available()]
    model, x = Bundle.load(small).model("policy"), observations(small)
    plain = open_session(model, "plain").run(None, {"observation": x})[0]
    for provider in missing:
        with caplog.at_level(logging.WARNING):
            session = open_session(model, "p", SessionConfig(providers=(provider, "cpu")))
        assert session.get_providers() == ["CPUExecutionProvider"]
        assert f"{provider}: this ONNX Runtime has no such execution provider" in caplog.text
        assert np.array_equal(session.run(None, {"observation": x})[0], plain)
        caplog.clear()
        open_session(model, "p", SessionConfig(providers=(provider, "cpu")))
        assert not caplog.text  # once is enough


def test_a_provider_that_does_not_start_is_told_in_one_line(
    small: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perception.session, "available", lambda: ("cpu", "tensorrt"))
    monkeypatch.setattr(perception.session, "_cannot_load", lambda name: "libnvinfer.so.10: no")
    monkeypatch.setattr(perception.session, "_told", set())
    model = Bundle.load(small).model("policy")
    with caplog.at_level(logging.WARNING):
        session = open_session(model, "p", SessionConfig(providers=("tensorrt", "cpu")))
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert [r.message for r in caplog.records] == [
        "tensorrt: does not start here (libnvinfer.so.10: no); going on without"
    ]


def test_a_library_that_does_not_load_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "onnxruntime" / "__init__.py"
    (fake.parent / "capi").mkdir(parents=True)
    library = fake.parent / "capi" / "libonnxruntime_providers_openvino.so"
    monkeypatch.setattr(perception.session.ort, "__file__", str(fake))
    why = perception.session._cannot_load.__wrapped__
    assert why("openvino") == ""  # part of the runtime itself
    library.write_bytes(b"no library")
    assert "libonnxruntime_providers_shared.so" in why("openvino")


def test_a_policy_with_memory_of_its_own_sees_each_observation(small: Path) -> None:
    """As on a GPU, where a bound input is copied at once, and not again when it changes."""
    policy, other = EdgePolicy(small), EdgePolicy(small)
    other._copies = True
    for row in observations(small)[:20]:
        assert np.array_equal(policy.act(row), other.act(row))


def test_models_that_act_otherwise_than_recorded_are_refused(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LiveModels(small)
    act = EdgePolicy.act
    stale = observations(small)[0]
    # What an accelerator gave that never saw another observation than the first.
    monkeypatch.setattr(EdgePolicy, "act", lambda self, row, out=None: act(self, stale, out))
    with pytest.raises(SteadyhandError, match="acts otherwise here than was recorded"):
        LiveModels(small)


def test_threads_are_bound_on_request(small: Path) -> None:
    allowed = os.sched_getaffinity(0)
    core = min(allowed)
    bound = []

    def work() -> None:
        EdgePolicy(small, session=SessionConfig(cores=(core,)))
        bound.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert bound == [{core}] and os.sched_getaffinity(0) == allowed
    with pytest.raises(ConfigError, match="cores: 1023 cannot be used here"):
        open_session(b"", "x", SessionConfig(cores=(1023,)))
    with pytest.raises(ConfigError, match="2 given for 1 threads"):
        SessionConfig(cores=(0, 1))


def test_a_missed_deadline_does_what_is_configured() -> None:
    late, fine = 2_000_000, 500_000
    use = Deadline("m", DeadlineConfig(0.001, "use", 2))
    assert use.judge(fine) and use.judge(late) and use.judge(late) and use.missed == 2
    with pytest.raises(SafetyError, match=r"took 2.0 ms, its deadline is 1 ms \(3 in a row\)"):
        use.judge(late)
    drop = Deadline("m", DeadlineConfig(0.001, "drop", None))
    assert [drop.judge(t) for t in (late, fine, late)] == [False, True, False]
    with pytest.raises(SafetyError):
        Deadline("m", DeadlineConfig(0.001, "halt")).judge(late)


def test_a_late_action_stands_still_with_its_fingers_as_they_are(small: Path) -> None:
    metrics = Metrics()
    slow = EdgeConfig(policy=DeadlineConfig(1e-6, "drop", None))
    live = LiveModels(small, slow, metrics)
    assert isinstance(live.policy, Policy)
    x = observations(small)[0]
    wanted, got = EdgePolicy(small).act(x), live.policy.act(x)
    assert np.array_equal(got[:4], np.zeros(4)) and got[4] == wanted[4]
    assert 'steadyhand_deadline_missed_total{model="policy"} 1.0' in metrics.text()
    with pytest.raises(SafetyError, match="policy: took"):
        impatient = LiveModels(small, EdgeConfig(policy=DeadlineConfig(1e-6, "use", 3)))
        for _ in range(4):
            impatient.policy.act(x)


def test_models_change_while_another_thread_acts(small: Path, other: Path) -> None:
    metrics = Metrics()
    live = LiveModels(small, CALM, metrics)
    x = observations(small)[3]
    a, b = EdgePolicy(small).act(x), EdgePolicy(other).act(x)
    assert not np.array_equal(a, b)
    seen, stop = [], threading.Event()

    def act() -> None:
        while not stop.is_set():
            seen.append(live.policy.act(x))

    thread = threading.Thread(target=act)
    thread.start()
    try:
        for source in (other, small, other):
            live.swap(source)
    finally:
        stop.set()
        thread.join()
    assert seen and all(np.array_equal(s, a) or np.array_equal(s, b) for s in seen)
    assert np.array_equal(live.policy.act(x), b)
    assert 'steadyhand_model_changes_total{result="swapped"} 3.0' in metrics.text()
    assert f'steadyhand_bundle_info{{bundle="{live.models.label}"}} 1.0' in metrics.text()


def test_a_bundle_that_fails_its_test_changes_nothing(small: Path, tmp_path: Path) -> None:
    live = LiveModels(small, CALM)
    x = observations(small)[3]
    before, label = live.policy.act(x), live.models.label
    wrong = _bundle(tmp_path / "wrong", _shifted, keep_reference=True)
    with pytest.raises(SteadyhandError, match="differs from the reference"):
        live.swap(wrong)
    damaged = Path(shutil.copytree(small, tmp_path / "damaged"))
    put(damaged / "models/policy.onnx", b"nothing")
    with pytest.raises(SteadyhandError, match="policy.onnx has 7 bytes"):
        live.swap(damaged)
    assert live.models.label == label and np.array_equal(live.policy.act(x), before)
    with_detector = LiveModels(shipped())
    with pytest.raises(SteadyhandError, match="has no detector, the one that acts has"):
        with_detector.swap(small)


def test_a_policy_that_fails_on_probation_is_rolled_back(small: Path, other: Path) -> None:
    """The new session is made to fail as a device that is gone would: its memory is taken away."""
    metrics = Metrics()
    live = LiveModels(small, EdgeConfig(probation=5, policy=DeadlineConfig(5.0)), metrics)
    x = observations(small)[3]
    old = live.policy.act(x)
    live.swap(other)
    new = live.policy.act(x)
    assert not np.array_equal(old, new)
    live.models.policy._session = None  # type: ignore[assignment]
    assert np.array_equal(live.policy.act(x), old)  # that very action comes from the old one
    assert 'result="rolled_back"} 1.0' in metrics.text()
    live.swap(other)
    for _ in range(5):
        live.policy.act(x)
    live.models.policy._session = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):  # probation is over, there is nothing to go back to
        live.policy.act(x)
    live = LiveModels(small, CALM)
    live.swap(other)
    bad = x.copy()
    bad[0] = np.nan
    with pytest.raises(SafetyError, match="not finite"):  # no reason to go back
        live.policy.act(bad)
    assert np.array_equal(live.policy.act(x), new)


def test_events_are_lines_of_json(small: Path, other: Path) -> None:
    stream = io.StringIO()
    handler = log_to(stream)
    try:
        live = LiveModels(small, CALM)
        live.swap(other)
    finally:
        LOG.removeHandler(handler)
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [r["event"] for r in rows] == ["started", "swapped"]
    assert rows[1]["bundle"] == live.models.label and rows[1]["level"] == "info"


def test_prometheus_can_read_it(small: Path) -> None:
    from urllib.request import urlopen

    metrics = Metrics()
    live = LiveModels(small, CALM, metrics)
    for row in observations(small)[:50]:
        live.policy.act(row)
    metrics.verdict(1)
    metrics.pick("success", True)
    metrics.pick("missed", False)
    server = metrics.serve(0)
    try:
        text = urlopen(f"http://127.0.0.1:{server.server_port}/metrics").read().decode()
    finally:
        server.shutdown()
    for line in (
        'steadyhand_latency_seconds_count{model="policy"} 50.0',
        'steadyhand_verdicts_total{level="scale"} 1.0',
        'steadyhand_picks_total{category="missed"} 1.0',
        "steadyhand_picks_succeeded_total 1.0",
        "steadyhand_novelty_count 50.0",
    ):
        assert line in text


def test_the_canary_only_looks_on(small: Path, other: Path) -> None:
    canary = Canary(EdgePolicy(small), EdgePolicy(other))
    acting, shadow = EdgePolicy(small), EdgePolicy(other)
    apart = []
    for row in observations(small)[:100]:
        action = canary.policy.act(row)
        assert np.array_equal(action, acting.act(row))
        apart.append(np.abs(action - shadow.act(row)).mean())
    report = canary.report()
    assert report.steps == 100 and report.failures == 0
    assert report.mean_difference == pytest.approx(np.mean(apart), rel=1e-5)

    class Broken:
        def reset(self) -> None:
            raise RuntimeError("no")

        def act(self, observation: np.ndarray) -> np.ndarray:
            return np.full(5, np.nan, np.float32)

    canary = Canary(EdgePolicy(small), Broken())
    canary.policy.reset()
    row = observations(small)[0]
    assert np.array_equal(canary.policy.act(row), acting.act(row))
    assert canary.report().failures == 2 and canary.report().steps == 0


def test_drift_names_what_moved(small: Path) -> None:
    bundle = Bundle.load(small)
    x = observations(small)
    policy = EdgePolicy(small)
    actions = np.stack([policy.act(row) for row in x])
    half = drift(bundle, x[::2], actions[::2])
    assert not half.findings and half.action_difference < 1e-6 and half.novel_share < 0.02
    moved = x.copy()
    name = "tool_position.2"
    row = policy.metadata.observation_names.index(name)
    moved[:, row] += 4 * x[:, row].std() + 0.1
    found = drift(bundle, moved, actions)
    assert found.numbers[0].name == name and found.numbers[0].drifted
    assert any(name in line for line in found.findings)
    assert any("actions differ" in line for line in found.findings)
    far = drift(bundle, (x * 30).astype(np.float32))
    assert far.novel_share > 0.5 and any("beyond what was recorded" in f for f in far.findings)
    assert not drift(bundle, moved, config=DriftConfig(), ignored=[name]).numbers[0].drifted
    with pytest.raises(SteadyhandError, match="hold no step"):
        drift(bundle, x[:0])
    with pytest.raises(SteadyhandError, match="the bundle's have 25 numbers"):
        drift(bundle, x[:, :5])


def test_the_distance_is_kolmogorovs() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    for shift in (0.0, 0.3, 5.0):
        a, b = rng.normal(size=200), rng.normal(shift, size=77)
        assert distance(a, b) == pytest.approx(ks_2samp(a, b).statistic)


def test_novelty_is_one_at_the_border_of_what_was_recorded() -> None:
    rng = np.random.default_rng(0)
    recorded = rng.normal(3.0, 2.0, (2000, 8)).astype(np.float32)
    novelty = Novelty(recorded)
    scores = novelty.scores(recorded)
    assert (scores > 1.0).mean() == pytest.approx(0.001, abs=0.0006)
    assert [novelty.score(row) for row in recorded[:5]] == pytest.approx(scores[:5], rel=1e-4)
    assert novelty.score(np.full(8, 30.0, np.float32)) > 4


def test_the_shipped_configurations_read() -> None:
    from configs.load import find, load

    default = load(EdgeConfig, find("edge", "default"))
    assert default == EdgeConfig()
    jetson = load(EdgeConfig, find("edge", "jetson"))
    assert jetson.session.providers == ("tensorrt", "cuda", "cpu")
    assert jetson.detector == DeadlineConfig(0.1, "drop")
    with pytest.raises(ConfigError, match="providers"):
        load(EdgeConfig, None, ["session.providers=[tpu]"])
