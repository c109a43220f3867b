"""Message definitions that ``rosbags`` does not ship, field for field, and the few of our own.

After https://github.com/ros-perception/vision_msgs (branch ros2),
https://github.com/ros-controls/control_msgs (branch jazzy),
https://github.com/ANYbotics/grid_map (branch jazzy). A ROS 2 action is three services and two
topics; their types are derived from the action's three parts as ``rosidl`` derives them.
"""

from __future__ import annotations

_PLAIN = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": ("vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y"),
    "vision_msgs/msg/BoundingBox3D": ("geometry_msgs/Pose center\ngeometry_msgs/Vector3 size"),
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection2DArray": (
        "std_msgs/Header header\nvision_msgs/Detection2D[] detections"
    ),
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection3DArray": (
        "std_msgs/Header header\nvision_msgs/Detection3D[] detections"
    ),
    "control_msgs/msg/GripperCommand": "float64 position\nfloat64 max_effort",
    "control_msgs/msg/JointTolerance": (
        "string name\nfloat64 position\nfloat64 velocity\nfloat64 acceleration"
    ),
    "control_msgs/msg/JointComponentTolerance": (
        "string joint_name\nstring component\nfloat64 position\nfloat64 velocity\n"
        "float64 acceleration"
    ),
    "grid_map_msgs/msg/GridMapInfo": (
        "float64 resolution\nfloat64 length_x\nfloat64 length_y\ngeometry_msgs/Pose pose"
    ),
    "grid_map_msgs/msg/GridMap": (
        "std_msgs/Header header\ngrid_map_msgs/GridMapInfo info\nstring[] layers\n"
        "string[] basic_layers\nstd_msgs/Float32MultiArray[] data\nuint16 outer_start_index\n"
        "uint16 inner_start_index"
    ),
}

#: An action's goal, result and feedback.
_ACTIONS = {
    "control_msgs/action/FollowJointTrajectory": (
        "trajectory_msgs/JointTrajectory trajectory\n"
        "trajectory_msgs/MultiDOFJointTrajectory multi_dof_trajectory\n"
        "control_msgs/JointTolerance[] path_tolerance\n"
        "control_msgs/JointComponentTolerance[] component_path_tolerance\n"
        "control_msgs/JointTolerance[] goal_tolerance\n"
        "control_msgs/JointComponentTolerance[] component_goal_tolerance\n"
        "builtin_interfaces/Duration goal_time_tolerance",
        "int32 error_code\nstring error_string",
        "std_msgs/Header header\nstring[] joint_names\n"
        "trajectory_msgs/JointTrajectoryPoint desired\n"
        "trajectory_msgs/JointTrajectoryPoint actual\n"
        "trajectory_msgs/JointTrajectoryPoint error\n"
        "string[] multi_dof_joint_names\n"
        "trajectory_msgs/MultiDOFJointTrajectoryPoint multi_dof_desired\n"
        "trajectory_msgs/MultiDOFJointTrajectoryPoint multi_dof_actual\n"
        "trajectory_msgs/MultiDOFJointTrajectoryPoint multi_dof_error",
    ),
    "control_msgs/action/GripperCommand": (
        "control_msgs/GripperCommand command",
        "float64 position\nfloat64 effort\nbool stalled\nbool reached_goal",
        "float64 position\nfloat64 effort\nbool stalled\nbool reached_goal",
    ),
    # The policy's part: from the pre-grasp until the hold is confirmed. Aim and patch are empty
    # where no look showed what stands around the grasp.
    "steadyhand_msgs/action/Grasp": (
        "geometry_msgs/PoseStamped grasp\nfloat64 width\nfloat64 opening\nfloat64 score\n"
        "int32 object_id\nvision_msgs/Detection3D[] object\nfloat64[] aim\nfloat32[] patch",
        "string outcome\nstring late\ngeometry_msgs/PoseStamped grasp\n"
        "vision_msgs/Detection3D[] object\nstring error",
        "string state\nfloat64 elapsed",
    ),
    # One pick, from the look to the tray.
    "steadyhand_msgs/action/Pick": (
        "string target",
        "bool success\nstring category\nstring detail",
        "string state\nfloat64 since\nint32 attempt\nstring trouble\nstring recovery",
    ),
}

_SERVICES = {
    "steadyhand_msgs/srv/Look": ("builtin_interfaces/Time after", "bool success\nstring message"),
}

_UUID = "unique_identifier_msgs/UUID goal_id\n"


def _action(name: str, goal: str, result: str, feedback: str) -> dict[str, str]:
    return {
        f"{name}_Goal": goal,
        f"{name}_Result": result,
        f"{name}_Feedback": feedback,
        f"{name}_SendGoal_Request": f"{_UUID}{name}_Goal goal",
        f"{name}_SendGoal_Response": "bool accepted\nbuiltin_interfaces/Time stamp",
        f"{name}_GetResult_Request": _UUID.strip(),
        f"{name}_GetResult_Response": f"int8 status\n{name}_Result result",
        f"{name}_FeedbackMessage": f"{_UUID}{name}_Feedback feedback",
    }


def definitions() -> dict[str, str]:
    """Type name to ``msg`` text, each after those it is made of."""
    found = dict(_PLAIN)
    for name, parts in _ACTIONS.items():
        found.update(_action(name, *parts))
    for name, (request, response) in _SERVICES.items():
        found[f"{name}_Request"], found[f"{name}_Response"] = request, response
    return found
