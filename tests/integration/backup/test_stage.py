"""A backup is restored beside the live database, which is only read; what is refused, and what a kill leaves."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

import include.backup.dump
import include.backup.verify
from include.backup import beside, discard, forget, stage
from include.backup.contents import contents, differences
from include.command import BadInput, Refused
from include.settings import settings
from tests.integration.backup.server import OWNER, PASSWORD, READER, RESTORER

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def restores(room, monkeypatch):
    """Steps that run in this process restore; call it before each step that backs up, and after."""

    def use(on=True):
        monkeypatch.setenv("PGSERVICEFILE", room.environ(restores=on)["PGSERVICEFILE"])

    use()
    return use


@pytest.fixture
def shop(room, restores):
    """A database with a verified backup. Its real name."""
    dbname = room.create()
    backed_up(restores)
    return dbname


def backed_up(restores, service="shop", verify=True):
    """The stem of a new backup, made in this process."""
    restores(False)
    stem = include.backup.dump.main(include.backup.dump.Args(database=service))["stem"]
    if verify:
        include.backup.verify.main(include.backup.verify.Args(database=service))
    restores()
    return stem


def staged(**more):
    """The plan."""
    return stage.main(stage.Args(**{"database": "shop", **more}))


def figures(server, dbname):
    with closing(server.connect(dbname)) as connection:
        connection.autocommit = False
        return contents(connection)


def ours(server, dbname):
    """The databases that have to do with this one."""
    return {name for name in server.databases() if name.startswith(dbname)}


def untouched(server, dbname, before):
    """The live database holds what it held, and an application can connect."""
    server.connect(dbname, OWNER).close()
    return differences(before, figures(server, dbname)) == []


def run_and_kill(step: Callable[[], object], at: int, counts: Callable[[str], bool]) -> str | None:
    """Run it in a child that is killed just before the `at`-th thing it would do. What that was; None: it ended well.

    A thing is a statement that `counts`, a commit, or the start of a program.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _kill_before(at, counts, write)
            step()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as told:
        what = told.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGKILL:
        return what
    assert code == 0, f"exit code {code}"
    return None


