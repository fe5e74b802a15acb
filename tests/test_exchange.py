"""Mail between learners."""

from cotrain.exchange import post, without


def test_in_one_process_everybody_gets_everything():
    messages = {"a": 1, "b": 2}
    mail = post(messages)
    assert mail == messages
    assert mail is not messages


def test_nobody_reads_its_own_mail():
    assert without({"a": 1, "b": 2, "c": 3}, "b") == {"a": 1, "c": 3}
