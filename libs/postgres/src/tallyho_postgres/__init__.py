"""PostgreSQL over asyncpg: named SQL, a pool, migrations, and the transactional outbox."""
