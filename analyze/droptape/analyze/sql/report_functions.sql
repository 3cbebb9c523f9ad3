-- Where in the kernel it happened. The totals are exact, whether or not a row was recorded.
-- {limit}: rows at most.
-- Columns: kind, cause, function, offset (bytes from its start; null for several), module, events,
-- recorded, found.
WITH counted AS (
    SELECT kind, cause, function, module, count(DISTINCT "offset") AS places, any_value("offset") AS "offset",
        sum(events)::BIGINT AS events, sum(recorded)::BIGINT AS recorded
    FROM totals
    WHERE benign IS NOT TRUE AND location IS NOT NULL
    GROUP BY kind, cause, function, module
)
SELECT kind, cause, function, CASE WHEN places = 1 THEN "offset" END AS "offset", module, events,
    recorded, count(*) OVER () AS found
FROM counted
WHERE events > 0
ORDER BY events DESC, kind, cause, function
LIMIT {limit}
