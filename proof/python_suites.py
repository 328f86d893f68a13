"""asyncpg's, psycopg2's, SQLAlchemy's and Django's own tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from proof.fetch import Library, call
from proof.house import House, Way
from proof.outcomes import Outcomes, from_junit

ASYNCPG, PSYCOPG2, SQLALCHEMY, DJANGO = "0.32.0", "2.9.13", "2.1.9", "5.2.19"


def _pytest(
    python: Path, tests: Sequence[str], cwd: Path, env: dict[str, str], folder: Path, *options: str
) -> Outcomes:
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options]
    done = call([*command, *tests], cwd=cwd, env=env, check=False)
    (folder / "output").write_text(done.stdout + done.stderr)
    return from_junit(report)


def asyncpg(library: Library, house: House, way: Way, folder: Path) -> Outcomes:
    source = library.sdist("asyncpg", ASYNCPG)
    pins = (f"asyncpg=={ASYNCPG}", "pytest", "pytest-timeout", "distro", "uvloop")
    python = library.environment("asyncpg", *pins)
    house.direct.fresh("asyncpg")
    tests = folder / "suite" / "tests"  # away from the source, so that the built package is what is tested
    if not tests.exists():
        tests.parent.mkdir(parents=True)
        tests.symlink_to(source / "tests")
    env = way.environment(PGDATABASE="asyncpg", PYTHONWARNINGS="ignore")
    return _pytest(python, ["tests"], tests.parent, env, folder, "--timeout=60")


def psycopg2(library: Library, house: House, way: Way, folder: Path) -> Outcomes:
    source = library.sdist("psycopg2", PSYCOPG2)
    python = library.environment("psycopg2", f"psycopg2-binary=={PSYCOPG2}", "pytest", "pytest-timeout")
    house.direct.fresh("psycopg2_test")
    with house.direct.connect("psycopg2_test") as connection:
        connection.execute("create extension hstore")
    suite = folder / "suite"
    if not suite.exists():
        suite.mkdir(parents=True)
        (suite / "tests").symlink_to(source / "tests")
    env = way.environment(PSYCOPG2_TEST_REPL_DSN="")
    return _pytest(python, ["tests"], suite, env, folder, "--timeout=60")


def _sqlalchemy(driver: str) -> object:
    def suite(library: Library, house: House, way: Way, folder: Path) -> Outcomes:
        source = library.sdist("sqlalchemy", SQLALCHEMY)
        pins = (f"sqlalchemy[asyncio]=={SQLALCHEMY}", "psycopg[binary]", f"asyncpg=={ASYNCPG}")
        python = library.environment("sqlalchemy", *pins, "pytest", "pytest-timeout", "pytest-xdist")
        house.direct.fresh("sqlalchemy")
        with house.direct.connect("sqlalchemy") as connection:
            connection.execute("create schema test_schema; create schema test_schema_2")
            connection.execute("create extension hstore; create extension citext")
            # What SQLAlchemy's own documentation says of the test database.
            connection.execute(
                "alter database sqlalchemy set default_text_search_config = 'pg_catalog.english'"
            )
        env = way.environment(PGDATABASE="sqlalchemy")
        if driver == "asyncpg":  # its dialect does not hand sslmode on from the URL
            env["PYTHONWARNINGS"] = "ignore"
        url = f"postgresql+{driver}://{env['PGUSER']}:{env['PGPASSWORD']}@127.0.0.1:{way.port}/sqlalchemy"
        parts = ["test/dialect/postgresql", "test/dialect/test_suite.py", "test/engine/test_transaction.py"]
        parts += ["test/engine/test_reflection.py"]
        options = ["--timeout=120", "--dburi", url, "-p", "no:warnings", "--maxfail=100000"]
        return _pytest(python, parts, source, env, folder, *options)

    return suite


sqlalchemy_psycopg = _sqlalchemy("psycopg")
sqlalchemy_asyncpg = _sqlalchemy("asyncpg")

_DJANGO_PARTS = ("postgres_tests", "backends", "introspection", "schema", "transactions", "inspectdb")


def django(library: Library, house: House, way: Way, folder: Path) -> Outcomes:
    """Django's tests of its PostgreSQL backend, on psycopg 3."""
    source = library.sdist("django", DJANGO)
    pins = (f"django=={DJANGO}", "psycopg[binary]", "unittest-xml-reporting", "jinja2", "pillow", "tblib")
    python = library.environment("django", *pins)
    house.direct.fresh("django", "django_other")
    settings, report = folder / "settings", folder / "report.xml"
    settings.mkdir(exist_ok=True)
    (settings / "proof_settings.py").write_text(_django_settings(way, report))
    env = way.environment(PYTHONPATH=os.fspath(settings))
    env.pop("PGDATABASE")
    command = [python, "runtests.py", "--settings=proof_settings", "--parallel=1", "--noinput", "-v0"]
    done = call([*command, *_DJANGO_PARTS], cwd=source / "tests", env=env, check=False)
    (folder / "output").write_text(done.stdout + done.stderr)
    return from_junit(report)


def _django_settings(way: Way, report: Path) -> str:
    return f"""
import xmlrunner.extra.djangotestrunner
ENGINE = dict(ENGINE="django.db.backends.postgresql", HOST="127.0.0.1", PORT={way.port}, USER="postgres")
DATABASES = {{"default": ENGINE | {{"NAME": "django"}}, "other": ENGINE | {{"NAME": "django_other"}}}}
SECRET_KEY = "tests"
USE_TZ = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TEST_RUNNER = "xmlrunner.extra.djangotestrunner.XMLTestRunner"
TEST_OUTPUT_DIR, TEST_OUTPUT_FILE_NAME = {os.fspath(report.parent)!r}, {report.name!r}
"""