def _kill_before(at, counts, write):
    connect, popen, done = psycopg2.connect, subprocess.Popen, 0

    def before(what):
        nonlocal done
        done += 1
        if done == at:
            os.write(write, what.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    class Cursor(psycopg2.extensions.cursor):
        def execute(self, query, values=None):
            text = query if isinstance(query, str) else query.as_string(self)
            if counts(text):
                before(text)
            return super().execute(query, values)

    class Connection(psycopg2.extensions.connection):
        def cursor(self, *args, **kwargs):
            return super().cursor(*args, **{"cursor_factory": Cursor, **kwargs})

        def commit(self):
            before("commit")
            super().commit()

    class Popen(popen):
        def __init__(self, args, *more, **kwargs):
            before(str(args[0]))
            super().__init__(args, *more, **kwargs)

    psycopg2.connect = lambda *args, **kwargs: connect(*args, **{"connection_factory": Connection, **kwargs})
    subprocess.Popen = Popen


def until_unlocked(step):
    """Run it; the server may need a moment to see that a killed one is gone."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return step()
        except RuntimeError as error:
            if "under way" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_the_plan_says_what_would_change_and_the_live_database_is_only_read(shop, server):
    server.sql(shop, "DELETE FROM orders WHERE id <= 1000; CREATE TABLE new_one (a int)", user=OWNER)
    server.sql(shop, "INSERT INTO new_one VALUES (1), (2)", user=OWNER)
    before = figures(server, shop)
    plan = staged()
    assert untouched(server, shop, before)
    assert {change.table: (change.rows_now, change.rows_then) for change in plan.changes} == {
        "public.orders": (4000, 5000),
        "public.new_one": (2, None),
    }
    assert (plan.tables, plan.rows, plan.changed_tables) == (2, 7000, 2)
    assert plan.age_seconds >= 0
    assert "| public.orders | 4,000 | 5,000 |" in plan.summary
    assert "| public.new_one | 2 | no such table |" in plan.summary
    assert plan.kept_as in plan.summary
    assert ours(server, shop) == {shop, plan.staged}
    assert server.sql(plan.staged, "SELECT count(*) FROM orders", user=OWNER) == [(5000,)]
    assert server.sql(plan.staged, "SELECT DISTINCT tablename FROM pg_stats WHERE tablename = 'orders'"), "analyzed"
    assert len(json.dumps(plan.model_dump())) < 4000


def test_discard_leaves_nothing_and_may_be_run_again(shop, server):
    plan = staged()
    with closing(server.connect(plan.staged, OWNER)):  # somebody looks at it
        assert discard.main(discard.Args(database="shop"))["dropped"] == [plan.staged]
    assert ours(server, shop) == {shop}
    assert discard.main(discard.Args(database="shop"))["dropped"] == []


def test_a_retry_of_the_same_restore_begins_anew_and_another_restore_has_to_wait(shop, server):
    first = staged(restore_id="run 1")
    server.sql(first.staged, "CREATE TABLE left_over (a int)")
    assert staged(restore_id="run 1").staged == first.staged
    assert server.sql(first.staged, "SELECT to_regclass('left_over')") == [(None,)]
    with pytest.raises(BadInput, match=r"'run 1' has staged .*discard --database shop --restore-id 'run 1'"):
        staged(restore_id="run 2")
    assert discard.main(discard.Args(database="shop", restore_id="run 2"))["dropped"] == []
    assert discard.main(discard.Args(database="shop", restore_id="run 1"))["dropped"] == [first.staged]


def test_a_database_that_is_not_ours_is_never_dropped(shop, server, room):
    name = beside.staged_name(shop, room.backups()[-1].manifest.stem)
    server.create_database(name)
    room.made.append(name)
    server.sql(name, "CREATE TABLE precious (a int)")
    with pytest.raises(BadInput, match="no restore has made; rename it or drop it"):
        staged()
    server.sql("postgres", f'COMMENT ON DATABASE "{name}" IS \'{{"mlops-restore": 1}}\'')
    with pytest.raises(BadInput, match="rename it or drop it"):
        staged()
    assert discard.main(discard.Args(database="shop"))["dropped"] == []
    assert server.sql(name, "SELECT to_regclass('precious') IS NOT NULL") == [(True,)]


def test_two_restores_at_once(shop, server, restores):
    with beside.administration("shop") as connection, beside.locked(connection, shop):
        for step in (
            staged,
            lambda: discard.main(discard.Args(database="shop")),
            lambda: forget.main(forget.Args(database="shop")),
        ):
            with pytest.raises(
                RuntimeError, match=rf"another restore of '{shop}' is under way \(server process \d+ of"
            ):
                step()
    assert ours(server, shop) == {shop}
    staged()


def test_the_step_that_finds_another_one_ends_with_1(shop, room):
    with beside.administration("shop") as connection, beside.locked(connection, shop):
        done = room.step("stage", "--database", "shop", restores=True)
    assert done.code == 1
    assert "under way" in done.error


def test_what_is_missing_on_the_server_is_listed_before_anything_is_made(shop, server, room):
    stem = room.backups()[-1].manifest.stem
    for fields, said in {
        '{"roles": ["admin", "no one", "nobody\\"s"]}': 'CREATE ROLE "no one"; CREATE ROLE "nobody""s";',
        '{"extensions": {"postgis": "3.3", "plpgsql": "1.0", "timescaledb": "2"}}': "postgis, timescaledb, which",
        '{"server_version_num": 160001, "server_version": "16.1"}': "PostgreSQL 16.1, .* restore it to a server of 16",
    }.items():
        changed(room, stem, **json.loads(fields))
        with pytest.raises(BadInput, match=said):
            staged()
        assert ours(server, shop) == {shop}


def changed(room, stem, **fields):
    """Another manifest in its place, until the next change."""
    path = Path(room.uri) / "shop" / f"{stem}.json"
    original = path.with_name("original")
    if not original.exists():
        original.write_text(path.read_text())
    path.write_text(json.dumps(json.loads(original.read_text()) | fields))


@pytest.mark.parametrize(
    ("take", "give", "said"),
    [
        ('ALTER ROLE "{r}" NOCREATEDB', 'ALTER ROLE "{r}" CREATEDB', "ALTER ROLE restorer CREATEDB;"),
        ('REVOKE "{o}" FROM "{r}"', 'GRANT "{o}" TO "{r}"', 'GRANT "owner of it" TO restorer;'),
        (
            'REVOKE pg_signal_backend FROM "{r}"',
            'GRANT pg_signal_backend TO "{r}"',
            "GRANT pg_signal_backend TO restorer;",
        ),
    ],
)
def test_a_role_that_may_not_restore_is_told_what_it_lacks(shop, server, take, give, said):
    server.sql("postgres", take.format(r=RESTORER, o=OWNER))
    try:
        with pytest.raises(BadInput, match=said):
            staged()
    finally:
        server.sql("postgres", give.format(r=RESTORER, o=OWNER))
    assert ours(server, shop) == {shop}


@pytest.mark.parametrize(
    ("target", "said"),
    [("postgres", "the server has a database of that name"), ("x" * 64, "more than 63 bytes"), ("SHOP", "replace it")],
)
def test_targets_that_are_refused(shop, server, target, said):
    with pytest.raises(BadInput, match=said):
        staged(target=shop if target == "SHOP" else target)
    assert ours(server, shop) == {shop}


def test_only_a_verified_backup_is_restored_unless_somebody_says_so(room, restores, server):
    dbname = room.create()
    stem = backed_up(restores, verify=False)
    with pytest.raises(BadInput, match="no backup 'latest'"):
        staged()
    with pytest.raises(BadInput, match=r"is not verified; verify it .* or allow it: --allow-unverified true"):
        staged(backup=stem)
    assert ours(server, dbname) == {dbname}
    assert staged(backup="1", allow_unverified=True).stem == stem


@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_a_backup_that_was_damaged_since_is_refused(shop, server, room, damage):
    manifest = room.backups()[-1].manifest
    path = Path(room.uri) / "shop" / manifest.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if damage == "flipped" else data[:-1])
    if damage == "gone":
        path.unlink()
    with pytest.raises(Refused, match=r"choose another: python -m include.backup.list --database shop"):
        staged(backup=manifest.stem)
    assert ours(server, shop) == {shop}


def test_a_dump_that_is_not_what_was_backed_up_is_refused_and_dropped(shop, server, room):
    """A database that was restored, and then had another number of rows."""
    manifest = room.backups()[-1].manifest
    other = [content.model_copy(update={"digest": "1"}) for content in manifest.contents if content.kind == "table"]
    changed(room, manifest.stem, contents=[content.model_dump() for content in other])
    before = figures(server, shop)
    with pytest.raises(
        Refused, match=r"differs from what was backed up in .* public.orders: 5000 rows as expected, but"
    ):
        staged()
    assert untouched(server, shop, before)
    assert ours(server, shop) == {shop}


def test_airflow_does_not_replace_its_own_database(room, restores, server):
    tables = "CREATE TABLE dag_run (id int); CREATE TABLE task_instance (id int); CREATE TABLE job (id int)"
    dbname = room.create("records", sql=tables)
    backed_up(restores, "records")
    with pytest.raises(BadInput, match=r"docs/runbooks/restore-without-airflow\.md"):
        staged(database="records", by_airflow=True)
    assert ours(server, dbname) == {dbname}
    staged(database="records", by_airflow=True, target=f"{dbname}_new")
    staged(database="records")


def test_rights_and_settings_of_the_database_itself_are_kept(shop, server):
    """No dump of pg_dump's holds them."""
    for statement in (
        'REVOKE ALL ON DATABASE "{d}" FROM PUBLIC',
        'GRANT CONNECT ON DATABASE "{d}" TO "{reader}"',
        'GRANT CREATE ON DATABASE "{d}" TO "{reader}" WITH GRANT OPTION',
        'ALTER DATABASE "{d}" CONNECTION LIMIT 7',
        "ALTER DATABASE \"{d}\" SET search_path = 'a b', public",
        "ALTER DATABASE \"{d}\" SET my.setting = 'it''s'",
        "ALTER DATABASE \"{d}\" SET log_statement = 'all'",
    ):
        server.sql("postgres", statement.format(d=shop, reader=READER))
    plan = staged()
    about = (
        "SELECT datconnlimit, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a), "
        "(SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = oid) FROM pg_database WHERE datname = %s"
    )
    limit, rights, configured = server.sql("postgres", about, plan.staged)[0]
    limit_of_live, rights_of_live, configured_of_live = server.sql("postgres", about, shop)[0]
    assert (limit, rights) == (limit_of_live, rights_of_live)
    assert set(configured_of_live) - set(configured) == {"log_statement=all", "my.setting=it's"}, "a superuser's"
    assert any(setting.startswith("search_path=") for setting in configured)
    assert any("log_statement=all of the database is not copied" in note for note in plan.notes)
    assert "log_statement" in plan.summary


def test_what_a_dump_says_of_owners_and_rights_is_kept(room, restores, server):
    dbname = room.create()
    server.sql(dbname, f'GRANT SELECT ON customers TO "{READER}"; CREATE EXTENSION pg_trgm', user=OWNER)
    backed_up(restores)
    plan = staged()
    rights = (
        "SELECT relname, pg_get_userbyid(relowner), relacl::text FROM pg_class WHERE relname IN ('customers', 'orders')"
    )
    assert server.sql(plan.staged, rights) == server.sql(dbname, rights)


@pytest.mark.parametrize("name", ["a \"quoted\" 'name' of it", "ö" * 31])
def test_strange_and_long_names(room, restores, server, name):
    room.create("strange", name)
    backed_up(restores, "strange")
    plan = staged(database="strange")
    assert plan.staged in server.databases()
    assert len(plan.staged.encode()) <= 63
    assert len(plan.kept_as.encode()) <= 63
    assert discard.main(discard.Args(database="strange"))["dropped"] == [plan.staged]


def test_long_names_stay_different():
    stem = "000001-20260101T000000Z"
    names = {beside.staged_name("x" * 62 + end, stem) for end in "ab"} | {beside.kept_name("x" * 63, "before", 0)}
    assert len(names) == 3
    assert all(len(name) == 63 for name in names)


def test_tables_that_cannot_be_counted_are_no_reason_not_to_restore(shop, server):
    server.sql(shop, "CREATE TABLE secret (a int)")
    plan = staged()
    assert plan.changes == []
    assert any("permission denied for table secret" in note for note in plan.notes)
    assert "2 tables, 7,000 rows." in plan.summary


def test_a_password_and_where_it_may_be(shop, room):
    """The step as a process: what is in its arguments, its log, its answer and the mark in the database."""
    plan = room.step("stage", "--database", "shop", restores=True)
    assert plan.code == 0
    comments = room.server.sql("postgres", "SELECT shobj_description(oid, 'pg_database') FROM pg_database")
    assert PASSWORD not in json.dumps(comments, ensure_ascii=False)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (None, "cannot be read"),
        ("[other]\ndbname=x\n", r"has no dbname= in \[shop\]; add it"),
        ("# [shop]\n[shop]\nhost=h\n[x]\ndbname=y", r"has no dbname= in \[shop\]; add it"),
    ],
)
def test_a_service_that_is_not_described(tmp_path, monkeypatch, file, said):
    path = tmp_path / "services"
    if file is not None:
        path.write_text(file)
    monkeypatch.setenv("PGSERVICEFILE", str(path))
    with pytest.raises(BadInput, match=said):
        beside.dbname_of("shop")
    path.write_text(' # c\n[a]\ndbname=1\n [shop]\n dbname=it = "it\'s"\n[shop]\ndbname=2\n')
    assert beside.dbname_of("shop") == 'it = "it\'s"'


