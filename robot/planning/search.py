"""Searching free paths through joint space, and making them short and round."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robot.planning.timing import Curve

Array = NDArray[np.float64]
Free = Callable[[Array], bool]

# Rounded corners tighter than this are left out: the arm stops there instead.
_TIGHTEST_RAD = 0.02
# The longest step of a search.
_RANGE_RAD = 0.8
# What is not found in so many rounds lies in a narrow place, as a rule.
_AT_ONCE_ROUNDS = 200
# There the first way found is a crooked one, more often than not, as is elsewhere one that is so
# many times as long as the straight line: the shortest of so many is taken.
_CROOKED, _WAYS_N, _AGAIN_ROUNDS = 1.5, 3, 2000
_ROUGHER = 2.0  # a search's steps over those at which what it finds is looked at again
# Shortening ends after so many tries in a row that saved less than this share of the length.
_IN_VAIN, _WORTHWHILE = 25, 0.01


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to search: what counts as free, and the steps over the resolution.

    Attributes:
        judge: ``hulls``: with extra room, by the links' hulls alone, which is quick; ``roomy``:
            with extra room; ``tight``: without.
        steps: between points that are looked at, in the search and while shortening.
        closely: the same for the timed motion, which has the last word.
    """

    judge: Literal["hulls", "roomy", "tight"]
    steps: float
    closely: float


# Between two checked points a corner of the arm may still graze something. So the first searches
# keep extra room (except close to an end that has none), the next ones do without it in finer
# steps, and the samples of the motion have the last word.
ATTEMPTS = (
    Attempt("hulls", 1.5, 1.0),
    Attempt("roomy", 1.0, 0.5),
    Attempt("roomy", 0.5, 0.5),
    Attempt("tight", 0.5, 0.5),
    Attempt("roomy", 0.25, 0.25),
    Attempt("tight", 0.25, 0.25),
)


