-- Kernel code addresses with their functions.
-- {named}: a query with recording, location (hexadecimal), function, offset, module.
-- Columns: recording, location (hexadecimal), function, offset (bytes), module, events (exact
-- totals reported from there, benign ones included).
WITH counted AS (
    SELECT recording, location, sum(events)::BIGINT AS events
    FROM {totals}
    GROUP BY recording, location
)
SELECT n.recording, n.location, n.function, n."offset", n.module,
    coalesce(c.events, 0) AS events
FROM ({named}) AS n
LEFT JOIN counted AS c
    ON c.recording = n.recording AND c.location = n.location
ORDER BY events DESC, n.recording, n.location
