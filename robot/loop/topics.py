"""Every topic of the loop: its type, and what its queues do when the reader is slow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robot.loop import publisher as names

Keep = Literal["latest", "all", "newest"]
"""``latest``: a newer message takes the place of one not yet read: sensors. ``all``: none is lost;
a full queue is a fault that whoever sends is told: commands. ``newest``: a full queue lets go of
its oldest message, and counts it: what is only recorded or shown."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the loop uses it.

    Attributes:
        type_name: of its messages.
        keep: what its queues do; see :data:`Keep`.
        depth: messages that a queue holds.
    """

    type_name: str
    keep: Keep
    depth: int


ARM = "/arm_controller/follow_joint_trajectory"
HAND = "/gripper_controller/gripper_cmd"
GRASP_ACTION = "/grasp"
PICK_ACTION = "/pick"
LOOK_SERVICE = "/perception/look"
HEIGHTS = "/perception/height_map"
SCENE = "/plan/scene"
POLICY_BEGIN = "/policy/begin"
"""A grasp begins: the policy forgets the one before. By name it sorts before the observation, and
so in a recording, where both have one stamp."""
WATCH = "/perception/watch"
WATCHED = "/perception/watched"
WATCHING = "/perception/watching"
EXPOSURE = "/camera/joint_states"
OBJECT_POSES = "/simulation/objects"
TIMING = "/timing"
READY = "/ready"
EPISODE = "/episode"
ESTOP = "/safety/estop"
BARRIER = "/barrier"
TARGET = "/target"
STOP = "/stop"


def goal_topic(action: str) -> str:
    """Where an action's goals go."""
    return f"{action}/_action/send_goal"


def result_topic(action: str) -> str:
    """Where its results come from."""
    return f"{action}/_action/get_result"


def feedback_topic(action: str) -> str:
    """Where its feedback comes from."""
    return f"{action}/_action/feedback"


def _action(action: str, type_name: str) -> dict[str, Topic]:
    return {
        goal_topic(action): Topic(f"{type_name}_SendGoal_Request", "all", 16),
        result_topic(action): Topic(f"{type_name}_GetResult_Response", "all", 64),
        feedback_topic(action): Topic(f"{type_name}_FeedbackMessage", "newest", 256),
    }


TOPICS: dict[str, Topic] = {
    names.JOINT_STATES: Topic("sensor_msgs/msg/JointState", "newest", 2048),
    names.JOINT_COMMAND: Topic("sensor_msgs/msg/JointState", "newest", 2048),
    names.GRIPPER_COMMAND: Topic("control_msgs/msg/GripperCommand", "newest", 2048),
    names.WRENCH: Topic("geometry_msgs/msg/WrenchStamped", "newest", 2048),
    names.TWIST: Topic("geometry_msgs/msg/TwistStamped", "newest", 2048),
    names.TF: Topic("tf2_msgs/msg/TFMessage", "newest", 2048),
    names.DIAGNOSTICS: Topic("diagnostic_msgs/msg/DiagnosticArray", "newest", 256),
    names.OBJECTS: Topic("vision_msgs/msg/Detection3DArray", "all", 64),
    names.OBSERVATION: Topic("std_msgs/msg/Float32MultiArray", "all", 256),
    names.ACTION: Topic("std_msgs/msg/Float32MultiArray", "all", 256),
    names.PHASE: Topic("std_msgs/msg/String", "all", 256),
    names.EVENTS: Topic("std_msgs/msg/String", "all", 256),
    names.PICKS: Topic("std_msgs/msg/String", "all", 256),
    POLICY_BEGIN: Topic("builtin_interfaces/msg/Time", "all", 16),
    HEIGHTS: Topic("grid_map_msgs/msg/GridMap", "all", 8),
    SCENE: Topic("vision_msgs/msg/Detection3DArray", "all", 64),
    WATCH: Topic("vision_msgs/msg/Detection3DArray", "all", 16),
    WATCHED: Topic("vision_msgs/msg/Detection3DArray", "newest", 64),
    WATCHING: Topic("vision_msgs/msg/Detection3DArray", "newest", 16),
    EXPOSURE: Topic("sensor_msgs/msg/JointState", "latest", 1),
    OBJECT_POSES: Topic("tf2_msgs/msg/TFMessage", "latest", 1),
    TIMING: Topic("diagnostic_msgs/msg/DiagnosticArray", "latest", 1),
    READY: Topic("std_msgs/msg/String", "all", 16),
    EPISODE: Topic("std_msgs/msg/String", "all", 16),
    ESTOP: Topic("std_msgs/msg/String", "all", 16),
    BARRIER: Topic("builtin_interfaces/msg/Time", "all", 64),
    TARGET: Topic("geometry_msgs/msg/PoseStamped", "latest", 1),
    STOP: Topic("std_msgs/msg/String", "all", 4),
    f"{LOOK_SERVICE}/_request": Topic("steadyhand_msgs/srv/Look_Request", "all", 16),
    f"{LOOK_SERVICE}/_reply": Topic("steadyhand_msgs/srv/Look_Response", "all", 16),
    **_action(ARM, "control_msgs/action/FollowJointTrajectory"),
    **_action(HAND, "control_msgs/action/GripperCommand"),
    **_action(GRASP_ACTION, "steadyhand_msgs/action/Grasp"),
    **_action(PICK_ACTION, "steadyhand_msgs/action/Pick"),
}

_IMAGE = Topic("sensor_msgs/msg/Image", "latest", 1)
_INFO = Topic("sensor_msgs/msg/CameraInfo", "latest", 1)
_BOXES = Topic("vision_msgs/msg/Detection2DArray", "newest", 64)
_OTHER = Topic("", "newest", 256)


def topic(name: str) -> Topic:
    """What is stated for a topic; cameras' topics go by their endings."""
    stated = TOPICS.get(name)
    if stated is not None:
        return stated
    if name.endswith("/image_raw"):
        return _IMAGE
    if name.endswith("/camera_info"):
        return _INFO
    if name.startswith(names.detection_topic("")):
        return _BOXES
    return _OTHER
