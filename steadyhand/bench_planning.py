"""``steadyhand bench planning``: paths among obstacles, beside another planner."""

from __future__ import annotations

from typing import Annotated

import typer

from steadyhand.console import Json, Robot, Seed, emit, progress


def planning(
    scenes: Annotated[int, typer.Option(min=1, help="Of four kinds, in turn.")] = 40,
    robot: Robot = "panda",
    longest_s: Annotated[
        float, typer.Option(min=0.1, help="Time for the other planner, and for the best motion.")
    ] = 5.0,
    alone: Annotated[
        bool, typer.Option("--alone", help="Neither of these; to drive many motions.")
    ] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Planning time, share solved and length of motion; Bullet drives and judges each."""
    from envs.planning_speed import measure_planning
    from robot.limits import load_limits

    limits = load_limits(robot)
    with progress(f"planning {limits.name}", scenes) as bar:
        result = measure_planning(
            limits,
            scenes,
            seed,
            longest_s,
            lambda n: bar.update(bar.task_ids[0], completed=n),
            alone,
        )
    result |= {"robot": limits.name, "longest_s": longest_s, "seed": seed}
    emit(result, json, f"planning with {limits.name}: {scenes} scenes, one thread")
