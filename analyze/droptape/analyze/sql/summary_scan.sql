-- All that the summary asks of the rows, but for the owners, in one pass.
-- {rows}: raw.events, or counts of it. {moment}, {since}, {until}: times of a row, ns since 1970.
-- {origin}: when the recording began, ns since 1970. {width}: of a bucket, ns.
-- Columns: kind, cause, function, benign, bucket (0 is the first), amount, since_ns, until_ns (first
-- and last row, ns since 1970).
SELECT kind, cause, function, coalesce(benign, false) AS benign,
    floor(({moment} - {origin}) / {width})::BIGINT AS bucket,
    sum(amount)::BIGINT AS amount, min({since}) AS since_ns, max({until}) AS until_ns
FROM {rows}
GROUP BY kind, cause, function, coalesce(benign, false), bucket
