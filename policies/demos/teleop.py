"""A person drives the simulated arm, and what comes of it becomes demonstrations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.demos.describe import describe_env
from policies.demos.devices import Device, Word
from policies.demos.layout import INFO
from policies.demos.record import RecordResult, next_attempt
from policies.demos.writer import DemoWriter
from policies.evaluation.rollouts import Behaviour, Episode, episode_seeds, run_episode
from policies.evaluation.specs import ActorSpec, EnvSpec
from robot.errors import SteadyhandError
from robot.execution.action import DEFAULT_SCALE, ActionScale
from robot.observation import SIZE, part

Floats = NDArray[np.float32]

_PERSON = ActorSpec("person")
_OPEN = part("candidate_opening")


@dataclass(frozen=True)
class View:
    """What a person is shown each step.

    Attributes:
        episode: number it would get in the set.
        step: of the episode.
        to_go: (4,) m and rad along the grasp frame's x, y and z and about its z, to the candidate.
        height_m: of the tool above the table.
        opening_m, force_n: of the fingers.
        success: of a finished episode; None while it runs.
        waiting: it ended by itself, and the person is to say whether it is kept.
    """

    episode: int
    step: int
    to_go: NDArray[np.float64]
    height_m: float
    opening_m: float
    force_n: float
    success: bool | None = None
    waiting: bool = False


def view(observation: Floats, episode: int, step: int) -> View:
    """The view of an observation, (n_obs,)."""
    position = observation[part("tool_position")].astype(float)
    yaw = float(observation[part("tool_yaw")][0])
    return View(
        episode,
        step,
        np.array([*-position, -yaw]),
        # The grasp frame's z points down.
        float(observation[part("grasp_height")][0] - position[2]),
        float(observation[part("opening")][0]),
        float(observation[part("force")][0]),
    )


class _Said(Exception):
    def __init__(self, word: Word) -> None:
        super().__init__(word)
        self.word = word


class Person:
    """A person as an actor: commands become actions, and the opening is remembered.

    Args:
        device: where commands come from.
        show: called with what each observation tells.
        scale: what an action of 1 means.
    """

    def __init__(
        self,
        device: Device,
        show: Callable[[View], None] | None = None,
        scale: ActionScale = DEFAULT_SCALE,
    ) -> None:
        self._device, self._show, self._scale = device, show, scale
        self.episode = 0
        self.reset()

    def reset(self) -> None:
        """Forget the last episode; the fingers start as open as the candidate wants them."""
        self._opening: float | None = None
        self._step = 0
        self.finished = False
        self.last: View | None = None

    def act(self, observation: Floats) -> Floats:
        """The action (5,) float32 of the next command."""
        self.last = view(observation, self.episode, self._step)
        if self._show is not None:
            self._show(self.last)
        open_wide = 2 * float(observation[_OPEN][0]) / self._scale.opening_m - 1
        if self._opening is None:
            self._opening = open_wide
        command = self._device.read()
        if command.word in ("discard", "quit"):
            raise _Said(command.word)
        self.finished = command.word == "finish"
        if command.toggle:
            self._opening = -1.0 if self._opening > -1.0 else open_wide
        self._opening = min(max(self._opening + command.open_by, -1.0), 1.0)
        self._step += 1
        return np.array([*command.motion, self._opening], dtype=np.float32)


class _Stage:
    """The environment, which also ends when the person says so."""

    def __init__(self, env: Any, person: Person) -> None:
        self._env, self._person = env, person
        self.action_space = env.action_space

    def reset(self, seed: int) -> Any:
        return self._env.reset(seed=seed)

    def step(self, action: Floats) -> Any:
        observation, reward, terminated, truncated, info = self._env.step(action)
        return observation, reward, terminated, truncated or self._person.finished, info


def teleoperate(
    root: Path | str,
    env: EnvSpec,
    device: Callable[[Any], Device],
    episodes: int,
    seed: int = 0,
    show: Callable[[View], None] | None = None,
    gui: bool = False,
) -> RecordResult:
    """Let a person demonstrate until the set in ``root`` holds ``episodes``, or they quit.

    An episode that is neither finished by the person nor by the environment is not kept, nor is
    one that the person discards; what is kept is on the disk before the next begins.

    Args:
        root: folder of the set, made with the first episode that is kept.
        env: a grasp environment.
        device: makes the device, given the environment.
        episodes: kept ones that the set shall hold in the end.
        seed: fixes the scenes; the i-th attempt depends on it and on i alone.
        show: called each step, and once more when an episode is over.
        gui: show Bullet's window.

    Raises:
        SteadyhandError: the environment is none of a grasp, or the set cannot be written.
    """
    root = Path(root)
    spec = describe_env(env)
    if len(spec.observation_names) != SIZE:
        raise SteadyhandError(f"{env.id}: a person can drive the grasp environments only")
    writer = DemoWriter(root, spec) if (root / INFO).exists() else None
    attempt = start = 0 if writer is None else next_attempt(root, seed)
    successes = 0
    if gui:
        env = replace(env, kwargs={**env.kwargs, "render_mode": "human"})
    world = env.make()
    try:
        with device(world) as opened:
            person = Person(opened, show)
            stage = _Stage(world, person)
            while writer is None or writer.episodes < episodes:
                person.episode = 0 if writer is None else writer.episodes
                number = next(episode_seeds(seed, attempt))
                episode, word = _attempt(stage, person, opened, number, show)
                if word == "quit":
                    break
                if episode is not None and word == "finish":
                    writer = writer or DemoWriter(root, spec)
                    writer.add(episode, source="person", attempt=attempt, record_seed=seed)
                    successes += bool(episode.success)
                attempt += 1
    finally:
        world.close()
        if writer is not None:
            writer.finalize()
    kept, frames = (0, 0) if writer is None else (writer.episodes, writer.frames)
    return RecordResult(kept, frames, attempt - start, successes, start)


def _attempt(
    stage: _Stage,
    person: Person,
    device: Device,
    seed: int,
    show: Callable[[View], None] | None,
) -> tuple[Episode | None, Word]:
    """One episode, and whether it is to be kept (``finish``)."""
    try:
        episode = run_episode(stage, person, None, Behaviour(_PERSON, record=True), seed)
    except _Said as said:
        return None, said.word
    if person.last is not None and show is not None:
        waiting = not person.finished
        last = replace(
            person.last, step=episode.length, success=bool(episode.success), waiting=waiting
        )
        show(last)
    return episode, "finish" if person.finished else device.wait()
