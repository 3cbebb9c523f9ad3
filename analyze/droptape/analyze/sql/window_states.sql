-- The rows of a table that has one for each change, in a span of time. What was true at the start is
-- a row at the start: the last one before it of each key.
-- {rows}: all rows. {keys}: the columns that say whose state it is. {start}, {end}: ns since 1970.
-- Columns: those of {rows}.
SELECT * FROM {rows} WHERE ts_ns >= {start} AND ts_ns < {end}
UNION ALL
SELECT * REPLACE (CAST({start} AS BIGINT) AS ts_ns)
FROM (
    SELECT * FROM {rows} WHERE ts_ns < {start}
    QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY ts_ns DESC) = 1
)
