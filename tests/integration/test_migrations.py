from tallyho_postgres.migrations import migrate


async def test_migrating_twice_changes_nothing(database_url: str) -> None:
    again = await migrate(database_url, package="crawler", schema="crawler")

    assert again == []
