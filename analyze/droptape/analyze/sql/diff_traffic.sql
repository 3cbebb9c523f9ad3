-- How much TCP traffic there was, all namespaces added, by the kernel's counters.
-- {lives}: the counters, each row with the life of its namespace (books_lives.sql).
-- Columns: name, amount.
WITH steps AS (
    SELECT name, value - lag(value) OVER (
        PARTITION BY recording, netns, life, name ORDER BY mono_ns, value
    ) AS step
    FROM ({lives})
    WHERE name IN ('Tcp.ActiveOpens', 'Tcp.PassiveOpens', 'Tcp.InSegs', 'Tcp.OutSegs')
)
SELECT name, sum(CASE WHEN step > 0 THEN step ELSE 0 END)::BIGINT AS amount
FROM steps
GROUP BY name
