"""The policy as a process of the loop: observations in, actions out."""

from __future__ import annotations

import numpy as np

from robot.errors import SafetyError
from robot.interface import Policy
from robot.loop import messages
from robot.loop.mailbox import Packet
from robot.loop.publisher import ACTION, OBSERVATION, Send
from robot.loop.topics import POLICY_BEGIN


class PolicyNode:
    """Answers every observation with an action that carries its stamp.

    An observation that the policy refuses is answered without numbers; the label says why.

    Args:
        policy: acts.
        send: takes topic, message and stamp.
    """

    def __init__(self, policy: Policy, send: Send) -> None:
        self._policy, self._send = policy, send

    def feed(self, packet: Packet) -> None:
        """Take in any packet; answer an observation, forget what was before a grasp."""
        if packet.topic == OBSERVATION:
            self._send(ACTION, self.act(packet), packet.stamp_s)
        elif packet.topic == POLICY_BEGIN:
            self._policy.reset()

    def act(self, packet: Packet) -> object:
        """The answer to an observation, as a message."""
        observation = np.array(packet.message.data, dtype=np.float32)
        try:
            return messages.float_array(self._policy.act(observation), "action")
        except SafetyError as error:
            return messages.float_array(np.zeros(0, np.float32), str(error))
