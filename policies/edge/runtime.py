"""A policy as it runs beside the robot: ONNX Runtime and NumPy, nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from perception.session import SessionConfig, open_session
from policies.edge.chunks import ChunkMemory
from policies.edge.metadata import PolicyMetadata, robot_observation
from robot.errors import SafetyError, SteadyhandError

if TYPE_CHECKING:
    from policies.bundle.format import Bundle

Floats = NDArray[np.float32]

ROLES = {"int8": "policy", "fp32": "policy_fp32"}


class EdgePolicy:
    """The shipped policy; implements ``robot.interface.Policy``.

    Input and output are bound once to memory that stays; ``act`` copies one vector in and one out,
    and makes no array where it is given one for the action. The memory is the policy's own: one
    thread at a time.

    A NaN in an observation comes out of the network as NaN in every number of the action (the
    clip passes it on), and infinity would be clipped to a plausible action. Neither may reach a
    robot: ``act`` raises instead.

    Args:
        source: a ``Bundle``, a bundle's folder, or one ``.onnx`` file.
        precision: which of a bundle's policies, "int8" or "fp32".
        session: on what it runs; one thread of the processor if left out.
        names: the names of the observations that will be given; those of ``robot.observation``
            when left out, and then actions, scale, rates and frames are checked too. A policy made
            for others is refused.
        units: their units, checked where given.
    """

    def __init__(
        self,
        source: Bundle | Path | str,
        precision: str = "int8",
        session: SessionConfig | None = None,
        *,
        names: Sequence[str] | None = None,
        units: Sequence[str] = (),
    ) -> None:
        if precision not in ROLES:
            raise SteadyhandError(f"precision: expected one of {sorted(ROLES)}, got {precision!r}")
        model, self._name = _model(source, precision)
        self._session = open_session(model, self._name, session)
        props = self._session.get_modelmeta().custom_metadata_map
        self.metadata = PolicyMetadata.from_props(props, self._name)
        ours = names is None
        if names is None:
            names, units = robot_observation()
        rows = self.metadata.rows_in(names, units, self._name)
        if ours:
            self.metadata.must_act_here(self._name)
        self._rows = None if rows == tuple(range(len(names))) else np.array(rows, dtype=np.intp)
        self._made = (len(names),)
        n_obs, n_act = len(self.metadata.observation_names), len(self.metadata.action_names)
        chunking = self.metadata.chunking
        shape_in: tuple[int, ...] = (n_obs,)
        shape_out: tuple[int, ...] = (n_act,)
        if chunking is not None:
            shape_in, shape_out = (chunking.history, n_obs), (chunking.horizon, n_act)
        _check_shapes(self._session, shape_in, shape_out, self._name)
        self._memory = None if chunking is None else ChunkMemory(chunking, n_obs, n_act)
        self._input = np.zeros((1, *shape_in), dtype=np.float32)
        self._row = self._input[0]
        self._output = np.zeros((1, *shape_out), dtype=np.float32)
        self._result = self._output[0]
        self._binding = self._session.io_binding()
        self._held = (
            ort.OrtValue.ortvalue_from_numpy(self._input),
            ort.OrtValue.ortvalue_from_numpy(self._output),
        )
        self._binding.bind_ortvalue_input("observation", self._held[0])
        self._binding.bind_ortvalue_output("action", self._held[1])
        # A device with memory of its own gets its copy of the input when that is bound.
        self._copies = self._session.get_providers()[0] != "CPUExecutionProvider"
        self._shape = (n_obs,)
        for _ in range(3):  # warm-up: the first runs allocate and plan
            self.act(np.zeros(n_obs, dtype=np.float32))
        self.reset()

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return self._shape[0]

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return int(self._result.shape[-1])

    def reset(self) -> None:
        """Forget the previous episode, where the policy has a memory at all."""
        if self._memory is not None:
            self._memory.reset()

    def act(self, observation: Floats, out: Floats | None = None) -> Floats:
        """(n_obs,) float32 to (n_act,) float32 in [-1, 1].

        Where the policy sees less than this robot makes, the robot's whole observation will do.

        Args:
            observation: (n_obs,) float32.
            out: (n_act,) float32 that takes the action; a fresh array if left out.

        Raises:
            SafetyError: what the policy sees of it holds NaN or infinity.
            SteadyhandError: it has another shape.
        """
        if observation.shape == self._made:
            if self._rows is not None:
                observation = observation[self._rows]
        elif observation.shape != self._shape:
            raise SteadyhandError(
                f"{self._name}: expected an observation of shape {self._shape}, "
                f"got {observation.shape}"
            )
        # One number tells: a NaN or an infinity anywhere makes the sum of squares not finite.
        if not math.isfinite(observation.dot(observation)):
            bad = np.flatnonzero(~np.isfinite(observation))
            where = self.metadata.observation_names[int(bad[0])] if bad.size else "a huge number"
            raise SafetyError(f"{self._name}: the observation is not finite at {where!r}")
        self._row[:] = observation if self._memory is None else self._memory.see(observation)
        if self._copies:
            self._binding.bind_ortvalue_input("observation", self._held[0])
        self._session.run_with_iobinding(self._binding)
        if self._copies:
            self._binding.synchronize_outputs()
        action = self._result if self._memory is None else self._memory.blend(self._result)
        if out is None:
            return action.copy()
        out[:] = action
        return out


def _model(source: Bundle | Path | str, precision: str) -> tuple[bytes, str]:
    """The model's bytes and a name for messages."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_file():
            return path.read_bytes(), path.name
        from policies.bundle.format import Bundle as Reader

        source = Reader.load(path)
    role = ROLES[precision]
    return source.model(role), f"{source.root.name}/{role}"


def _check_shapes(
    session: ort.InferenceSession, taken: tuple[int, ...], given: tuple[int, ...], name: str
) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [i.name for i in inputs] != ["observation"] or [o.name for o in outputs] != ["action"]:
        raise SteadyhandError(
            f"{name}: expected one input 'observation' and one output 'action', got "
            f"{[i.name for i in inputs]} and {[o.name for o in outputs]}"
        )
    for value, shape in ((inputs[0], taken), (outputs[0], given)):
        if tuple(value.shape[1:]) != shape or value.type != "tensor(float)":
            raise SteadyhandError(
                f"{name}: {value.name} is {value.type} {value.shape}, "
                f"expected float [batch, {', '.join(map(str, shape))}]"
            )
