"""The swap: all of it or nothing, with applications at work; the migration once; and the one command that goes back."""

import json
import shlex
import sys
import threading
import time
from contextlib import closing

import psycopg2
import pytest

import include.backup.dump
from include.backup import beside, discard, forget, stage, swap, swap_back
from include.command import BadInput, Refused
from include.settings import settings
from tests.integration.backup.server import OWNER, PASSWORD, READER, RESTORER
from tests.integration.backup.test_stage import (
    changes_something,
    figures,
    ours,
    run_and_kill,
    until_unlocked,
    untouched,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def shop(room, server, monkeypatch):
    """A database with a backup, and fewer orders since then. Its real name. Steps that run in this process restore."""
    dbname = room.create()
    include.backup.dump.main(include.backup.dump.Args(database="shop"))
    server.sql(dbname, "DELETE FROM orders WHERE id > 10", user=OWNER)
    monkeypatch.setenv("PGSERVICEFILE", room.environ(restores=True)["PGSERVICEFILE"])
    return dbname


@pytest.fixture
def migration(monkeypatch, tmp_path):
    """Set the owner's migration to a script; it also counts how often it was begun."""
    begun = tmp_path / "begun"

    def use(script):
        command = ["/bin/bash", "-c", f"echo x >> {shlex.quote(str(begun))}; {script}", "the migration"]
        monkeypatch.setenv("MLOPS_RESTORE_MIGRATIONS", json.dumps({"shop": command}))
        settings.cache_clear()

    use.times = lambda: begun.read_text().count("x") if begun.exists() else 0
    return use


def staged(**more):
    return stage.main(stage.Args(**{"database": "shop", "backup": "newest", "allow_unverified": True, **more}))


def swapped(plan):
    return swap.main(swap.Args(plan=plan))


def gone_back():
    return swap_back.main(swap_back.Args(database="shop"))


def orders(server, dbname):
    """Rows, as an application sees them."""
    return server.sql(dbname, "SELECT count(*) FROM orders", user=OWNER)[0][0]


def connectable(server):
    return dict(server.sql("postgres", "SELECT datname, datallowconn FROM pg_database"))


def test_the_backup_is_live_and_the_old_database_is_kept_where_nobody_connects(shop, server):
    plan = staged()
    answer = swapped(plan)
    assert orders(server, shop) == 5000
    assert (answer["swapped"], answer["kept"], answer["tables"], answer["rows"]) == (True, plan.kept_as, 2, 7000)
    assert ours(server, shop) == {shop, plan.kept_as}
    assert connectable(server)[plan.kept_as] is False
    with pytest.raises(psycopg2.OperationalError, match="not currently accepting connections"):
        server.connect(plan.kept_as, OWNER)
    assert untouched(server, shop, figures(server, shop))


def test_swapped_again_it_changes_nothing_and_says_so(shop, server, migration):
    migration("true")
    plan = staged()
    first = swapped(plan)
    server.sql(shop, "DELETE FROM orders WHERE id = 1", user=OWNER)
    second = swapped(plan)
    assert (first["swapped"], second["swapped"]) == (True, False)
    assert first["migration"] == second["migration"] is not None
    assert migration.times() == 1
    assert orders(server, shop) == 4999
    assert ours(server, shop) == {shop, plan.kept_as}


def test_an_application_at_work_is_cut_off_once_and_finds_the_restored_database(shop, server):
    """It reconnects as fast as it can, and never sees half of a swap."""
    plan = staged()
    over, seen, errors = threading.Event(), [], []

    def work():
        while not over.is_set():
            try:
                with closing(server.connect(shop, OWNER)) as connection, connection.cursor() as cursor:
                    while not over.is_set():
                        cursor.execute("SELECT count(*) FROM orders")
                        seen.append(cursor.fetchone()[0])
            except psycopg2.Error as error:
                errors.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        while len(seen) < 100:
            time.sleep(0.01)
        swapped(plan)
        until = len(seen) + 100
        while len(seen) < until:
            time.sleep(0.01)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(seen) == {10, 5000}
    assert errors, "somebody was connected"


@pytest.mark.parametrize("user", [OWNER, READER])
def test_a_session_in_the_middle_of_a_long_query_is_ended(shop, server, user):
    """Also one of a role that the role for restores has nothing to do with."""
    plan = staged()
    error = []

    def sleep():
        try:
            server.sql(shop, "SELECT pg_sleep(300)", user=user)
        except psycopg2.Error as ended:
            error.append(ended)

    thread = threading.Thread(target=sleep)
    thread.start()
    while not server.sql("postgres", "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%'"):
        time.sleep(0.02)
    swapped(plan)
    thread.join(10)
    assert error
    assert orders(server, shop) == 5000


def test_whoever_cannot_be_disconnected_is_named_and_nothing_is_changed(shop, server):
    plan = staged()
    before = figures(server, shop)
    with (
        closing(server.connect(shop)),
        pytest.raises(RuntimeError, match=r"Still connected: admin \(server process \d+"),
    ):
        swapped(plan)  # a superuser's session; pg_signal_backend may not end it
    assert untouched(server, shop, before)
    assert ours(server, shop) == {shop, plan.staged}
    assert swapped(plan)["swapped"] is True


def test_a_prepared_transaction_is_named_and_nothing_is_changed(own_room, own_server):
    own_server.sql("postgres", "ALTER SYSTEM SET max_prepared_transactions = 5")
    own_server.stop()
    own_server.start()
    dbname = own_room.create()
    own_room.dump()
    plan = own_room.step("stage", "--database", "shop", "--backup", "1", "--allow-unverified", "true", restores=True)
    own_server.sql(dbname, "BEGIN; DELETE FROM orders; PREPARE TRANSACTION 'half'", user=OWNER)
    done = own_room.step("swap", "--plan", json.dumps(plan.answer), restores=True)
    assert done.code == 1
    assert "1 prepared transaction" in done.error
    assert "nothing was changed" in done.error
    own_server.sql(dbname, "ROLLBACK PREPARED 'half'", user=OWNER)
    assert orders(own_server, dbname) == 5000
    assert own_room.step("swap", "--plan", json.dumps(plan.answer), restores=True).code == 0


def test_a_kill_at_any_step_before_the_commit_leaves_the_live_database(shop, server, migration):
    migration("true")
    plan = staged()
    before = figures(server, shop)
    killed_at = []
    while orders(server, shop) == 10:
        what = run_and_kill(lambda: until_unlocked(lambda: swapped(plan)), len(killed_at) + 1, changes_something)
        killed_at.append(what)
        if orders(server, shop) == 10:
            assert untouched(server, shop, before)
            assert ours(server, shop) == {shop, plan.staged}
            assert connectable(server)[plan.staged]
    assert sum("RENAME" in what for what in killed_at) == 2
    assert killed_at[-2] == "commit", "the last moment at which nothing had changed"
    assert killed_at[-3].startswith("COMMENT")
    assert migration.times() == 0
    assert ours(server, shop) == {shop, plan.kept_as}, "the kill came after the commit"
    assert until_unlocked(lambda: swapped(plan))["swapped"] is False, "the next try goes on"
    assert migration.times() == 1
    assert until_unlocked(gone_back)["done"] is True
    assert untouched(server, shop, before)


@pytest.mark.parametrize(("at", "before_what", "times"), [(3, "/bin/bash", 0), (4, "COMMENT", 1)])
def test_a_kill_after_the_commit_never_runs_the_migration_twice(shop, server, migration, at, before_what, times):
    migration("true")
    plan = staged()
    before = figures(server, shop)
    until_commit = 0
    while orders(server, shop) == 10:
        until_commit += 1
        run_and_kill(lambda: until_unlocked(lambda: swapped(plan)), until_commit, changes_something)
    what = run_and_kill(lambda: until_unlocked(lambda: swapped(plan)), at, changes_something)
    assert what.startswith(before_what)
    for _ in range(2):
        with pytest.raises(Refused, match=r"begun and did not end .* not run again; .*swap_back --database shop"):
            until_unlocked(lambda: swapped(plan))
    assert migration.times() == times
    assert until_unlocked(gone_back)["done"] is True
    assert untouched(server, shop, before)


def test_a_migration_runs_on_the_restored_database_and_its_words_are_in_the_log(shop, server, migration, room):
    script = "import os, psycopg2; psycopg2.connect('service=shop').cursor(); print('as', os.environ['PGSERVICEFILE'])"
    migration(f"{sys.executable} -c {shlex.quote(script)}")
    plan = room.step("stage", "--database", "shop", "--backup", "1", "--allow-unverified", "true", restores=True)
    more = {"MLOPS_RESTORE_MIGRATIONS": json.dumps(settings().restore_migrations)}
    done = room.step("swap", "--plan", json.dumps(plan.answer), restores=True, **more)
    assert done.code == 0
    assert "restore.pg_service.conf" in done.log
    assert migration.times() == 1


def test_a_migration_that_fails_names_the_command_that_goes_back_and_it_works(shop, server, migration, room):
    before = figures(server, shop)
    migration("echo column is missing; exit 4")
    plan = room.step("stage", "--database", "shop", "--backup", "1", "--allow-unverified", "true", restores=True)
    more = {"MLOPS_RESTORE_MIGRATIONS": json.dumps(settings().restore_migrations)}
    for said in ("ended with exit code 4 and said: column is missing", "has failed in an earlier try"):
        done = room.step("swap", "--plan", json.dumps(plan.answer), restores=True, **more)
        assert done.code == 3
        assert said in done.error
        command = done.error.rpartition("python -m include.backup.")[2]
        assert command == "swap_back --database shop"
    assert migration.times() == 1
    assert orders(server, shop) == 5000
    done = room.step(*shlex.split(command), restores=True)
    assert done.code == 0
    assert untouched(server, shop, before)
    assert ours(server, shop) == {shop, done.answer["kept"]}
    assert connectable(server)[done.answer["kept"]] is False


@pytest.mark.parametrize("script", ["exit 1", "kill -9 $$"])
def test_every_way_a_migration_can_fail_is_a_no(shop, migration, script):
    migration(script)
    with pytest.raises(Refused, match="swap_back"):
        swapped(staged())


def test_a_migration_that_cannot_be_started(shop, monkeypatch):
    monkeypatch.setenv("MLOPS_RESTORE_MIGRATIONS", json.dumps({"shop": ["/no/such/program"]}))
    settings.cache_clear()
    with pytest.raises(Refused, match=r"correct MLOPS_RESTORE_MIGRATIONS; .*swap_back"):
        swapped(staged())


def test_a_smoke_test_that_fails_names_the_command_that_goes_back(shop, server, migration):
    before = figures(server, shop)
    migration(f"PGPASSWORD={shlex.quote(PASSWORD)} psql -h 127.0.0.1 -p {server.port} -U admin -d {shop} "
              "-c 'TRUNCATE orders, customers'")  # fmt: skip
    plan = staged()
    with pytest.raises(
        Refused, match=r"no table has any row, and 7,000 rows were restored; .*swap_back --database shop"
    ):
        swapped(plan)
    gone_back()
    assert untouched(server, shop, before)


def test_tables_that_are_gone_fail_the_smoke_test(shop, server):
    plan = staged()
    server.sql(plan.staged, "DROP TABLE orders", user=OWNER)  # between the comparison and the approval
    with pytest.raises(Refused, match="smoke test: 1 tables, and 2 were restored"):
        swapped(plan)


def test_a_server_that_goes_away_after_the_commit_may_be_tried_again(shop, monkeypatch):
    plan = staged()
    counts = swap.counts
    monkeypatch.setattr(swap, "counts", lambda connection: connection.close() or counts(connection))
    with pytest.raises(RuntimeError, match=r"a retry goes on from there; .*swap_back --database shop"):
        swapped(plan)
    monkeypatch.setattr(swap, "counts", counts)
    assert swapped(plan)["swapped"] is False


def test_going_back_twice_is_going_back_once(shop, server):
    before = figures(server, shop)
    swapped(staged())
    first, second = gone_back(), gone_back()
    assert (first["done"], second["done"]) == (True, False)
    assert first["kept"] == second["kept"]
    assert untouched(server, shop, before)
    assert server.sql("postgres", "SELECT datallowconn FROM pg_database WHERE datname = %s", first["kept"]) == [
        (False,)
    ]


def test_going_back_goes_one_restore_back(shop, server):
    swapped(staged())
    server.sql(shop, "DELETE FROM orders WHERE id > 77", user=OWNER)
    time.sleep(1.1)  # the second kept database gets another name
    swapped(staged())
    assert orders(server, shop) == 5000
    gone_back()
    assert orders(server, shop) == 77
    assert gone_back()["done"] is False
    assert orders(server, shop) == 77


def test_there_is_nothing_to_go_back_to(shop, server, monkeypatch):
    with pytest.raises(BadInput, match="is not the result of a restore"):
        gone_back()
    swapped(staged())
    monkeypatch.setenv("MLOPS_RESTORE_KEEP_DAYS", "0")
    settings.cache_clear()
    forget.main(forget.Args(database="shop"))
    with pytest.raises(BadInput, match=r"which is gone; kept are: none\. Restore a backup instead"):
        gone_back()
    assert orders(server, shop) == 5000


def test_a_comment_of_people_survives_restores(shop, server):
    server.sql("postgres", f"COMMENT ON DATABASE \"{shop}\" IS 'the shop''s own'")
    swapped(staged())
    gone_back()
    time.sleep(1.1)
    plan = staged()
    swapped(plan)
    with beside.administration("shop") as connection:
        found = beside.databases(connection)
    assert found[shop].own_comment == found[plan.kept_as].own_comment == "the shop's own"


def test_a_database_that_is_lost_altogether_is_made_again(shop, server):
    server.drop_database(shop)
    plan = staged()
    assert plan.kept_as is None
    assert "does not exist, and is made" in plan.summary
    answer = swapped(plan)
    assert (answer["swapped"], answer["kept"]) == (True, None)
    assert orders(server, shop) == 5000
    assert swapped(plan)["swapped"] is False
    with pytest.raises(BadInput, match="cannot go back"):
        gone_back()


def test_a_new_name_leaves_the_live_database_alone(shop, server, migration, room):
    migration("true")
    before = figures(server, shop)
    target = f'{shop} "new" it\'s'
    room.made.append(target)
    plan = staged(target=target)
    answer = swapped(plan)
    assert (answer["live"], answer["kept"], answer["migration"]) == (target, None, None)
    assert migration.times() == 0, "it is the live database's"
    assert untouched(server, shop, before)
    assert orders(server, target) == 5000
    assert swapped(plan)["swapped"] is False


def test_what_was_discarded_is_not_swapped(shop, server):
    plan = staged()
    discard.main(discard.Args(database="shop"))
    with pytest.raises(BadInput, match=r"it was discarded.*stage it again: python -m include.backup.stage"):
        swapped(plan)
    assert orders(server, shop) == 10


def test_the_plan_of_an_earlier_restore_is_not_taken_for_done(shop, server):
    swapped(staged())
    time.sleep(1.1)
    plan = staged()
    discard.main(discard.Args(database="shop"))
    with pytest.raises(BadInput, match="stage it again"):
        swapped(plan)


def test_what_another_restore_has_staged_is_not_swapped(shop, server):
    plan = staged(restore_id="run 1")
    with pytest.raises(BadInput, match="of the restore 'run 2'"):
        swapped(plan.model_copy(update={"restore_id": "run 2"}))
    assert orders(server, shop) == 10


def test_a_live_database_that_came_or_went_meanwhile_is_staged_again(shop, server):
    plan = staged()
    server.drop_database(shop)
    with pytest.raises(BadInput, match="existed when this restore was staged"):
        swapped(plan)
    plan = staged()
    server.create_database(shop)
    with pytest.raises(BadInput, match="did not exist when this restore was staged"):
        swapped(plan)


def test_two_swaps_at_once(shop, server, migration):
    migration("sleep 2")
    plan = staged()
    first = threading.Thread(target=swapped, args=(plan,))
    first.start()
    while not migration.times():
        time.sleep(0.02)
    with pytest.raises(RuntimeError, match="another restore"):
        swapped(plan)
    with pytest.raises(RuntimeError, match="another restore"):
        gone_back()
    first.join()
    assert migration.times() == 1
    assert swapped(plan)["swapped"] is False


def test_only_old_kept_databases_are_forgotten_and_only_ours(shop, server, room, monkeypatch):
    plan = staged()
    swapped(plan)
    foreign = f"{shop}__before_20200101T000000Z"
    server.create_database(foreign)
    room.made.append(foreign)
    assert forget.main(forget.Args(database="shop"))["dropped"] == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * 86_400)
    assert forget.main(forget.Args(database="shop"))["dropped"] == [plan.kept_as]
    assert ours(server, shop) == {shop, foreign}


def test_the_role_for_restores_is_no_superuser(server):
    assert server.sql("postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = %s", RESTORER) == [(False,)]
