"""A recipe: what is done to a policy, one step after the other, and in what order."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from configs.load import bounded, digest, find, load
from policies.compression.quantize import QuantizeConfig
from robot.errors import ConfigError


@dataclass(frozen=True)
class FitConfig:
    """How a network learns from its teacher: soft targets on recorded and disturbed observations.

    Attributes:
        epochs: over the recorded frames.
        batch_size: frames a step.
        learning_rate: of AdamW, at the start of the cosine.
        noise: standard deviations of noise on the observations, so that the student learns the
            teacher around what was recorded and not on it alone. The teacher labels them anew.
        label_weight: share of the loss that looks at the recorded action instead of the teacher's.
        seed: of order and noise.
        threads: of torch.
    """

    epochs: int = bounded(20, 0, 10_000)
    batch_size: int = bounded(512, 1, 1_000_000)
    learning_rate: float = bounded(1e-3, 1e-8, 1.0)
    noise: float = bounded(0.1, 0.0, 10.0)
    label_weight: float = bounded(0.0, 0.0, 1.0)
    seed: int = bounded(0, 0, 2**31 - 1)
    threads: int = bounded(1, 1, 64)


@dataclass(frozen=True)
class DistillConfig:
    """A small student learns what the network does.

    Attributes:
        hidden: the student's layers.
        teacher: a run's folder or ``network.pt`` of another, perhaps larger network with the same
            observation; None is the network at hand.
        fit: how it learns.
    """

    hidden: tuple[int, ...] = bounded((64, 64), 1, 4096)
    teacher: Path | None = None
    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=60))


@dataclass(frozen=True)
class PruneConfig:
    """Weights or channels are taken out, in rounds, with learning between.

    Attributes:
        share: of the weights (``unstructured``) or of each hidden layer's channels that go, 0 to 1.
        by: what counts as little: the ``weight`` itself, the loss's change to first order when it
            goes (``gradient``: Molchanov et al., 2017), or what it contributes on recorded
            observations (``activation``: Sun et al., 2023: |weight| times the input's norm).
        structure: single weights, which leaves sizes and speed as they are and only makes the file
            compress better, or whole channels, which leaves a smaller network.
        rounds: the share is reached in equal steps.
        fit: after each round.
    """

    share: float = bounded(0.5, 0.0, 0.99)
    by: Literal["weight", "gradient", "activation"] = "weight"
    structure: Literal["unstructured", "channel"] = "channel"
    rounds: int = bounded(3, 1, 100)
    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=5))


@dataclass(frozen=True)
class LowRankConfig:
    """Each wide layer becomes two thin ones, by singular value decomposition.

    Attributes:
        energy: share of the squared singular values that is kept, weighed by the layer's inputs on
            recorded observations; the rank follows.
        rank: at most; None for no bound. Layers that would not get smaller stay.
        fit: afterwards.
    """

    energy: float = bounded(0.99, 0.0, 1.0)
    rank: int | None = bounded(None, 1, 4096)
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass(frozen=True)
class QatConfig:
    """Quantization-aware training: rounding takes part, and the gradient passes through it.

    Weights are rounded to int8 per channel, the inputs of each layer to uint8 with ranges that
    follow what is seen. The graph gets these very ranges, so that what was trained is what runs.

    Attributes:
        float_layers: layers that stay fp32, as in ``QuantizeConfig``.
        observer_decay: of the running ranges.
        reduce_range: 7-bit weights, for processors without VNNI.
        fit: how it learns.
        max_mean_error: as in ``QuantizeConfig``.
    """

    float_layers: tuple[Literal["first", "last"], ...] = ("first", "last")
    observer_decay: float = bounded(0.99, 0.0, 1.0)
    reduce_range: bool = False
    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=20, learning_rate=3e-4))
    max_mean_error: float = bounded(0.05, 0.0, 1.0)


@dataclass(frozen=True)
class Step:
    """One step; just one of these is given.

    Attributes:
        distill: see :class:`DistillConfig`.
        prune: see :class:`PruneConfig`.
        low_rank: see :class:`LowRankConfig`.
        qat: see :class:`QatConfig`; the last step.
        ptq: post-training quantization; the last step.
    """

    distill: DistillConfig | None = None
    prune: PruneConfig | None = None
    low_rank: LowRankConfig | None = None
    qat: QatConfig | None = None
    ptq: QuantizeConfig | None = None

    def __post_init__(self) -> None:
        if len(self._given()) != 1:
            names = ", ".join(f.name for f in fields(self))
            raise ConfigError(f"a step is one of {names}, got {self._given() or 'none'}")

    def _given(self) -> list[str]:
        return [f.name for f in fields(self) if getattr(self, f.name) is not None]

    @property
    def kind(self) -> str:
        """Which one."""
        return self._given()[0]

    @property
    def config(self) -> Any:
        """Its configuration."""
        return getattr(self, self.kind)


@dataclass(frozen=True)
class Recipe:
    """Steps in their order; ``configs/compress/*.yaml``.

    Attributes:
        about: one line for people.
        steps: an int8 step (``ptq``, ``qat``) can only be the last; without one the policy that
            acts stays fp32.
    """

    about: str = ""
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        for step in self.steps[:-1]:
            if step.kind in ("ptq", "qat"):
                raise ConfigError(f"steps: {step.kind} makes the policy int8 and must be the last")

    @property
    def digest(self) -> str:
        """Twelve hex digits that change with what is done."""
        return digest(self.steps)

    @property
    def quantizes(self) -> bool:
        """Whether the policy that acts becomes int8."""
        return bool(self.steps) and self.steps[-1].kind in ("ptq", "qat")


def load_recipe(file: Path) -> Recipe:
    """Read and check one."""
    return load(Recipe, file)


def named(name: str) -> tuple[str, Recipe]:
    """A recipe by the name of one in ``configs/compress``, or by a YAML file; its name beside."""
    file = Path(name) if name.endswith((".yaml", ".yml")) else find("compress", name)
    return file.stem, load_recipe(file)
