"""What ``steadyhand topic`` shows of messages."""

from __future__ import annotations

from robot.loop import messages
from robot.loop.mailbox import Packet
from robot.loop.publisher import EVENTS
from robot.loop.typestore import encode
from steadyhand import topic


def test_brackets_in_a_message_are_shown_as_they_are(monkeypatch, capsys):
    message = messages.string("no such file [/tmp/a] [bold]")
    packet = Packet(EVENTS, message.__msgtype__, 0.0, encode(message))
    monkeypatch.setattr(topic, "look_in", lambda **_: iter([packet]))
    topic.echo(EVENTS, "loop", 0, "lo", None, 1.0)
    assert "data: no such file [/tmp/a] [bold]" in capsys.readouterr().out
