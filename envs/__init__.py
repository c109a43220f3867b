"""The simulated arm, world, cameras and Gymnasium environments."""

from gymnasium.envs.registration import register, registry

_KWARGS: dict[str, dict[str, float]] = {
    "Steadyhand/GraspSingle-v0": {"n_objects": 1},
    "Steadyhand/GraspClutter-v0": {"n_objects": 5, "drop_area_m": 0.12},
}

for _id, _kwargs in _KWARGS.items():
    if _id not in registry:
        register(_id, entry_point="envs.grasp_env:GraspEnv", kwargs=_kwargs)