def changes_something(query: str) -> bool:
    return query.lstrip().startswith(("CREATE", "COMMENT", "ALTER", "REVOKE", "GRANT", "ANALYZE", "DROP", "LOCK"))


def test_a_kill_at_any_step_leaves_the_live_database_and_nothing_that_the_next_try_does_not_clear(shop, server):
    before = figures(server, shop)
    killed_at = []
    while (what := run_and_kill(lambda: until_unlocked(staged), len(killed_at) + 1, changes_something)) is not None:
        killed_at.append(what)
        assert untouched(server, shop, before)
        assert len(ours(server, shop)) <= 2
    assert len([what for what in killed_at if what.startswith("CREATE DATABASE")]) == 1
    assert any("pg_restore" in what for what in killed_at)
    assert any("ANALYZE" in what for what in killed_at)
    until_unlocked(lambda: discard.main(discard.Args(database="shop")))
    assert ours(server, shop) == {shop}


@pytest.mark.parametrize("at", ["CREATE DATABASE", "COMMENT", "pg_restore", "ANALYZE"])
def test_discard_clears_what_a_kill_left(shop, server, at):
    number, what = 0, ""
    while at not in what:
        number += 1
        what = run_and_kill(lambda: until_unlocked(staged), number, changes_something) or at
    until_unlocked(lambda: discard.main(discard.Args(database="shop")))
    assert ours(server, shop) == {shop}


