"""ROS 2 on the wire without ROS: the same messages over DDS (extra ``ros2``)."""
