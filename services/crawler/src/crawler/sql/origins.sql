-- name: lock_origin
-- Lock an origin with a delay. Returns the seconds until the next request may be sent to it.
SELECT extract(epoch FROM greatest(next_fetch_at, now()) - now())::float8 FROM origins WHERE origin = $1 FOR UPDATE

-- name: lock_pace
-- Lock the pace of a job with a delay of its own at an origin. Returns the seconds until its next request may be sent there.
INSERT INTO paces (job_id, origin, next_fetch_at) VALUES ($1, $2, now())
ON CONFLICT (job_id, origin) DO UPDATE SET next_fetch_at = paces.next_fetch_at
RETURNING extract(epoch FROM greatest(next_fetch_at, now()) - now())::float8

-- name: reserve_fetch
-- Reserve a request to a locked origin in $2: the next one may be sent its delay later.
UPDATE origins SET next_fetch_at = now() + $2::interval + delay WHERE origin = $1

-- name: reserve_job_fetch
-- Reserve a job's request to an origin in $3: its next one may be sent its delay later. Its pace there is locked. The lane
-- may have been claimed by another delay.
UPDATE paces SET next_fetch_at = now() + $3::interval + make_interval(secs => coalesce((options ->> 'delay')::float8, 0))
FROM jobs WHERE paces.job_id = $1 AND origin = $2 AND jobs.job_id = $1

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

-- name: is_held
-- Whether an origin that was too busy is left alone.
SELECT busy_until > now() FROM origins WHERE origin = $1

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
