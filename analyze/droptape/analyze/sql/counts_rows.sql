-- Counts in the footers of files against the rows, per recording: how many groups differ.
-- {columns}: what events are counted by. {counts}, {rows}: SQL of the counts and of the events, with
-- these columns, moment_ns, since_ns, until_ns (ns since 1970), amount and number (of rows).
-- {width}, {origin}: of the buckets of time that are compared, ns.
-- Columns: recording, different.
WITH counted AS (
    SELECT {columns}, floor((moment_ns - {origin}) / {width})::BIGINT AS bucket,
        sum(amount)::BIGINT AS amount, sum(number)::BIGINT AS number, min(since_ns) AS since_ns,
        max(until_ns) AS until_ns
    FROM {counts}
    GROUP BY ALL
),
in_rows AS (
    SELECT {columns}, floor((moment_ns - {origin}) / {width})::BIGINT AS bucket,
        sum(amount)::BIGINT AS amount, sum(number)::BIGINT AS number, min(since_ns) AS since_ns,
        max(until_ns) AS until_ns
    FROM {rows}
    GROUP BY ALL
)
SELECT recording, count(*) AS different
FROM (
    (SELECT * FROM counted EXCEPT ALL SELECT * FROM in_rows)
    UNION ALL
    (SELECT * FROM in_rows EXCEPT ALL SELECT * FROM counted)
)
GROUP BY recording
ORDER BY recording
