"""From a policy's action to joint commands and gripper force."""