def test_a_server_that_is_killed_in_the_middle(own_room, own_server, tmp_path, fake_program):
    dbname = own_room.create()
    own_room.dump()
    own_room.step("verify", "--database", "shop")
    before = own_server.sql(dbname, "SELECT count(*), sum(total) FROM orders")
    ready = tmp_path / "ready"
    path = fake_program("pg_restore", f"touch {ready}; sleep 60")
    step = own_room.start("stage", "--database", "shop", restores=True, PATH=path)
    while not ready.exists():
        assert step.poll() is None
        time.sleep(0.02)
    own_server.kill()
    for child in psutil.Process(step.pid).children(recursive=True):  # its pg_restore finds the server gone
        child.kill()
    _, log = step.communicate()
    assert step.returncode == 1, log
    own_server.start()
    assert own_server.sql(dbname, "SELECT count(*), sum(total) FROM orders") == before
    assert own_room.step("stage", "--database", "shop", restores=True).code == 0


def test_forget_drops_what_was_staged_and_left_for_too_long(shop, server, monkeypatch):
    plan = staged()
    assert forget.main(forget.Args(database="shop")) == {"database": "shop", "dropped": [], "kept": [plan.staged]}
    monkeypatch.setenv("MLOPS_RESTORE_KEEP_DAYS", "0")
    settings.cache_clear()
    assert forget.main(forget.Args(database="shop"))["dropped"] == [plan.staged]
    assert ours(server, shop) == {shop}