def thinned(q: Array, step_rad: float) -> Array:
    """(m, n) of samples (k, n) rad: without those nearer than a step to one that is kept."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(q, axis=0), axis=1))])
    kept = np.searchsorted(way, np.arange(0.0, way[-1], step_rad))
    return np.asarray(q[np.unique(np.append(kept, len(q) - 1))])


def both(one: Free, other: Free) -> Free:
    """Free by both."""
    return lambda q: one(q) and other(q)


def line_contact(a: Array, b: Array, free: Free, resolution_rad: float) -> Array | None:
    """The first checked point of a joint-space line that is not free, or None.

    Points are at most ``resolution_rad`` (Euclidean, rad) apart; both ends are checked.
    """
    n = max(1, math.ceil(float(np.linalg.norm(b - a)) / resolution_rad))
    # Middles of what is left first: most lines that are not free are found out soon.
    for q in a + (b - a) * (_spread(n)[:, None] / n):
        if not free(q):
            return np.asarray(q)
    return None


@functools.lru_cache(maxsize=512)
def _spread(n: int) -> Array:
    """0 to n: the ends, the middle, the quarters, and so on."""
    power = 1 << (n - 1).bit_length()
    order = [0, n]
    while power > 1:
        order += range(power // 2, n, power)
        power //= 2
    return np.array(order, dtype=np.float64)


def way(
    start: Array,
    goal: Array,
    free: Free,
    bounds: tuple[Array, Array],
    resolution_rad: float,
    time_s: float,
    seed: int,
    tries: int,
    rounds: float = math.inf,
) -> list[Array] | None:
    """Waypoints of a short free path, or None when there was none in time.

    Args:
        start: (n,) rad.
        goal: (n,) rad.
        free: whether joints are valid.
        bounds: (n,) and (n,) rad, lower and upper, of the search.
        resolution_rad: distance between checked points.
        time_s: begin no further search after this long.
        seed: the same seed gives the same path.
        tries: of shortening each way.
        rounds: of a search, at most; few of them find one way, or none.
    """
    until = time.monotonic() + time_s
    found: list[list[Array]] = []

    def another(number: int, most: float, narrow: bool = False) -> bool:
        left_s, rough = until - time.monotonic(), _ROUGHER * resolution_rad
        path = connect(start, goal, free, *bounds, rough, left_s, seed + number, most, narrow)
        if path is None:
            return False
        rng = np.random.default_rng(seed + number)
        short = shortcut(path, free, resolution_rad, tries, rng)
        if short is not None:
            found.append(short)
        return True

    few = min(rounds, _AT_ONCE_ROUNDS)
    if another(0, few):
        enough = _CROOKED * float(np.linalg.norm(goal - start))
        for number in range(1, _WAYS_N if rounds > few else 1):
            if found and min(map(length, found)) <= enough:
                break
            another(number, few)
    elif rounds > few:
        for number in range(_WAYS_N):
            if not another(number, rounds if number == 0 else _AGAIN_ROUNDS, narrow=True):
                break
    return min(found, key=length, default=None)


def connect(
    start: Array,
    goal: Array,
    free: Free,
    lower_rad: Array,
    upper_rad: Array,
    resolution_rad: float,
    time_s: float,
    seed: int,
    rounds: float = math.inf,
    narrow: bool = False,
) -> list[Array] | None:
    """Waypoints of a free path by one of OMPL's planners, or None when there was none in time.

    RRTConnect is the quicker one in the open. Where the way leads out of a narrow place nearly all
    of its steps end at a wall; LBKPIECE grows both its trees where they have hardly been, by what
    is free at once, and finds such ways many times sooner.

    Args:
        start: (n,) rad.
        goal: (n,) rad.
        free: whether joints are valid.
        lower_rad: (n,) bounds of the search.
        upper_rad: (n,) bounds of the search.
        resolution_rad: distance between checked points.
        time_s: give up after this long.
        seed: the same seed gives the same path.
        rounds: give up after so many; unlike time, they are the same on any machine.
        narrow: search by LBKPIECE.
    """
    # Loading OMPL takes a while, and most motions are straight lines.
    from ompl import base, geometric, util

    util.noOutputHandler()
    util.RNG.setSeed(seed % (2**31 - 1) + 1)  # OMPL takes 0 for "no seed"
    n = len(start)
    space = base.RealVectorStateSpace(n)
    bounds = base.RealVectorBounds(n)
    for i in range(n):
        bounds.setLow(i, float(lower_rad[i]))
        bounds.setHigh(i, float(upper_rad[i]))
    space.setBounds(bounds)
    setup = geometric.SimpleSetup(space)
    setup.setStateValidityChecker(lambda s: free(np.array([s[i] for i in range(n)])))
    info = setup.getSpaceInformation()
    info.setStateValidityCheckingResolution(resolution_rad / space.getMaximumExtent())
    ends = [space.allocState(), space.allocState()]
    for state, values in zip(ends, (start, goal), strict=True):
        for i in range(n):
            state[i] = float(values[i])
    setup.setStartAndGoalStates(*ends)
    planner = geometric.LBKPIECE1(info) if narrow else geometric.RRTConnect(info)
    planner.setRange(_RANGE_RAD)
    setup.setPlanner(planner)
    deadline, asked = time.monotonic() + time_s, itertools.count(1)
    setup.solve(
        base.PlannerTerminationCondition(
            lambda: next(asked) > rounds or time.monotonic() > deadline
        )
    )
    if not setup.haveExactSolutionPath():
        return None
    states = setup.getSolutionPath().getStates()
    path = [np.array([s[i] for i in range(n)]) for s in states]
    path[0], path[-1] = start, goal
    return path


def shortcut(
    path: list[Array], free: Free, resolution_rad: float, tries: int, rng: np.random.Generator
) -> list[Array] | None:
    """A shorter free path between the same ends, by cutting across between random points.

    Returns:
        None where the path, looked at this closely, is not free.
    """
    pruned = _pruned(path, free, resolution_rad)
    if pruned is None:
        return None
    path, in_vain = pruned, 0
    for _ in range(tries):
        if len(path) <= 2 or in_vain >= _IN_VAIN:
            break
        in_vain += 1
        lengths = np.array(_lengths(path))
        ends = np.concatenate([[0.0], np.cumsum(lengths)])
        low, high = np.sort(rng.uniform(0.0, ends[-1], 2))
        i = int(np.searchsorted(ends, low, side="right")) - 1
        j = min(int(np.searchsorted(ends, high, side="right")) - 1, len(lengths) - 1)
        if i == j:
            continue
        a = path[i] + (path[i + 1] - path[i]) * ((low - ends[i]) / lengths[i])
        b = path[j] + (path[j + 1] - path[j]) * ((high - ends[j]) / lengths[j])
        if line_contact(a, b, free, resolution_rad) is None:
            path = [*path[: i + 1], a, b, *path[j + 1 :]]
            saved = float(ends[-1]) - length(path)
            if saved > _WORTHWHILE * ends[-1]:
                in_vain = 0
    return _pruned(path, free, resolution_rad)


def length(path: list[Array]) -> float:
    """Of a polyline, rad."""
    return sum(_lengths(path))


def _lengths(path: list[Array]) -> list[float]:
    return [float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(path)]


def _pruned(path: list[Array], free: Free, resolution_rad: float) -> list[Array] | None:
    """Leave out every waypoint that a straight line can skip, farthest skips first.

    Returns:
        None where a line between two neighbours is not free.
    """
    kept, i = [path[0]], 0
    while i < len(path) - 1:
        j = len(path) - 1
        while line_contact(path[i], path[j], free, resolution_rad) is not None:
            j -= 1
            if j == i:
                return None
        kept.append(path[j])
        i = j
    return kept


def corners_rounded(
    path: list[Array], free: Free, blend_rad: float, resolution_rad: float
) -> tuple[Curve, list[tuple[float, float, bool]]] | None:
    """A smooth curve along a polyline: straight lines, and quintic arcs around the corners.

    An arc begins and ends equally far from its corner with no curvature. Where no arc is free the
    corner stays and the arm has to stop there.

    Args:
        path: waypoints, rad; repeated ones are left out.
        free: whether joints are valid; the arcs are checked with it.
        blend_rad: begin an arc at most this far from its corner.
        resolution_rad: distance between checked points.

    Returns:
        The curve and its spans (start, end, whether it is an arc), or None for a single point.
    """
    points = [path[0]]
    for point in path[1:]:
        if np.linalg.norm(point - points[-1]) > 1e-9:
            points.append(point)
    if len(points) < 2:
        return None
    steps = [b - a for a, b in itertools.pairwise(points)]
    lengths = [float(np.linalg.norm(step)) for step in steps]
    ways = [step / length for step, length in zip(steps, lengths, strict=True)]

    s = [0.0]
    q, dq = [points[0]], [ways[0]]
    spans: list[tuple[float, float, bool]] = []
    left = 0.0  # of the current line that the arc before it has used
    for i in range(1, len(points)):
        radius = 0.0
        if i < len(points) - 1:
            room = min(blend_rad, 0.49 * lengths[i - 1], 0.49 * lengths[i])
            radius = _arc(points[i], ways[i - 1], ways[i], room, free, resolution_rad)
        end = s[-1] + lengths[i - 1] - left - radius
        spans.append((s[-1], end, False))
        s, q, dq = [*s, end], [*q, points[i] - radius * ways[i - 1]], [*dq, ways[i - 1]]
        left = radius
        if i == len(points) - 1:
            break
        # An arc of no size would be two knots in one place; a stop needs a knot for each side.
        span = 2.0 * radius if radius > 0 else 0.0
        s, q, dq = [*s, end + span], [*q, points[i] + radius * ways[i]], [*dq, ways[i]]
        if radius > 0:
            spans.append((end, end + span, True))
    q[-1] = points[-1]
    knots = np.array(q)
    return Curve(np.array(s), knots, np.array(dq), np.zeros_like(knots)), spans


def _arc(
    corner: Array, before: Array, after: Array, room: float, free: Free, resolution_rad: float
) -> float:
    """How far from the corner the largest free arc begins; 0 when there is none."""
    radius = room
    while radius >= _TIGHTEST_RAD:
        q = np.array([corner - radius * before, corner + radius * after])
        arc = Curve(np.array([0.0, 2 * radius]), q, np.array([before, after]), np.zeros_like(q))
        n = max(2, math.ceil(2 * radius / resolution_rad))
        if all(free(p) for p in arc.evaluate(np.linspace(0, 2 * radius, n + 1))[0]):
            return radius
        radius *= 0.6
    return 0.0
