-- name: reserve_fetch
-- Reserve the next time at which a request may be sent to an origin with a delay, unless it is more than $2 away.
-- Returns the seconds to wait; no row when it is too far.
UPDATE origins SET next_fetch_at = greatest(next_fetch_at, now()) + delay
WHERE origin = $1 AND next_fetch_at <= now() + $2::interval
RETURNING greatest(0, extract(epoch FROM next_fetch_at - delay - now()))::float8 AS wait

-- name: reserve_job_fetch
-- Reserve the next time at which a job with a delay of its own may send a request to an origin, unless it is more than $4
-- away. Returns the seconds to wait; no row when it is too far.
INSERT INTO paces (job_id, origin, next_fetch_at) VALUES ($1, $2, now() + $3::interval)
ON CONFLICT (job_id, origin) DO UPDATE SET next_fetch_at = greatest(paces.next_fetch_at, now()) + $3::interval
WHERE paces.next_fetch_at <= now() + $4::interval
RETURNING greatest(0, extract(epoch FROM next_fetch_at - $3::interval - now()))::float8 AS wait

-- name: hold_origin
-- Send nothing more to an origin that is too busy, for $2 or, the more often it says so in a row, longer: the first time
-- counts if $3 is 1, and $4 seconds are the most. What it answers while it is left alone counts once. Returns for how
-- many seconds it is left alone.
WITH known AS (
    SELECT origin, busy_until > now() AS is_held, CASE
        WHEN busy_until > now() OR refusals + $3::int = 0 THEN 0
        ELSE least(2.0 ^ (refusals + $3::int - 1), $4::float8)
    END AS seconds
    FROM origins WHERE origin = $1 FOR UPDATE
), held AS (
    SELECT origin, is_held, now() + greatest($2::interval, seconds * interval '1 second') AS until FROM known
)
UPDATE origins SET
    refusals = least(CASE WHEN is_held THEN refusals ELSE refusals + 1 END, 20),
    busy_until = greatest(busy_until, until), next_fetch_at = greatest(next_fetch_at, until)
FROM held WHERE origins.origin = held.origin
RETURNING extract(epoch FROM busy_until - now())::float8

-- name: calm_origin
-- An origin that was too busy answers again.
UPDATE origins SET refusals = 0 WHERE origin = $1 AND refusals > 0 AND busy_until <= now()

-- name: rest_slot
-- Leave a slot unclaimed for $4 after a page that took long, if it is still leased under the same epoch.
UPDATE slots SET rests_until = now() + $4::interval WHERE origin = $1 AND slot = $2 AND epoch = $3

-- name: get_robots
-- What is known of an origin's robots.txt, while it is fresh.
SELECT robots_verdict, robots_body FROM origins
WHERE origin = $1 AND robots_expires_at > now() AND robots_verdict IS NOT NULL

-- name: set_robots
-- Remember an origin's robots.txt for $4, and the delay it asks for. An origin of a rendered page's parts may be new.
INSERT INTO origins (origin, robots_verdict, robots_body, robots_expires_at, delay)
VALUES ($1, $2, $3, now() + $4::interval, $5)
ON CONFLICT (origin) DO UPDATE SET
    robots_verdict = excluded.robots_verdict, robots_body = excluded.robots_body,
    robots_expires_at = excluded.robots_expires_at, delay = excluded.delay
