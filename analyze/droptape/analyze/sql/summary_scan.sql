-- All that the summary asks of the rows, but for the owners, in one pass.
-- {origin}: when the recording began, ns since 1970. {width}: of a bucket, ns.
-- Columns: kind, cause, function, benign, bucket (0 is the first), amount, since_ns, until_ns (first
-- and last row, ns since 1970).
SELECT kind, cause, function, coalesce(benign, false) AS benign,
    floor((epoch_ns(ts) - {origin}) / {width})::BIGINT AS bucket,
    sum(amount)::BIGINT AS amount, min(epoch_ns(ts)) AS since_ns, max(epoch_ns(ts)) AS until_ns
FROM raw.events
GROUP BY kind, cause, function, coalesce(benign, false), bucket
