"""Migrations: numbered SQL files of a service, applied once, in order, by one process at a time."""

import hashlib
from importlib import resources

import asyncpg
from pydantic import Field
from pydantic_settings import SettingsConfigDict
from tallyho_process.settings import ProcessSettings

from tallyho_postgres.roles import Role, let_in, role_of


class MigrationSettings(ProcessSettings):
    """Where the database is: for the service, and for whoever prepares it when that is somebody else."""

    model_config = SettingsConfigDict(extra="ignore")

    database_url: str = Field(validation_alias="DATABASE_URL")
    migration_database_url: str | None = Field(default=None, validation_alias="MIGRATION_DATABASE_URL")


async def prepare(settings: MigrationSettings, *, package: str, schema: str) -> list[str]:
    """Bring `schema` up to date, and let the service's role use it; returns the migrations applied.

    The role is that of DATABASE_URL; it is created with the password there if it does not exist. Without
    MIGRATION_DATABASE_URL it prepares its schema itself, and owns it.
    """
    if settings.migration_database_url is None:
        return await migrate(settings.database_url, package=package, schema=schema)
    role = role_of(settings.database_url)
    return await migrate(settings.migration_database_url, package=package, schema=schema, role=role)


async def migrate(url: str, *, package: str, schema: str, role: Role | None = None) -> list[str]:
    """Apply the files of `package`/migrations that `schema` has not seen; returns their names.

    A `role` may use the schema's tables from then on, and nothing else of it. Raises ValueError when a file that was
    applied has changed since.
    """
    connection = await asyncpg.connect(url, server_settings={"search_path": schema})
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"tallyho migrations {schema}")
            applied = await _apply(connection, package, schema)
            if role:
                await let_in(connection, role, schema)
            return applied
    finally:
        await connection.close()


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", package: str, schema: str) -> list[str]:
    # An identifier can't be a parameter; the schema's name is a constant of the service.
    await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations"
        " (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    seen = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migrations")}
    applied = []
    folder = resources.files(package) / "migrations"
    for file in sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name):
        text = file.read_text("utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if file.name not in seen:
            await connection.execute(text)
            await connection.execute("INSERT INTO migrations (name, sha256) VALUES ($1, $2)", file.name, digest)
            applied.append(file.name)
        elif seen[file.name] != digest:
            raise ValueError(f"{file.name} has changed since it was applied to schema {schema}")
    return applied
