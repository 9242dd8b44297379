"""The attack against a real broker: everything is accounted for, and everything that must stop it does."""

import signal
import time

import pytest

from bench.broker import broker as broker_of_its_own

SENDS = " sent, "  # of the progress line


def test_every_message_is_acked_and_predicted(broker, attack, scorer):
    scorer(broker)
    code, found = attack(broker, "--stages", "50x2,50-200x2,400x2").ended()
    assert code == 0, found
    assert found["stopped_by"] == "stages_done"
    assert [stage["name"] for stage in found["stages"]] == ["50/s", "50-200/s", "400/s"]
    totals = found["totals"]
    assert totals["due"] == totals["sent"] == totals["acked"] == totals["predicted"] == 1150
    assert totals["unaccounted"] == totals["duplicates"] == totals["dead_lettered"] == 0
    assert found["last_id"] - found["first_id"] == 1149
    assert all(stage["end_to_end_ms"]["p50"] > 0 and stage["ack_ms"]["p50"] > 0 for stage in found["stages"])
    assert sum(second["rate"] for second in found["timeline"]) == 1150


def test_dead_letters_and_duplicates_are_counted(broker, attack, scorer):
    scorer(broker, "--twice-every", "10", "--dead-every", "7")
    code, found = attack(broker, "--stages", "200x3").ended()
    assert code == 0, found
    ids = range(found["first_id"], found["last_id"] + 1)
    dead = [one for one in ids if one % 7 == 0]
    twice = [one for one in ids if one % 10 == 0 and one % 7]
    totals = found["totals"]
    assert (totals["dead_lettered"], totals["predicted"]) == (len(dead), 600 - len(dead))
    assert (totals["duplicates"], totals["unaccounted"]) == (len(twice), 0)


def test_what_the_scorer_drops_is_found(broker, attack, scorer):
    scorer(broker, "--drop-every", "50")
    code, found = attack(broker, "--stages", "200x3", "--settle-seconds", "15").ended()
    dropped = [one for one in range(found["first_id"], found["last_id"] + 1) if one % 50 == 0]
    assert (code, found["totals"]["unaccounted"]) == (3, len(dropped))
    assert "look at the scorer" in found["error"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_load_and_the_answer_is_written(broker, attack, number):
    one = attack(broker, "--stages", "200x300")
    one.said(SENDS)
    time.sleep(2)
    at = time.time()
    one.process.send_signal(number)
    code, found = one.ended(seconds=30)
    assert (code, found["stopped_by"]) == (1, "signal")
    assert time.time() - at < 10  # 5 s are promised; a machine full of tests is slower
    assert found["ended"] - at < 1.5
    assert 0 < found["totals"]["sent"] < 60_000
    assert found["totals"]["acked"] == found["totals"]["sent"]


@pytest.mark.parametrize(("flags", "reason", "sent"), [
    (("--max-messages", "123"), "max_messages", 123),
    (("--deadline-seconds", "6"), "deadline", None),
])  # fmt: skip
def test_limits(broker, attack, scorer, flags, reason, sent):
    scorer(broker)
    code, found = attack(broker, "--stages", "200x300", *flags).ended()
    assert (code, found["stopped_by"]) == (0, reason), found
    assert found["totals"]["sent"] == (sent or found["totals"]["sent"])
    assert found["totals"]["unaccounted"] == 0


def test_stop_file(broker, attack, scorer, tmp_path):
    scorer(broker)
    one = attack(broker, "--stages", "200x300", "--stop-file", str(tmp_path / "stop"))
    one.said(SENDS)
    time.sleep(1)
    (tmp_path / "stop").touch()
    code, found = one.ended()
    assert (code, found["stopped_by"]) == (0, "stop_file"), found


def test_a_surge_without_prometheus_stops(broker, attack, scorer):
    scorer(broker)
    flags = ("--raise-until", "up", "--surge-hold", "1", "--silent-seconds", "3")
    code, found = attack(broker, "--stages", "50x1", *flags).ended()
    assert (code, found["stopped_by"]) == (0, "prometheus_silent"), found
    assert [stage["kind"] for stage in found["stages"]][:2] == ["stage", "surge"]


def test_a_broker_that_is_not_listed_gets_no_message(broker, attack):
    code, found = attack(broker, "--stages", "50x1", MLOPS_ATTACK_BROKERS="").ended()
    assert code == 2
    assert "MLOPS_ATTACK_BROKERS" in found["error"]


def test_a_missing_topic_is_named(broker, attack):
    code, found = attack(broker, "--stages", "50x1", MLOPS_PREDICTIONS_TOPIC="elsewhere").ended()
    assert code == 2
    assert "topic elsewhere is not on" in found["error"]


def test_wrong_flags_are_explained(broker, attack):
    code, found = attack(broker, "--stages", "50y1").ended()
    assert code == 2
    assert "write for example 50x60,200x60" in found["error"]


def test_a_broker_killed_under_load_loses_nothing_that_it_acked(attack, scorer, tmp_path):
    with broker_of_its_own(tmp_path / "broker") as kafka:
        scorer(kafka.address)
        one = attack(kafka.address, "--stages", "500x40", "--settle-seconds", "120")
        one.said(SENDS)
        time.sleep(4)
        kafka.kill()
        time.sleep(1)
        kafka.start()
        code, found = one.ended(seconds=300)
    assert code == 0, found["error"]
    totals = found["totals"]
    assert totals["sent"] == totals["due"] == 20_000
    assert totals["acked"] + totals["failed"] + totals["unknown"] == 20_000
    assert totals["unaccounted"] == 0


def test_a_broker_that_stays_away_ends_the_attack(attack, tmp_path):
    with broker_of_its_own(tmp_path / "broker") as kafka:
        one = attack(kafka.address, "--stages", "300x300", "--delivery-seconds", "4", "--settle-seconds", "5")
        one.said(SENDS)
        time.sleep(2)
        kafka.kill()
        code, found = one.ended()
    assert (code, found["stopped_by"]) == (3, "error_budget"), found
    assert found["failures"].get("_MSG_TIMED_OUT", 0) >= 200
    assert found["totals"]["sent"] < 90_000
