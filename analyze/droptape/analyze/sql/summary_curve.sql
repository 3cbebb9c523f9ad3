-- How the events of each kind spread over time.
-- summary_scan: the result of summary_scan.sql.
-- Columns: kind, bucket (0 is the first), events. A bucket without events has no row.
SELECT kind, bucket, sum(amount)::BIGINT AS events
FROM summary_scan
WHERE NOT benign
GROUP BY kind, bucket
ORDER BY kind, bucket
