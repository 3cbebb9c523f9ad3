-- By how much the exact totals are above the rows, because rows were sampled out or found no room.
-- Columns: kind, cause, benign, exact, recorded (sum of the rows' amounts), factor (1 or more).
WITH exact AS (
    SELECT kind, cause, coalesce(benign, false) AS benign, sum(events) AS events
    FROM totals
    GROUP BY kind, cause, coalesce(benign, false)
),
in_rows AS (
    SELECT kind, cause, coalesce(benign, false) AS benign, sum(amount) AS amount
    FROM raw.events
    GROUP BY kind, cause, coalesce(benign, false)
)
SELECT r.kind, r.cause, r.benign, x.events::BIGINT AS exact, r.amount::BIGINT AS recorded,
    CASE WHEN x.events > r.amount AND r.amount > 0 THEN x.events / r.amount::DOUBLE ELSE 1.0 END AS factor
FROM in_rows AS r
LEFT JOIN exact AS x
    ON x.kind = r.kind AND x.benign = r.benign AND x.cause IS NOT DISTINCT FROM r.cause
