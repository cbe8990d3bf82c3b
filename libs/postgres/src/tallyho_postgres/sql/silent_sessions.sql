-- name: end_silent
-- End the sessions of this service that have waited in the middle of a statement for so long for their client.
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database()
    AND application_name = current_setting('application_name')
    AND state = 'active' AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - $1::interval
