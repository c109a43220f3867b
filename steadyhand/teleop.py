"""``steadyhand demos teleop``: a person demonstrates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import numpy as np
import typer

from policies.demos.devices import Device, Gamepad, KeyFile, Terminal
from policies.evaluation.specs import EnvSpec
from robot.errors import ConfigError
from steadyhand.console import ERR, Json, Seed, emit

if TYPE_CHECKING:
    from policies.demos.teleop import View

RATE_HZ = 20.0
STDIN = 0
HELP = (
    "w s x · a d y · f r down, up · j l turn (capitals: fast) · space closes or opens · "
    "\\[ ] a little · enter keeps · backspace discards · q quits"
)


def teleop(
    out: Annotated[Path, typer.Option("--out", help="Folder of the data set; goes on.")],
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to keep, at most.")] = 10,
    env: Annotated[str, typer.Option("--env", help="Gymnasium id.")] = "Steadyhand/GraspSingle-v0",
    objects: Annotated[str, typer.Option(help="Object set; train for training.")] = "train",
    physics: Annotated[str, typer.Option(help="nominal, hard or mixed.")] = "nominal",
    timeout: Annotated[float, typer.Option(min=1.0, max=60.0, help="s an episode.")] = 60.0,
    gamepad: Annotated[
        Optional[Path],  # noqa: UP045 (typer reads the annotation at run time)
        typer.Option("--gamepad", help="A gamepad's device, as /dev/input/js0."),
    ] = None,
    keys: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--keys", help="File of key presses, a line a step, instead of a person."),
    ] = None,
    gui: Annotated[bool, typer.Option("--gui", help="Bullet's window; needs a display.")] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Demonstrations by a person who drives the simulated arm by keyboard or gamepad."""
    from policies.demos.teleop import teleoperate

    if gamepad is not None and keys is not None:
        raise ConfigError("demos teleop: give one of --gamepad, --keys")
    if gui and not os.environ.get("DISPLAY"):
        raise ConfigError("gui: no display found (DISPLAY is not set); leave --gui out")

    # What is wrong with the device is said before the simulation starts.
    driver: Device | None = None
    if keys is not None:
        driver = KeyFile(keys)
    elif gamepad is not None:
        driver = Gamepad(gamepad, RATE_HZ)
    elif not os.isatty(STDIN):
        raise ConfigError(
            "demos teleop: standard input is no terminal; use --keys FILE or --gamepad DEVICE"
        )

    def device(world: Any) -> Device:
        return driver or Terminal(STDIN, RATE_HZ, world.unwrapped.world.keys)

    live = keys is None and ERR.is_terminal
    if live:
        ERR.print(HELP, highlight=False)
    spec = EnvSpec(env, {"objects": objects, "physics": physics, "timeout_s": timeout})
    result = teleoperate(out, spec, device, episodes, seed, _show if live else None, gui)
    emit(
        {
            "out": str(out),
            "episodes": result.episodes,
            "frames": result.frames,
            "attempts": result.attempts,
            "successes": result.successes,
            "seed": seed,
        },
        json,
        f"demonstrations in {out}",
    )


def _show(view: View) -> None:
    # Over the line before, cut where the terminal is narrow: a second line could not be taken back.
    end = "\r" if view.success is None else "\n"
    ERR.print(line(view).ljust(79), end=end, highlight=False, no_wrap=True, overflow="crop")


def line(view: View) -> str:
    """What a person sees of a step, in one line of at most 79 characters."""
    if view.success is not None:
        text = f"episode {view.episode}: {view.step} steps, {'' if view.success else 'no '}success"
        return f"{text}: enter or backspace?" if view.waiting else text
    x, y, z = (1000 * view.to_go[:3]).round().astype(int)
    return (
        f"step {view.step:3d} · x {x:+4d} y {y:+4d} down {z:+4d} mm turn "
        f"{np.degrees(view.to_go[3]):+4.0f}° · high {1000 * view.height_m:3.0f} "
        f"open {1000 * view.opening_m:2.0f} mm {view.force_n:3.0f} N"
    )
