"""Every test of this folder runs the services as their own users."""

import asyncpg
import pytest
from tallyho.system import ROLES, System
from tallyho_backing_services.servers import GivenServer


async def test_each_service_is_a_role_of_its_own(system: System) -> None:
    if isinstance(system.backing.database, GivenServer):
        pytest.skip("the database of DATABASE_URL has one role only")
    connection = await asyncpg.connect(system.database_url)
    try:
        rows = await connection.fetch(
            "SELECT DISTINCT application_name, usename FROM pg_stat_activity WHERE application_name LIKE 'tallyho %'"
        )
    finally:
        await connection.close()

    assert {(row["application_name"], row["usename"]) for row in rows} == {
        (f"tallyho {service.replace('-', '_')}", role) for service, role in ROLES.items()
    }
